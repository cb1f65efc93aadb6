"""Host time and device time, behind one protocol.

Why two clocks: on a GPU the host only enqueues work, so its clock says nothing about a phase unless it waits at the
edges; events on the stream time the work itself, with about half a microsecond of resolution and without waiting.

    watch = stopwatch_for("cpu")
    start = watch.mark(); ...; seconds = watch.seconds_between(start, watch.mark())
"""

import time

import torch

from jobs.engines.base import Stopwatch


class HostStopwatch:
    """For the CPU: what is called has ended when the call returns, so the host's clock is the device's."""

    name = "perf_counter"

    def now(self) -> float:
        return time.perf_counter()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> float:
        return time.perf_counter()

    def seconds_between(self, start: float, end: float) -> float:
        return end - start


class CudaStopwatch:
    """Events on the current stream. `seconds_between` needs both events to have happened: synchronize first."""

    name = "cuda_event"

    def now(self) -> float:
        return time.perf_counter()

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds_between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end)) / 1000.0  # milliseconds in torch


def stopwatch_for(device: str) -> Stopwatch:
    return CudaStopwatch() if device == "cuda" else HostStopwatch()
