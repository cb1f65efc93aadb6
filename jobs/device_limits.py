"""The device's roof, measured: how fast it copies memory and multiplies matrices. Once in each worker, before loading.

Why measured and not from a data sheet: a shared, throttled or power-capped device is slower than its sheet, and the
distance to a roof that is not there says nothing. Why random data: equal numbers flip fewer transistors, draw less
power and clock higher than real weights would. Why the copy's best and the product's median: noise only ever slows a
copy, while a product's first repetitions may run before the power limit bites.

    limits = measure_limits("cuda")     # 0.3 s or so on a large GPU, below 3 s on a CPU

All memory is given back. The peaks of torch's allocator are not reset here: the meter does that before it is used.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from farm.device_facts import DeviceLimits
from farm.stats import median
from jobs.effective import dtype_name
from jobs.engines.base import Stopwatch
from jobs.memory import release_unused
from jobs.stopwatch import stopwatch_for

MIB = 1 << 20
_LEAST_COPY = 16 * MIB
_LEAST_SIDE = 512
_PATTERN_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class Sizes:
    """What to measure with: bytes of one copy, side of the square matrices."""

    copy_bytes: int
    gemm_side: int


@dataclass(frozen=True, slots=True)
class _Setup:
    """Upper bounds and patience of one kind of device. `budget_s` ends the repetitions of one measurement."""

    copy_bytes: int
    gemm_side: int
    repeats: int
    budget_s: float


_SETUPS = {"cuda": _Setup(2048 * MIB, 8192, 10, 0.3), "cpu": _Setup(256 * MIB, 2048, 5, 0.4)}


def measure_limits(device: str) -> DeviceLimits | None:
    """Copy bandwidth and matrix rate. None when too little memory is free for either to mean anything."""
    setup, cache = _SETUPS[device], cache_bytes(device)
    dtype = _gemm_dtype(device)
    sizes = choose_sizes(
        max(setup.copy_bytes, 4 * (cache or 0)), setup.gemm_side, _free_bytes(device), cache, dtype.itemsize
    )
    if sizes is None:
        return None
    try:
        copy = _copy_rate(device, sizes.copy_bytes, setup)
        gemm = _gemm_rate(device, sizes.gemm_side, dtype, setup)
    except torch.OutOfMemoryError:  # a neighbour took it meanwhile; nothing of ours depends on it
        return None
    finally:
        release_unused(device)
    return DeviceLimits(copy, gemm, dtype_name(dtype), cache)


def choose_sizes(copy_bytes: int, gemm_side: int, free_bytes: int, cache: int | None, item_bytes: int) -> Sizes | None:
    """As large as asked, within half of the free memory. None when the copy would fit the cache it must exceed."""
    copy = min(copy_bytes, free_bytes // 4 // MIB * MIB)  # a source and a target: together half of what is free
    side = gemm_side
    while 3 * side * side * item_bytes > free_bytes // 2:
        side //= 2
    if copy < max(_LEAST_COPY, 2 * (cache or 0)) or side < _LEAST_SIDE:
        return None
    return Sizes(copy, side)


def repeat_timed(work: Callable[[], object], watch: Stopwatch, repeats: int, budget_s: float) -> list[float]:
    """Seconds of each repetition after an uncounted one; ends early, but never empty, when the budget is spent."""
    work()
    watch.synchronize()
    began, marks = watch.now(), [watch.mark()]
    while len(marks) <= repeats and (len(marks) == 1 or watch.now() - began < budget_s):
        work()
        marks.append(watch.mark())
    watch.synchronize()
    return [watch.seconds_between(start, end) for start, end in itertools.pairwise(marks)]


def _copy_rate(device: str, size: int, setup: _Setup) -> float:
    """Bytes read plus bytes written, over the best time."""
    source = _random_bytes(size, device)
    target = torch.empty_like(source)
    seconds = repeat_timed(lambda: target.copy_(source), stopwatch_for(device), setup.repeats, setup.budget_s)
    return 2 * size / min(seconds)


def _random_bytes(size: int, device: str) -> torch.Tensor:
    """A random pattern, repeated: no memory compresses across megabytes, and a CPU draws random numbers slowly."""
    pattern = torch.randint(0, 256, (min(size, _PATTERN_BYTES),), dtype=torch.uint8, device=device)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    for start in range(0, size, len(pattern)):
        piece = source[start : start + len(pattern)]
        piece.copy_(pattern[: len(piece)])
    return source


def _gemm_rate(device: str, side: int, dtype: torch.dtype, setup: _Setup) -> float:
    """2 * side^3 FLOPs over the median time."""
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty(side, side, dtype=dtype, device=device)
    seconds = repeat_timed(
        lambda: torch.matmul(left, right, out=product), stopwatch_for(device), setup.repeats, setup.budget_s
    )
    return 2 * side**3 / median(seconds)


def _gemm_dtype(device: str) -> torch.dtype:
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16  # Ampere brought it


def _free_bytes(device: str) -> int:
    return int(torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available)


def cache_bytes(device: str) -> int | None:
    """The last cache before memory: the GPU's L2, the CPU's highest level. None where it is not told."""
    if device == "cuda":
        return getattr(torch.cuda.get_device_properties(0), "L2_cache_size", None)
    return _cpu_cache()


def _cpu_cache(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    try:
        sizes = [file.read_text().strip() for file in root.glob("index*/size")]
        return max((int(size.removesuffix("K")) * 1024 for size in sizes), default=None)
    except (OSError, ValueError):
        return None
