"""Measuring with the fake engine and its clock: every figure is known exactly."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from farm.cells import SpeedTask
from farm.errors import Unsupported
from farm.formulas import decode_tok_s, tpot_s
from farm.verdict import judge
from jobs.engines.fake import DECODE_S, KV_BYTES_PER_TOKEN, PREFILL_S_PER_TOKEN, FakeEngine, FakeGeneration, Script
from jobs.host import Beside, Host
from jobs.measure import SpeedRun
from jobs.prompts import ByteTokenizer, make_prompts
from jobs.timing import time_each_token, time_generation
from jobs.watch import Watch
from tests.unit.sweeps import cells


@pytest.fixture(autouse=True)
def _the_suites_objects_out_of_garbage_collection() -> Iterator[None]:
    """As a worker does it: otherwise each trial walks everything that the whole suite has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


def _task(cache_mode: str = "on", **changes: object) -> SpeedTask:
    found = cells(contexts=[100], new_tokens=5, cache_modes=[cache_mode])[0].task
    return replace(found, **changes)


def _run(
    task: SpeedTask,
    engine: FakeEngine | None = None,
    watch: Watch | None = None,
    more_runs_s: float | None = None,
) -> SpeedRun:
    kinds, languages = task.prompts.kinds, task.prompts.languages
    prompts = make_prompts(
        ByteTokenizer(), tokens=task.context_tokens, count=4, kinds=kinds, languages=languages, seed=1
    )
    run = SpeedRun(engine or FakeEngine(Script("steady")), task, prompts, watch, more_runs_s)
    while not run.is_complete:
        run.repeat()
    return run


def test_the_times_of_a_trial_are_exact() -> None:
    trial = _run(_task()).result().trials[0]
    prefill_s = 100 * PREFILL_S_PER_TOKEN
    assert trial.prefill_s == pytest.approx(prefill_s, abs=1e-12)
    assert trial.ttft_s == pytest.approx(prefill_s, abs=1e-12)
    assert trial.decode_s == trial.decode_device_s == pytest.approx(4 * DECODE_S, abs=1e-12)
    assert trial.e2e_s == pytest.approx(prefill_s + 4 * DECODE_S, abs=1e-12)
    assert tpot_s(trial) == pytest.approx(DECODE_S, abs=1e-12)
    assert decode_tok_s(trial, 3) == pytest.approx(3 / DECODE_S)


def test_the_gaps_are_per_token_and_grow_without_a_cache() -> None:
    on, off = _run(_task("on")).result().itl_s, _run(_task("off")).result().itl_s
    assert on == pytest.approx([DECODE_S] * 4, abs=1e-12)
    assert off == pytest.approx([DECODE_S + PREFILL_S_PER_TOKEN * n for n in (101, 102, 103, 104)], abs=1e-12)


def test_nothing_of_one_run_leaks_into_the_next() -> None:
    """A per-run buffer that is not cleared makes later gaps count earlier tokens: optimum-benchmark was off by 12 %."""
    engine = FakeEngine(Script("steady"))
    for _ in range(3):
        generation = engine.begin([[1] * 100], "on", 5)
        generation.prefill()
        generation.first_token()
        assert [gap.whole_s for gap in time_each_token(engine, generation, 5)] == pytest.approx(
            [DECODE_S] * 4, abs=1e-12
        )
    trials = _run(_task(runs=6), engine).result().trials
    assert {round(t.e2e_s, 9) for t in trials} == {round(trials[0].e2e_s, 9)}


def test_warm_ups_are_discarded_and_have_the_exact_shape() -> None:
    seen: list[tuple[int, int, str]] = []

    class Watched(FakeEngine):
        def begin(self, token_ids, cache_mode, new_tokens):
            seen.append((len(token_ids), len(token_ids[0]), cache_mode))
            return super().begin(token_ids, cache_mode, new_tokens)

    result = _run(_task("off", warmups=5, runs=10, batch_size=2), Watched(Script("steady"))).result()
    assert len(result.trials) == 10
    assert [t.index for t in result.trials] == list(range(10))
    assert seen == [(2, 100, "off")] * (5 + 10 + 1)


def test_the_device_is_waited_for_at_the_phase_edges_only() -> None:
    class Counting(FakeEngine):
        waits = 0

        def __init__(self) -> None:
            super().__init__(Script("steady"))
            self.clock.synchronize = self._wait  # type: ignore[method-assign]

        def _wait(self) -> None:
            self.waits += 1

    engine = Counting()
    time_generation(engine, engine.begin([[1] * 10], "on", 64), 64)
    assert engine.waits == 3


def test_memory_by_part() -> None:
    on, off = _run(_task("on", batch_size=2)).result().memory, _run(_task("off")).result().memory
    assert on.kv_bytes == 2 * (100 + 5) * KV_BYTES_PER_TOKEN
    assert on.peak_allocated_bytes == on.weights_bytes + on.kv_bytes + on.activation_peak_bytes
    assert off.kv_bytes is None
    assert off.reasons["kv_bytes"].startswith("no cache")


def test_prompts_rotate_over_the_trials() -> None:
    trials = _run(_task(runs=4, batch_size=2)).result().trials
    assert [t.prompt_indexes for t in trials] == [(0, 1), (2, 3), (0, 1), (2, 3)]


