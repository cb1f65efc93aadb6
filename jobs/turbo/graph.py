"""A piece of work captured once as a CUDA graph and replayed: one launch instead of hundreds.

The physics: the host needs about 5 us a kernel launch, and far more through Python. A decode step of Llama-3-8B has
about 290 kernels; at 2 to 5 ms of memory traffic a step the host alone would take longer than the device.

    graph = Replay(step, torch.device("cuda"))      # warms up and captures: graph.ready_s
    graph.run()

On the CPU there is nothing to capture: `run` calls the work itself.
"""

import time
from collections.abc import Callable
from functools import cache

import torch

# Kernels compile at the first call, and some libraries choose an algorithm at the second.
WARMUPS = 2


class Replay:
    """`run()` does the work on the tensors that it had at the time of capture. `ready_s`: seconds until it could.

    `is_warm`: the same kernels at the same sizes ran before, on other tensors, so the warm-up is left out.
    """

    def __init__(self, work: Callable[[], None], device: torch.device, is_warm: bool = False) -> None:
        began = time.perf_counter()
        self._work = work  # a graph knows addresses only: this holds what lies there
        self.is_graph = device.type == "cuda"
        self.run: Callable[[], None] = _captured(work, 0 if is_warm else WARMUPS) if self.is_graph else work
        self.ready_s = time.perf_counter() - began


def _captured(work: Callable[[], None], warmups: int) -> Callable[[], None]:
    """Warm-up and capture happen on a side stream, as capture demands; the last replay uploads the graph, or the first
    timed step would. Other threads may use CUDA meanwhile, hence the thread-local mode."""
    side = _side_stream(torch.cuda.current_device())
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warmups):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """One for all warm-ups: the vendor's matrix library keeps a workspace for every stream that it has seen."""
    return torch.cuda.Stream(device)
