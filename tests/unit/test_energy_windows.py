"""Joules on a fake GPU whose power is known in every phase: the counter and the polled power must both find it."""

from dataclasses import replace
from typing import Any

import pytest

from farm.cells import SpeedTask
from farm.records import Energy, Trial
from jobs.energy import IDLE_S, SETTLE_S, measure_energy
from jobs.engines.fake import DECODE_S, PREFILL_S_PER_TOKEN, FakeEngine, FakeGeneration, FakeStopwatch, Script
from jobs.fake_gpu import FakeGpu, FakeTicks
from jobs.nvml import Found, open_gpu
from tests.unit.sweeps import cells

IDLE_W, PREFILL_W, DECODE_W = 100.0, 600.0, 350.0


class TickingWatch(FakeStopwatch):
    """Polls before and after every stretch of time, in which the power is constant: the integral is exact."""

    ticks: list[FakeTicks[Any]]

    def __init__(self) -> None:
        super().__init__()
        self.ticks = []

    def advance(self, seconds: float) -> None:
        for ticks in self.ticks:
            ticks.tick()
        super().advance(seconds)
        for ticks in self.ticks:
            ticks.tick()


class HotGeneration(FakeGeneration):
    """Draws a power of its own in each phase."""

    def prefill(self) -> None:
        self.engine.gpu.set_power(PREFILL_W)  # type: ignore[attr-defined]
        FakeGeneration.prefill(self)
        self.engine.gpu.set_power(IDLE_W)  # type: ignore[attr-defined]

    def decode_step(self) -> None:
        self.engine.gpu.set_power(DECODE_W)  # type: ignore[attr-defined]
        FakeGeneration.decode_step(self)
        self.engine.gpu.set_power(IDLE_W)  # type: ignore[attr-defined]


class Bench:
    """A fake engine on a fake GPU, and one cell of 100 + 11 tokens: 10 ms of prefill, 10 steps of 10 ms."""

    def __init__(self, **gpu: Any) -> None:
        self.engine = FakeEngine(Script("steady"))
        self.engine.clock = self.engine.stopwatch = self.watch = TickingWatch()
        self.gpu = self.engine.gpu = FakeGpu(clock=self.watch.now, power=IDLE_W, **gpu)  # type: ignore[attr-defined]
        self.begun = 0

    def begin(self) -> FakeGeneration:
        self.begun += 1
        return HotGeneration(self.engine, [[1] * 100], "on")

    def ticker(self, read: Any, period_s: float) -> FakeTicks[Any]:
        self.watch.ticks.append(FakeTicks(read, period_s))
        return self.watch.ticks[-1]

    def measure(self, **changes: Any) -> Energy:
        task, found = replace(_task(), **changes), Found(self.gpu)
        return measure_energy(self.engine, self.begin, task, _trials(task), found, self.ticker, self.watch.advance)


def _task() -> SpeedTask:
    task = cells(contexts=[100], new_tokens=11)[0].task
    assert isinstance(task, SpeedTask)
    return task


def _trials(task: SpeedTask) -> list[Trial]:
    prefill_s, decode_s = 0.01, (task.new_tokens - 1) * DECODE_S
    return [Trial(0, (0,), prefill_s, prefill_s, decode_s, prefill_s + decode_s, task.new_tokens)]


def test_the_measured_joules_are_exact() -> None:
    energy = Bench().measure()
    assert energy.idle_power_w == IDLE_W
    prefill_s = 100 * PREFILL_S_PER_TOKEN
    assert energy.j_per_prompt_token == pytest.approx(PREFILL_W * prefill_s / 100, rel=1e-9)
    assert energy.j_per_generated_token == pytest.approx(DECODE_W * DECODE_S, rel=1e-9)
    assert energy.j_per_prompt_token_above_idle == pytest.approx((PREFILL_W - IDLE_W) * prefill_s / 100, rel=1e-9)
    assert energy.j_per_generated_token_above_idle == pytest.approx((DECODE_W - IDLE_W) * DECODE_S, rel=1e-9)
    assert energy.prefill_window_s == pytest.approx(1.0)
    assert energy.decode_window_s == pytest.approx(10 * (prefill_s + 10 * DECODE_S))


