"""Where the time of one decode step goes, kernel by kernel, and how much of it no kernel runs.

Why both: a step slower than its bytes is so either because a kernel is slow or because the device waits between them.
The profiler's own cost falls on the host, so inside a replayed graph the device times are true.

    found = profiled(generation.decode_step)
    found.span_us, found.idle_us, found.kernels[0].name
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

TOP = 12


@dataclass(frozen=True, slots=True)
class Span:
    """One kernel's run on the device, in microseconds."""

    name: str
    start_us: float
    end_us: float


@dataclass(frozen=True, slots=True)
class KernelTime:
    """All runs of one kernel in the profiled piece of work."""

    name: str
    calls: int
    total_us: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """`span_us`: from the first kernel's start to the last one's end; `idle_us`: how much of it no kernel ran."""

    span_us: float
    idle_us: float
    calls: int
    kernels: tuple[KernelTime, ...]


def profiled(work: Callable[[], object], top: int = TOP) -> Breakdown:
    """Do the work once under the profiler. Raises RuntimeError when no kernel was seen, as on the CPU."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
        work()
        torch.cuda.synchronize()
    events = recorded.events() or []
    spans = [
        Span(event.name, event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA
    ]
    return breakdown(spans, top)


def breakdown(spans: Sequence[Span], top: int = TOP) -> Breakdown:
    """Sum the runs by kernel, the longest first. Raises RuntimeError without any."""
    if not spans:
        raise RuntimeError("the profiler saw no kernel: it needs a CUDA device and its driver's leave to read counters")
    runs: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        runs[span.name].append(span.end_us - span.start_us)
    kernels = sorted((KernelTime(name, len(us), sum(us)) for name, us in runs.items()), key=lambda k: -k.total_us)
    whole = max(span.end_us for span in spans) - min(span.start_us for span in spans)
    return Breakdown(whole, whole - _covered_us(spans), len(spans), tuple(kernels[:top]))


def _covered_us(spans: Sequence[Span]) -> float:
    """The time in which at least one kernel ran: overlapping runs count once."""
    covered, reached = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.start_us):
        covered += max(0.0, span.end_us - max(span.start_us, reached))
        reached = max(reached, span.end_us)
    return covered
