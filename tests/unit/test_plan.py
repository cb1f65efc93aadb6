"""What is kept, what is done again, what cannot fit."""

from dataclasses import replace

import pytest

from farm.architectures import KNOWN
from farm.plan import SUSPECT, make_plan, predicted_bytes
from farm.records import Status
from tests.unit.records import record, trial
from tests.unit.sweeps import cells

KEPT = {Status.OK, Status.OOM, Status.UNSUPPORTED}


@pytest.mark.parametrize("status", list(Status))
def test_resume_keeps_ok_and_the_findings_and_runs_the_rest_again(status: Status) -> None:
    (cell, other) = cells()
    plan = make_plan([cell, other], [record(cell, status)])
    assert (len(plan.kept) == 1) == (status in KEPT)
    assert plan.todo_cells == (1 if status in KEPT else 2)


def test_retry_forces_a_kept_status() -> None:
    (cell, _) = cells()
    assert make_plan([cell], [record(cell, Status.OOM)], frozenset({Status.OOM})).todo_cells == 1


def test_retry_of_what_is_suspect_leaves_what_is_valid_and_what_would_only_come_back() -> None:
    (cell, _) = cells()
    valid = record(cell)
    noisy = replace(valid, speed=replace(valid.speed, trials=tuple(trial(i, decode_s=0.2 + i % 2) for i in range(10))))
    short = replace(valid, speed=replace(valid.speed, trials=(trial(tokens=1),)))
    todo = [make_plan([cell], [each], frozenset({SUSPECT})).todo_cells for each in (valid, noisy, short)]
    assert todo == [0, 1, 0]
    assert make_plan([cell], [noisy]).todo_cells == 0


def test_the_newest_attempt_counts() -> None:
    (cell, _) = cells()
    records = [record(cell, Status.OK, 2), record(cell, Status.CRASH, 1)]
    assert make_plan([cell], records).todo == ()
    assert make_plan([cell], [record(cell, Status.OK, 1), record(cell, Status.CRASH, 2)]).todo_cells == 1


def test_groups_share_a_load_and_the_longest_starts_first() -> None:
    plan = make_plan(cells(quantizations=["fp16", "int8"], exclude=[{"quantization": "fp16", "cache_mode": "off"}]), [])
    assert [(g.load.quantization, len(g.cells)) for g in plan.todo] == [("int8", 2), ("fp16", 1)]


def test_a_run_that_may_be_stopped_starts_where_a_load_serves_the_most_cells() -> None:
    wide = {"models": ["random:llama-3-8b"], "engines": ["eager"], "contexts": [128, 256, 512]}
    single = wide | {"quantizations": ["nf4"], "contexts": [128], "cache_modes": ["on"]}
    plan = make_plan([*cells("cuda", **wide), *cells("cuda", **single)], [], most_cells_first=True)
    assert [(group.load.quantization, len(group.cells)) for group in plan.todo] == [("fp16", 6), ("nf4", 1)]
    assert plan.todo[0].seconds > plan.todo[1].seconds  # though it is the longer one


def test_the_parameter_counts_are_those_of_the_published_models() -> None:
    assert KNOWN["llama-3-8b"].parameters == 8_030_261_248
    assert KNOWN["mistral-7b"].parameters == 7_248_023_552
    assert KNOWN["smollm2-135m"].parameters == 134_515_008


def test_kv_bytes_by_hand() -> None:
    assert KNOWN["llama-3-8b"].kv_bytes_per_token(2) == 2 * 32 * 8 * 128 * 2 == 131_072


def test_predicted_memory_is_weights_and_cache() -> None:
    on, off = cells(models=["random:llama-3-8b"], engines=["eager"], contexts=[1020])
    assert predicted_bytes(off) == 2 * 8_030_261_248
    assert predicted_bytes(on) == predicted_bytes(off) + 1023 * 131_072  # 1020 + 4, and the last one is never fed


def test_only_what_cannot_fit_at_all_is_refused() -> None:
    found = cells(models=["random:llama-3-8b"], engines=["eager"], contexts=[1020])
    needs = 2 * 8_030_261_248
    assert make_plan(found, [], device_memory_bytes=needs - 1).misfits == found
    assert [c.task.cache_mode for c in make_plan(found, [], device_memory_bytes=needs).misfits] == ["on"]
    assert make_plan(found, [], device_memory_bytes=2 * needs).misfits == ()


def test_an_unknown_architecture_is_never_refused() -> None:
    assert make_plan(cells(), [], device_memory_bytes=1).misfits == ()
