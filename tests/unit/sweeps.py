"""Small sweeps and cells for tests."""

from farm.cells import Cell
from farm.expand import expand
from farm.sweep import Sweep, parse_sweep


def sweep(**changes: object) -> Sweep:
    """A fake sweep of two cells (cache on, cache off), changed as told."""
    data: dict[str, object] = {
        "name": "test",
        "models": ["fake:steady"],
        "quantizations": ["fp16"],
        "engines": ["fake"],
        "contexts": [16],
        "new_tokens": 4,
        "warmups": 1,
        "runs": 3,
        "prompts": {"per_length": 4},
    }
    return Sweep.model_validate(data | changes)


def cells(device: str = "cpu", /, **changes: object) -> tuple[Cell, ...]:
    return expand(sweep(**changes), device)


def parse(text: str) -> Sweep:
    return parse_sweep(text, "sweep.yaml")
