"""Clocks: seconds in, seconds out."""

import time

import pytest
import torch

from jobs.stopwatch import CudaStopwatch, HostStopwatch, stopwatch_for


def test_the_host_clock_measures_a_sleep() -> None:
    watch = HostStopwatch()
    start, begins = watch.now(), watch.mark()
    time.sleep(0.02)
    ends, end = watch.mark(), watch.now()
    watch.synchronize()
    assert 0.02 <= watch.seconds_between(begins, ends) <= end - start < 2.0


def test_the_difference_is_exact() -> None:
    assert HostStopwatch().seconds_between(1.5, 4.0) == 2.5


def test_names_tell_the_clock() -> None:
    assert stopwatch_for("cpu").name == "perf_counter"
    assert stopwatch_for("cuda").name == "cuda_event"


class _Event:
    """Stands for a CUDA event: 1.5 ms pass from one to the next."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.recorded = False

    def record(self) -> None:
        self.recorded = True

    def elapsed_time(self, end: "_Event") -> float:
        assert self.recorded
        assert end.recorded
        return 1.5


def test_events_are_recorded_and_their_milliseconds_become_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    watch = CudaStopwatch()
    start, end = watch.mark(), watch.mark()
    assert waits == []
    watch.synchronize()
    assert waits == [1]
    assert watch.seconds_between(start, end) == 0.0015


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_event_pair_times_the_work_and_not_the_launch() -> None:
    watch = CudaStopwatch()
    x = torch.randn(8192, 8192, device="cuda")
    (x @ x).sum()
    watch.synchronize()
    host_start, start = watch.now(), watch.mark()
    for _ in range(10):
        x @ x
    end, host_enqueued = watch.mark(), watch.now()
    watch.synchronize()
    host_end = watch.now()
    device_s = watch.seconds_between(start, end)
    assert device_s > host_enqueued - host_start
    assert device_s == pytest.approx(host_end - host_start, rel=0.2)
