"""The kernels between the products: microseconds of one launch among 64 in a graph."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jobs.turbo import kernels
from jobs.turbo.kernels import configs, launch
from jobs.turbo.kernels.configs import Attention
from tests.perf.turbo_kernels.shapes import DIM, HEADS, HIDDEN, INNER, KV_HEADS
from tests.perf.turbo_kernels.timing import attempt, graph_us
from tests.perf.turbo_kernels.variants import DEVICE, DTYPE

_LAUNCHES, _CACHES, _MAX_LEN = 64, 16, 8448  # 16 caches of 2,048 filled positions are 134 MB
CUTS = (Attention(64, 32), Attention(32, 32), Attention(128, 16), Attention(64, 16), Attention(32, 64))
# (programmatic launch, one attention kernel)
MODES = ((True, True), (True, False), (False, True), (False, False))

Work = Callable[[int], Any]


def works() -> dict[str, Work]:
    """Each takes the number of its launch, to choose a cache."""
    x, gain, wide = (torch.randn(size, dtype=DTYPE, device=DEVICE) for size in ((1, HIDDEN), HIDDEN, (1, 2 * INNER)))
    qkv = torch.randn(1, (HEADS + 2 * KV_HEADS) * DIM, dtype=DTYPE, device=DEVICE)
    cos, sin = torch.randn(2, _MAX_LEN, DIM, dtype=DTYPE, device=DEVICE)
    caches = [torch.randn(2, 1, KV_HEADS, _MAX_LEN, DIM, dtype=DTYPE, device=DEVICE) for _ in range(_CACHES)]
    at = torch.tensor([128], device=DEVICE)

    def rope(number: int) -> Tensor:
        keys, values = caches[number % _CACHES]
        return kernels.rope_and_append(qkv, cos, sin, at, keys, values)

    found: dict[str, Work] = {
        "add and norm": lambda number: kernels.rms_norm(x, gain, 1e-5, x),
        "silu and product": lambda number: kernels.silu_mul(wide),
        "rope and append": rope,
    }
    q = qkv[:, :HIDDEN].view(1, HEADS, DIM)
    for length in (2048, 128, 8192):
        for cut in CUTS:
            found[f"attention {length} {cut}"] = _attention(q, caches, torch.tensor([length], device=DEVICE), cut)
    return found


def _attention(q: Tensor, caches: list[Tensor], length: Tensor, cut: Attention) -> Work:
    def work(number: int) -> Tensor:
        keys, values = caches[number % _CACHES]
        return launch.decode_attention(q, keys, values, length, DIM**-0.5, cut)

    return work


def in_modes(named: dict[str, Work]) -> Iterator[tuple[str, Work]]:
    """Each work under each mode, which is set when its turn comes."""
    for programmatic, one_kernel in MODES:
        for name, work in named.items():
            if one_kernel or name.startswith("attention"):
                configs.PROGRAMMATIC_LAUNCH, configs.ONE_ATTENTION_KERNEL = programmatic, one_kernel
                mode = f"programmatic {programmatic}" + f", one kernel {one_kernel}" * name.startswith("attention")
                yield f"{name}, {mode}", work
    configs.PROGRAMMATIC_LAUNCH, configs.ONE_ATTENTION_KERNEL = MODES[0]


def _many(work: Work) -> list[Any]:
    return [work(number) for number in range(_LAUNCHES)]


def time_small() -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, work in in_modes(works()):
        us, failure = attempt(partial(graph_us, partial(_many, work)))
        found[name] = failure or us / _LAUNCHES
    return found
