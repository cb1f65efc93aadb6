"""Making on this machine what a load needs on its disk: the model's files, and a GPTQ or AWQ checkpoint of it.

Why apart from loading: it takes minutes, is needed once a node and not once a worker, and must not be timed.

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


def loads_to_prepare(cells: Iterable[Cell]) -> tuple[Load, ...]:
    """One load for each checkpoint: kernels, engines and cache modes share it. Random weights need none, and neither
    does a legacy backend that cannot run for want of its environment."""
    wanted = [(cell.load, parse_quantization(cell.load.quantization)) for cell in cells]
    loads = [
        replace(load, engine="eager", quantization=str(quantization.checkpoint))
        for load, quantization in wanted
        if load.model.has_true_weights and quantization.checkpoint and not lacks_environment(quantization.name)
    ]
    return tuple(dict.fromkeys(loads))


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
    from jobs.checkpoints import prepared
    from jobs.models.sources import locate
    from jobs.quantization import usable_backend

    wanted = parse_quantization(load.quantization)
    backend = usable_backend(wanted, load.device)
    prepared(backend, wanted, locate(load.model, None), load, None)
