"""Microseconds of captured graphs, and what a failure leaves behind."""

import itertools
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def attempt(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """(result, None) or (None, text). A compiler may raise anything, and its text is a finding."""
    try:
        return work(), None
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error)[-300:]}"


def graph_us(work: Callable[[], Any], replays: int = 20) -> float:
    """Median of a captured graph. What `work` returns is kept, so that outputs do not share memory."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(replays + 1)]
    graph.replay()
    for index, mark in enumerate(marks):
        if index:
            graph.replay()
        mark.record()
    torch.cuda.synchronize()
    del kept
    return median(a.elapsed_time(b) for a, b in itertools.pairwise(marks)) * 1e3


def ceilings_gb_s(device: str) -> dict[str, float]:
    """What this card does today: a reduction reads 4 GiB, a copy reads and writes 1 GiB."""
    data = torch.randint(0, 9, (1 << 30,), dtype=torch.int32, device=device)
    part = data[: 1 << 28]
    target = torch.empty_like(part)
    return {
        "read": data.nbytes / graph_us(data.amax) / 1e3,
        "copy": 2 * part.nbytes / graph_us(lambda: target.copy_(part)) / 1e3,
    }
