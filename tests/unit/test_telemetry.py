"""The GPU beside the trials, played by a fake: every figure by hand, and no exception whatever is missing."""

import threading
import time
from typing import Any

import pynvml
import pytest

from farm.device_facts import Telemetry
from farm.telemetry import CLOCK_EVENTS, Edge, Sample, others_listed, slowdowns, telemetry_of
from jobs.fake_gpu import FakeGpu, FakeTicks
from jobs.nvml import Found, open_gpu
from jobs.telemetry import SETTLE_S, WATCH_S, Sampler, idle_utilization
from jobs.ticker import Ticker

ME = 77


class Bench:
    """A sampler on a fake GPU whose thread is turned by hand."""

    def __init__(self, gpu: FakeGpu, own_bytes: int = 0) -> None:
        self.own_bytes = own_bytes
        self.ticks: FakeTicks[Sample]
        self.sampler = Sampler(Found(gpu), lambda: self.own_bytes, self._ticker, ME)

    def _ticker(self, read: Any, period_s: float) -> FakeTicks[Sample]:
        self.ticks = FakeTicks(read, period_s)
        return self.ticks


# --- reducing


def test_idle_and_application_clocks_are_no_slowdowns() -> None:
    assert slowdowns(0x1 | 0x2) == frozenset()
    assert slowdowns(0x4 | 0x40 | 0x1) == {"sw_power_cap", "hw_thermal_slowdown"}


def test_the_names_are_those_of_the_drivers_bits() -> None:
    ours = {bit: name.replace("_", "") for bit, name in CLOCK_EVENTS.items() if bit <= 0x100}
    prefix = "nvmlClocksThrottleReason"
    theirs = {getattr(pynvml, name): name for name in dir(pynvml) if name.startswith(prefix)}
    for bit, name in ours.items():
        assert theirs[bit].removeprefix(prefix).lower().startswith(name), (hex(bit), name, theirs[bit])


def test_slowdowns_are_fractions_of_the_samples_that_tell() -> None:
    masks = [0x4, 0x4 | 0x20, 0, 0, None]
    telemetry = telemetry_of([Sample(clock_events=mask) for mask in masks], [], [])
    assert telemetry.samples == 5
    assert telemetry.slowdown_reasons == {"sw_power_cap": 0.5, "sw_thermal_slowdown": 0.25}
    assert "slowdown_reasons" not in telemetry.reasons


def test_median_minimum_and_maximum() -> None:
    samples = [Sample(1.9e9, 300.0, 0), Sample(1.2e9, 500.0, 0), Sample(1.8e9, 700.0, 0)]
    edges = [Edge(41.0, 0, 100), Edge(63.0, 2, 500), Edge(60.0, 1, 300)]
    told = telemetry_of(samples, edges, [0.0, 0.97])
    assert (told.sm_clock_median_hz, told.sm_clock_min_hz, told.power_median_w) == (1.8e9, 1.2e9, 500.0)
    assert (told.temperature_max_c, told.other_processes, told.other_utilization) == (63.0, 2, 0.97)
    assert told.other_memory_growth_bytes == 400
    assert told.reasons == {}


def test_a_zero_is_a_measured_zero_and_nothing_is_none_with_a_reason() -> None:
    zero = telemetry_of([Sample(1.0, 1.0, 0)], [Edge(0.0, 0, 5), Edge(0.0, 0, 5)], [0.0])
    assert (zero.other_processes, zero.other_utilization, zero.other_memory_growth_bytes) == (0, 0.0, 0)
    nothing = telemetry_of([Sample()], [Edge()], [])
    assert nothing.other_processes is None
    for name in ("sm_clock_median_hz", "power_median_w", "other_processes", "other_utilization", "slowdown_reasons"):
        assert nothing.reasons[name], name


@pytest.mark.parametrize(
    ("pids", "others"),
    [((ME,), 0), ((ME, 5), 1), ((5, ME, 5, 9), 2), ((), None), ((5, 9), None), ((0,), None), (None, None)],
)
def test_a_list_that_hides_this_process_proves_nothing(pids: tuple[int, ...] | None, others: int | None) -> None:
    assert others_listed(pids, ME) == others


# --- sampling


def test_samples_add_up_over_the_trials_of_a_cell() -> None:
    gpu = FakeGpu(pids=(ME,))
    bench = Bench(gpu)
    for clock, ticks in ((1.0e9, 3), (3.0e9, 4)):
        gpu.sm_clock = clock
        with bench.sampler:
            for _ in range(ticks):
                bench.ticks.tick()
    told = bench.sampler.telemetry()
    assert (told.samples, told.sm_clock_min_hz, told.sm_clock_median_hz) == (7, 1.0e9, 3.0e9)


