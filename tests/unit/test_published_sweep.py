"""The published sweep asks for what the mission asks for, and fits the time that is lent."""

from pathlib import Path

from farm.cells import Cell, QualityTask
from farm.cost import wall_seconds
from farm.expand import expand
from farm.keys import cell_key
from farm.plan import make_plan
from farm.sweep import load_sweep

CELLS = expand(load_sweep(Path("jobs/sweeps/published-h100.yaml")), "cuda")
LENGTHS = {128, 256, 512, 1024, 2048}
EIGHT_B = [cell for cell in CELLS if cell.load.model.source == "random"]


def lengths(engine: str, quantization: str, cache_mode: str = "on", batch_size: int = 1) -> set[int]:
    def is_one(cell: Cell) -> bool:
        task = cell.task
        found = (cell.load.engine, cell.load.quantization, task.cache_mode, task.batch_size)
        return found == (engine, quantization, cache_mode, batch_size)

    return {cell.task.context_tokens for cell in EIGHT_B if is_one(cell)}


def test_the_missions_precisions_and_lengths_are_all_there() -> None:
    for quantization in ("fp16", "bf16", "int8", "nf4"):
        assert lengths("eager", quantization) == LENGTHS
    for quantization in ("fp16", "bf16", "int8wo", "int4wo"):
        assert lengths("turbo", quantization) == LENGTHS
    for quantization in ("fp16", "nf4"):
        assert lengths("eager", quantization, "off") == LENGTHS
    for quantization in ("fp16", "int8", "int8wo", "nf4", "gptq?kernel=triton"):
        assert 1024 in lengths("eager", quantization, batch_size=16)
    for quantization in ("int8wo", "int4wo", "gptq?kernel=triton", "awq?kernel=triton"):
        assert lengths("eager", quantization) == {128, 2048}


def test_every_speed_cell_has_the_missions_warmups_and_runs() -> None:
    speed = [cell.task for cell in CELLS if cell.task.kind == "speed"]
    assert {(task.warmups, task.runs) for task in speed} == {(5, 10)}


def test_true_weights_are_judged_in_every_kind_of_precision() -> None:
    judged = [cell for cell in CELLS if isinstance(cell.task, QualityTask)]
    names = {(cell.load.engine, cell.load.quantization.partition("?")[0]) for cell in judged}
    assert {name for engine, name in names if engine == "eager"} >= {
        "fp16",
        "bf16",
        "int8",
        "int8wo",
        "nf4",
        "gptq",
        "awq",
    }
    assert {name for engine, name in names if engine == "turbo"} >= {"int8wo", "int4wo"}
    assert all(cell.load.model.has_true_weights for cell in judged)


def test_a_record_of_the_turbo_sweep_is_one_of_the_published_where_both_ask_for_it() -> None:
    turbo = expand(load_sweep(Path("jobs/sweeps/turbo-h100.yaml")), "cuda")
    assert len(turbo) == 49
    both = {cell_key(cell) for cell in turbo} & {cell_key(cell) for cell in CELLS}
    more = [cell for cell in turbo if cell_key(cell) not in both]
    assert len(both) == 32
    assert {(cell.load.engine, cell.load.quantization, cell.task.cache_mode) for cell in more} == {
        ("compiled", "fp16", "on"),  # at batch 16
        ("turbo", "gptq", "on"),
        ("turbo", "awq", "on"),
        ("turbo", "fp16", "fp8"),
    }


def test_two_gpus_need_about_eighteen_minutes() -> None:
    seconds = [group.seconds for group in make_plan(CELLS, []).todo]
    assert 900 < wall_seconds(seconds, 2) < 1200