def test_polled_power_agrees_with_the_counter() -> None:
    energy = Bench().measure()
    assert energy.polled_j_per_prompt_token == pytest.approx(energy.j_per_prompt_token, rel=1e-9)
    assert energy.polled_j_per_generated_token == pytest.approx(energy.j_per_generated_token, rel=1e-9)


def test_the_integral_reaches_from_edge_to_edge_of_the_window() -> None:
    """A ticker that never ticks leaves the two edges, where the fake's power is idle."""
    bench = Bench()
    bench.ticker = FakeTicks  # type: ignore[assignment,method-assign]
    assert bench.measure().polled_j_per_prompt_token == pytest.approx(IDLE_W * 1.0 / 100 / 100)


def test_the_cost_is_bounded() -> None:
    bench = Bench()
    bench.measure()
    lead_ins = 2 * 10 * 100 * PREFILL_S_PER_TOKEN
    assert bench.watch.now() == pytest.approx(SETTLE_S + IDLE_S + lead_ins + 1.0 + 10 * 0.11)
    assert bench.begun == 10 + 100 + 10 + 10


def test_the_device_is_waited_for_before_the_counter_is_read() -> None:
    bench, log = Bench(), []
    bench.watch.synchronize = lambda: log.append("wait")  # type: ignore[method-assign]

    class Logged(FakeGpu):
        def energy_j(self) -> float | None:
            log.append("read")
            return FakeGpu.energy_j(self)

    bench.gpu = bench.engine.gpu = Logged(clock=bench.watch.now)  # type: ignore[attr-defined]
    bench.measure()
    reads = [place for place, entry in enumerate(log) if entry == "read"]
    assert len(reads) == 4
    assert all(log[place - 1] == "wait" for place in reads)


def test_one_generation_at_a_time() -> None:
    """Two key/value caches at once may not fit where one does."""
    bench, alive, most = Bench(), [0], [0]

    class Counted(HotGeneration):
        def __init__(self, *arguments: Any) -> None:
            FakeGeneration.__init__(self, *arguments)
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self) -> None:
            alive[0] -= 1

    bench.begin = lambda: Counted(bench.engine, [[1] * 100], "on")  # type: ignore[method-assign]
    bench.measure()
    assert most == [1]


def test_one_new_token_has_no_decode_energy() -> None:
    energy = Bench().measure(new_tokens=1)
    assert energy.j_per_prompt_token is not None
    assert energy.j_per_generated_token is energy.decode_window_s is None
    assert "no decode step" in energy.reasons["j_per_generated_token"]


def test_a_cut_decode_window_says_so() -> None:
    """1,000 steps of 10 ms are 10 s: the window takes the first 600."""
    energy = Bench().measure(new_tokens=1001)
    assert energy.reasons["decode_window_s"] == "bounded: the first 600 of 1000 decode steps only"
    assert energy.j_per_generated_token == pytest.approx(DECODE_W * DECODE_S, rel=1e-9)


def test_a_gpu_without_counter_or_power() -> None:
    polled = Bench(has_counter=False).measure()
    assert polled.j_per_prompt_token is None and polled.polled_j_per_prompt_token is not None

    class Silent(FakeGpu):
        def power_w(self) -> float | None:
            return None

    bench = Bench()
    bench.gpu = bench.engine.gpu = Silent(clock=bench.watch.now, has_counter=False)  # type: ignore[attr-defined]
    nothing = bench.measure()
    assert nothing.polled_j_per_prompt_token is nothing.idle_power_w is None


def test_no_gpu_is_a_reason_and_no_work() -> None:
    bench, task = Bench(), _task()
    energy = measure_energy(bench.engine, bench.begin, task, _trials(task), open_gpu("cpu"))
    assert energy == Energy(reasons={"energy": "no NVML on the CPU"})
    assert bench.begun == 0
