"""What is watched around trials, and that nothing of ours runs beside a timed one."""

import threading
import time

from jobs.fake_gpu import FakeGpu
from jobs.nvml import Found
from jobs.watch import GpuWatch, HostWatch, Watch


def test_no_thread_runs_beside_a_timed_trial_and_one_does_beside_untimed_work(monkeypatch) -> None:
    monkeypatch.setattr("jobs.telemetry.SETTLE_S", 0.0)
    seen: dict[str, int] = {}
    watch = GpuWatch(Found(FakeGpu(), None))
    quiet = threading.active_count()
    with watch.of_trial() as beside:
        seen["trial"] = threading.active_count()
    telemetry = watch.telemetry(lambda: seen.update(again=threading.active_count()))
    assert seen == {"trial": quiet, "again": quiet + 1}
    assert telemetry is not None
    assert telemetry.samples >= 1
    assert telemetry.sm_clock_median_hz is not None
    assert beside.probe_s >= telemetry.host_best_probe_s > 0


def test_the_host_tells_how_much_others_worked() -> None:
    watch = HostWatch()
    with watch.of_trial():
        sum(range(100_000))
    short = watch.telemetry(lambda: None)
    assert short is not None
    assert short.other_utilization is None
    assert "the kernel counts in" in short.reasons["other_utilization"]
    with watch.of_trial() as beside:
        time.sleep(0.6)
    telemetry = watch.telemetry(lambda: None)
    assert telemetry is not None
    assert telemetry.samples == 2
    assert beside.probe_s >= telemetry.host_best_probe_s > 0
    assert telemetry.other_utilization is not None
    assert 0.0 <= telemetry.other_utilization <= 1.0
    watch.start_again()
    assert watch.telemetry(lambda: None) is None


def test_the_fake_engine_is_not_watched() -> None:
    assert Watch().telemetry(lambda: 1 / 0) is None
