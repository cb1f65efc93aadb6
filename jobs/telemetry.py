"""Watching the GPU beside the timed trials: is it throttled, and is somebody else on it?

Why three kinds of evidence for "somebody else": the process list is exact, but blind in many containers; memory that
is not ours and grows tells of a newcomer; and a GPU that is busy while this process gives it nothing to do is shared,
whatever the process list says. The clocks are read by a thread during a trial, everything slow at its edges.

    sampler = Sampler(open_gpu("cuda"))
    trial(); sampler.note()             # beside the timed trials: one reading at their edges, no thread
    with sampler: same_work_untimed()   # a thread reads clocks all along; the samples add up
    sampler.watch_idle()                # between trials, with nothing of ours on the GPU
    record.telemetry = sampler.telemetry()
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from farm.device_facts import Telemetry
from farm.stats import median
from farm.telemetry import Edge, Sample, others_listed, telemetry_of
from jobs.nvml import Found, Gpu
from jobs.ticker import Ticker, Ticks

PERIOD_S: Final = 0.05
# NVML averages utilization over up to 1 s (nvmlUtilization_t): only after that does a reading say nothing about us.
SETTLE_S: Final = 1.1
WATCH_S: Final = 0.4
_IDLE_READINGS: Final = 5


class Sampler:
    """Collects over any number of trials of one cell. Without a GPU to ask it does nothing, and says why."""

    def __init__(
        self,
        found: Found,
        own_bytes: Callable[[], int] | None = None,
        ticker: Callable[..., Ticks[Sample]] = Ticker,
        own_pid: int | None = None,
    ) -> None:
        self._found = found
        self._own_bytes = own_bytes or torch_reserved_bytes
        self._own_pid = own_pid or os.getpid()
        self._ticks = None if found.gpu is None else ticker(lambda: read_sample(found.gpu), PERIOD_S)
        self._samples: list[Sample] = []
        self._edges: list[Edge] = []
        self._idle: list[float] = []

    def start(self) -> None:
        """Just before a trial, with the device synchronized."""
        if self._ticks is not None:
            self._edges.append(self._read_edge())
            self._ticks.start()

    def stop(self) -> Telemetry:
        """Just after it. Gives everything seen so far."""
        if self._ticks is not None:
            # A trial shorter than the period is told by its end: the clock outlives the work by far longer than that.
            self._samples += self._ticks.stop() or [read_sample(self._found.gpu)]
            self._edges.append(self._read_edge())
        return self.telemetry()

    def note(self) -> None:
        """One reading at the edge of a timed trial: the clocks are still those of the work, nothing runs beside it."""
        if self._ticks is not None:
            self._edges.append(self._read_edge())
            self._samples.append(read_sample(self._found.gpu))

    def watch_idle(self, settle_s: float = SETTLE_S, sleep: Callable[[float], None] = time.sleep) -> float | None:
        """Note how busy others keep the GPU. The caller has synchronized and gives it nothing to do meanwhile."""
        if self._found.gpu is None:
            return None
        seen = idle_utilization(self._found.gpu, settle_s, WATCH_S, sleep)
        self._idle += [] if seen is None else [seen]
        return seen

    def telemetry(self) -> Telemetry:
        if self._found.gpu is None:
            return Telemetry(samples=0, reasons={"telemetry": self._found.reason or "no GPU to ask"})
        told = telemetry_of(self._samples, self._edges, self._idle)
        gpu = self._found.gpu
        return replace(told, sm_clock_top_hz=gpu.sm_clock_top_hz(), power_limit_share=gpu.power_limit_share())

    def __enter__(self) -> "Sampler":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _read_edge(self) -> Edge:
        gpu = self._found.gpu
        assert gpu is not None
        used = gpu.memory_used_bytes()
        return Edge(
            temperature_c=gpu.temperature_c(),
            others=others_listed(gpu.compute_pids(), self._own_pid),
            foreign_bytes=None if used is None else used - self._own_bytes(),
        )


def read_sample(gpu: Gpu | None) -> Sample:
    """Three calls: what one tick costs the main thread is bounded by this."""
    if gpu is None:
        return Sample()
    return Sample(gpu.sm_clock_hz(), gpu.power_w(), gpu.clock_events())


def idle_utilization(
    gpu: Gpu, settle_s: float = SETTLE_S, watch_s: float = WATCH_S, sleep: Callable[[float], None] = time.sleep
) -> float | None:
    """The busy fraction of the GPU while this process is idle: the work of others. None when it is not told."""
    sleep(settle_s)
    readings = []
    for _ in range(_IDLE_READINGS):
        sleep(watch_s / _IDLE_READINGS)
        readings.append(gpu.utilization())
    told = [reading for reading in readings if reading is not None]
    return median(told) if told else None


def torch_reserved_bytes() -> int:
    """What torch's allocator holds: bookkeeping on the host, no call to the device."""
    torch: Any = sys.modules.get("torch")  # a fake engine never imports it
    return int(torch.cuda.memory_reserved()) if torch and torch.cuda.is_initialized() else 0