def test_a_trial_shorter_than_the_period_has_one_sample() -> None:
    bench = Bench(FakeGpu(sm_clock=1.5e9))
    bench.sampler.start()
    assert bench.sampler.stop().samples == 1
    told = bench.sampler.telemetry()
    assert (told.sm_clock_median_hz, told.sm_clock_top_hz, told.power_limit_share) == (1.5e9, 1.98e9, 1.0)


def test_nothing_is_sampled_between_the_trials() -> None:
    bench = Bench(FakeGpu())
    with bench.sampler:
        bench.ticks.tick()
    bench.ticks.tick()
    assert bench.sampler.telemetry().samples == 1


def test_a_neighbour_in_the_process_list_is_seen_though_it_leaves() -> None:
    gpu = FakeGpu(pids=(ME,))
    bench = Bench(gpu)
    bench.sampler.start()
    gpu.pids = (ME, 4242)
    assert bench.sampler.stop().other_processes == 1
    gpu.pids = (ME,)
    with bench.sampler:
        pass
    assert bench.sampler.telemetry().other_processes == 1


def test_only_memory_that_is_not_ours_counts() -> None:
    gpu = FakeGpu(memory_used=10_000)
    bench = Bench(gpu, own_bytes=9_000)
    bench.sampler.start()
    gpu.memory_used, bench.own_bytes = 15_000, 14_000  # ours grew
    assert bench.sampler.stop().other_memory_growth_bytes == 0
    gpu.memory_used = 18_000  # somebody else's did
    with bench.sampler:
        pass
    assert bench.sampler.telemetry().other_memory_growth_bytes == 3_000


def test_a_neighbour_that_leaves_is_no_growth() -> None:
    assert telemetry_of([], [Edge(foreign_bytes=500), Edge(foreign_bytes=100)], []).other_memory_growth_bytes == 0


def test_a_blind_process_list_still_leaves_two_kinds_of_evidence() -> None:
    gpu = FakeGpu(pids=(), busy=0.98)
    bench = Bench(gpu)
    with bench.sampler:
        gpu.memory_used = 1_000 + 600
    assert bench.sampler.watch_idle(sleep=lambda _: None) == 0.98
    told = bench.sampler.telemetry()
    assert told.other_processes is None and "process list" in told.reasons["other_processes"]
    assert (told.other_utilization, told.other_memory_growth_bytes) == (0.98, 600)


def test_our_own_work_has_left_the_utilization_before_it_is_read() -> None:
    gpu, slept = FakeGpu(busy=1.0), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if sum(slept) >= 1.0:  # the longest sample period of NVML
            gpu.busy = 0.0

    assert idle_utilization(gpu, sleep=sleep) == 0.0
    assert sum(slept) == pytest.approx(SETTLE_S + WATCH_S)


def test_utilization_that_is_not_told_is_none() -> None:
    assert idle_utilization(FakeGpu(busy=None), sleep=lambda _: None) is None


def test_without_a_gpu_there_is_a_reason_and_no_thread() -> None:
    sampler, threads = Sampler(open_gpu("cpu")), threading.active_count()
    with sampler:
        assert threading.active_count() == threads
    assert sampler.watch_idle() is None
    assert sampler.stop() == Telemetry(samples=0, reasons={"telemetry": "no NVML on the CPU"})


def test_a_gpu_that_tells_nothing_raises_nothing() -> None:
    gpu = FakeGpu(sm_clock=None, power=None, events=None, temperature=None, busy=None, memory_used=None, pids=None)
    bench = Bench(gpu)
    with bench.sampler:
        bench.ticks.tick()
    told = bench.sampler.telemetry()
    assert (told.samples, told.sm_clock_median_hz, told.temperature_max_c, told.power_median_w) == (1, None, None, None)


# --- the thread


def test_the_thread_reads_beside_the_main_thread_and_ends() -> None:
    readers: list[str] = []
    ticker = Ticker(lambda: readers.append(threading.current_thread().name), period_s=0.05)
    ticker.start()
    assert readers == [], "the first reading must not fall into the start of the trial"
    deadline = time.monotonic() + 10
    while len(readers) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    assert len(ticker.stop()) == len(readers) >= 3
    assert set(readers) == {"ticker"}
    assert "ticker" not in {thread.name for thread in threading.enumerate()}


def test_a_ticker_starts_afresh() -> None:
    ticker = Ticker(time.monotonic, period_s=0.001)
    assert ticker.stop() == []
    for _ in range(2):
        ticker.start()
        began = time.monotonic()
        time.sleep(0.02)
        assert all(reading >= began - 0.02 for reading in ticker.stop())


def test_a_sample_costs_the_interpreter_microseconds() -> None:
    bench, began = Bench(FakeGpu()), time.thread_time()
    bench.ticks.start()
    for _ in range(1000):
        bench.ticks.tick()
    assert time.thread_time() - began < 0.1  # 100 us each would be 0.2 % of a 50 ms period
