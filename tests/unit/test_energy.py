"""Joules on a fake GPU whose power is known in every phase: the counter and the polled power must both find it."""

from dataclasses import replace
from typing import Any

import pytest

from farm.cells import SpeedTask
from farm.energy import EnergyPlan, Window, energy_of, plan_windows, trapezoid
from farm.records import Energy, Trial
from jobs.energy import IDLE_S, SETTLE_S, measure_energy
from jobs.engines.fake import DECODE_S, PREFILL_S_PER_TOKEN, FakeEngine, FakeGeneration, FakeStopwatch, Script
from jobs.fake_gpu import FakeGpu, FakeTicks
from jobs.nvml import Found, open_gpu
from tests.unit.sweeps import cells

IDLE_W, PREFILL_W, DECODE_W = 100.0, 600.0, 350.0
SHAPE = {"batch": 1, "prompt_tokens": 100, "new_tokens": 11}

# --- arithmetic


def test_the_trapezoid_rule() -> None:
    assert trapezoid([(0.0, 100.0), (1.0, 300.0), (3.0, 300.0)]) == 200.0 + 600.0
    assert trapezoid([(5.0, 100.0)]) is None


def test_joules_per_token_by_hand() -> None:
    """4 prefills take 800 J: 200 J each. 2 generations take 700 J, 400 of them prefill: 300 J for 20 steps."""
    prefill = Window(seconds=1.0, prefills=4, steps=0, counter_j=800.0, polled_j=880.0)
    decode = Window(seconds=2.0, prefills=2, steps=20, counter_j=700.0, polled_j=760.0)
    energy = energy_of(prefill, decode, 100.0, **SHAPE)
    assert energy.j_per_prompt_token == 2.0
    assert energy.j_per_generated_token == 15.0
    assert energy.j_per_prompt_token_above_idle == (800 - 100) / 4 / 100
    assert energy.j_per_generated_token_above_idle == (700 - 200 - 2 * 175) / 20
    assert energy.polled_j_per_prompt_token == 2.2
    assert energy.polled_j_per_generated_token == (760 - 440) / 20
    assert (energy.prefill_window_s, energy.decode_window_s, energy.reasons) == (1.0, 2.0, {})


def test_a_batch_shares_the_joules() -> None:
    windows = Window(1.0, 4, 0, 800.0, None), Window(2.0, 2, 20, 700.0, None)
    energy = energy_of(*windows, 100.0, batch=4, prompt_tokens=100, new_tokens=11)
    assert (energy.j_per_prompt_token, energy.j_per_generated_token) == (0.5, 3.75)
    assert energy.polled_j_per_prompt_token is None


def test_without_a_counter_polled_power_remains() -> None:
    energy = energy_of(Window(1.0, 4, 0, None, 880.0), Window(2.0, 2, 20, None, 760.0), 100.0, **SHAPE)
    assert energy.j_per_prompt_token is energy.j_per_generated_token is energy.j_per_prompt_token_above_idle is None
    assert (energy.polled_j_per_prompt_token, energy.polled_j_per_generated_token) == (2.2, 16.0)
    assert "no energy counter" in energy.reasons["j_per_prompt_token"]


def test_a_negative_share_is_no_figure() -> None:
    energy = energy_of(Window(1.0, 4, 0, 800.0, None), Window(0.1, 1, 1, 150.0, None), 100.0, **SHAPE)
    assert energy.j_per_generated_token is None
    assert "as much energy" in energy.reasons["j_per_generated_token"]


def test_no_idle_power_no_figure_above_it() -> None:
    energy = energy_of(Window(1.0, 4, 0, 800.0, 880.0), None, None, **SHAPE)
    assert energy.j_per_prompt_token == 2.0
    assert energy.j_per_prompt_token_above_idle is energy.idle_power_w is None


# --- the plan


@pytest.mark.parametrize(
    ("prefill_s", "step_s", "new_tokens", "plan"),
    [
        (0.25, 0.01, 101, EnergyPlan(lead_in=1, prefills=4, generations=1, steps=100)),  # one generation is enough
        (0.02, 0.01, 26, EnergyPlan(lead_in=5, prefills=50, generations=4, steps=25)),  # four of 0.25 s
        (2.0, 0.1, 11, EnergyPlan(lead_in=1, prefills=1, generations=1, steps=10)),
        (1.0, 0.25, 128, EnergyPlan(lead_in=1, prefills=1, generations=1, steps=24)),  # bounded: 6 s of 32
        (2.5, 0.001, 11, EnergyPlan(lead_in=1, prefills=1, generations=2, steps=10)),  # bounded: 100 would take 250 s
        (0.25, 0.0, 1, EnergyPlan(lead_in=1, prefills=4, generations=0, steps=0)),
    ],
)
def test_windows_of_a_second_within_bounds(prefill_s: float, step_s: float, new_tokens: int, plan: EnergyPlan) -> None:
    assert plan_windows(prefill_s, step_s, new_tokens) == plan


def test_a_prefill_beyond_the_bound_is_not_measured() -> None:
    assert plan_windows(7.0, 0.1, 10) is None


# --- measuring


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