def test_a_short_output_is_told_and_not_a_fast_engine() -> None:
    class Lazy(FakeEngine):
        def begin(self, token_ids, cache_mode, new_tokens):
            return Short(self, token_ids, cache_mode)

    class Short(FakeGeneration):
        def tokens(self):
            return [row[:-1] for row in FakeGeneration.tokens(self)]

    run = _run(_task(), Lazy(Script("steady")))
    assert {t.output_tokens for t in run.result().trials} == {4}
    assert judge(run.result(), run.task).word == "short_output"


class Jittery(FakeEngine):
    """Of `turns` generations all but one decode slower by `spread`, for the first `bad_trials` of them."""

    def __init__(self, spread: float, bad_trials: int = 10**9, turns: int = 2) -> None:
        super().__init__(Script("steady"))
        self.spread, self.bad_trials, self.turns, self.count = spread, bad_trials, turns, 0

    def begin(self, token_ids, cache_mode, new_tokens):
        self.count += 1
        is_bad = self.count % self.turns and self.count <= self.bad_trials
        factor = 1 + self.spread if is_bad else 1.0
        return Slower(self, token_ids, cache_mode, factor)


class Slower(FakeGeneration):
    def __init__(self, engine, token_ids, cache_mode, factor):
        super().__init__(engine, token_ids, cache_mode)
        self.factor = factor

    def decode_step(self):
        before = self.engine.clock.time_s
        super().decode_step()
        self.engine.clock.advance((self.engine.clock.time_s - before) * (self.factor - 1))


def test_a_steady_cell_takes_the_runs_asked_for() -> None:
    assert len(_run(_task(runs=10, max_runs=30)).result().trials) == 10


def test_a_wide_interval_asks_for_more_runs_up_to_the_bound() -> None:
    result = _run(_task(runs=10, max_runs=24, max_reruns=0), Jittery(0.5)).result()
    assert len(result.trials) == 24
    narrow = _run(_task(runs=10, max_runs=24, max_reruns=0, ci_target=0.6), Jittery(0.5)).result()
    assert len(narrow.trials) == 10


def test_more_runs_end_when_their_time_is_spent() -> None:
    task = _task(runs=10, max_runs=24, max_reruns=0)
    a_little = Jittery(0.15)  # wider than the interval asked for, and valid
    assert len(_run(task, a_little).result().trials) == 24
    assert len(_run(task, a_little, more_runs_s=0).result().trials) == 10
    e2e_s = _run(task).result().trials[0].e2e_s
    assert 10 < len(_run(task, a_little, more_runs_s=3 * e2e_s).result().trials) < 14
    assert len(_run(task, Jittery(0.5), more_runs_s=0).result().trials) == 24  # a noisy row may go on


def test_a_planted_noisy_cell_is_measured_again_and_then_flagged() -> None:
    run = _run(_task(warmups=2, runs=10, max_runs=10, max_reruns=1), Jittery(0.5))
    result = run.result()
    assert [len(trials) for trials in result.earlier_trials] == [10]
    assert len(result.trials) == 10
    assert judge(result, run.task).word == "noisy"


def test_noise_that_passes_leaves_a_valid_row_and_its_history() -> None:
    run = _run(_task(warmups=0, runs=10, max_runs=10, max_reruns=1), Jittery(0.5, bad_trials=11))
    result = run.result()
    assert len(result.earlier_trials) == 1
    assert judge(result, run.task).is_valid
    assert len({round(t.e2e_s, 9) for t in result.trials}) == 1


class UnsteadyHost(Watch):
    """The host is slow beside those trials of `Jittery` that take longer."""

    def __init__(self, turns: int = 2) -> None:
        self.count, self.turns, self.host = 0, turns, Host(lambda: 1e-3)

    @contextmanager
    def of_trial(self) -> Iterator[Beside]:
        self.count += 1
        yield Beside(1.9e-3 if self.count % self.turns else 1e-3)


def test_trials_of_a_slowed_host_are_set_aside_and_as_many_others_follow() -> None:
    task = _task(warmups=0, runs=10, max_runs=60, max_reruns=0)
    run = _run(task, Jittery(0.5), UnsteadyHost())
    result = run.result()
    assert [t.index for t in result.trials] == list(range(1, 20, 2))
    assert [t.index for t in result.set_aside] == list(range(0, 20, 2))
    assert {round(tpot_s(t), 9) for t in result.trials} == {DECODE_S}
    assert judge(result, task).is_valid


def test_a_cell_whose_host_was_mostly_slow_goes_on_until_enough_trials_are_not() -> None:
    """Its interval is narrow enough for a valid row, around a neighbour's figure."""
    task = _task(warmups=0, runs=10, max_runs=60, max_reruns=0, ci_target=0.2)
    for more_runs_s in (None, 0):
        result = _run(task, Jittery(0.15, turns=3), UnsteadyHost(turns=3), more_runs_s).result()
        assert [t.index for t in result.trials] == list(range(2, 30, 3))
        assert {round(tpot_s(t), 9) for t in result.trials} == {DECODE_S}


def test_more_positions_than_the_model_has_are_a_finding() -> None:
    engine = FakeEngine(Script("steady"))
    engine.max_positions = 104
    with pytest.raises(Unsupported, match="100 prompt tokens \\+ 5 new ones exceed the model's 104 positions"):
        _run(_task(), engine)


def test_cache_on_and_off_are_shown_to_say_the_same() -> None:
    on, off = _run(_task("on")).result(), _run(_task("off")).result()
    assert on.output_sha256 == off.output_sha256
    assert on.prompts_sha256 == off.prompts_sha256
