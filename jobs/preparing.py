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


def loads_to_prepare(cells: Iterable[Cell]) -> tuple[Load, ...]:
    """One load for each checkpoint: kernels, engines and cache modes share it. Random weights need none."""
    loads = [cell.load for cell in cells if _needs_files(cell.load)]
    return tuple(dict.fromkeys(replace(load, engine="eager", quantization=_checkpoint_of(load)) for load in loads))


def _needs_files(load: Load) -> bool:
    return load.model.has_true_weights and parse_quantization(load.quantization).precision.needs_checkpoint


def _checkpoint_of(load: Load) -> str:
    wanted = parse_quantization(load.quantization)
    kept = [f"{name}={value}" for name, value in wanted.options if name != "kernel"]
    return str(parse_quantization(f"{wanted.name}?{'&'.join(kept)}"))


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
