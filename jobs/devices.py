"""Which devices this machine has, asked of the driver and not of torch: quick, and it starts no CUDA context."""

import os

import psutil
import pynvml


def gpu_memory_bytes() -> list[int]:
    """Total memory of each GPU of this machine, visible or not, in bytes; empty without an NVIDIA driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def resolve_device(device: str) -> str:
    """What `auto` means here: cuda when a GPU is visible, otherwise cpu."""
    if device != "auto":
        return device
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return "cuda" if gpu_memory_bytes() and not hidden else "cpu"


def device_memory_bytes(device: str) -> int | None:
    """Memory of the largest device of this kind here: what fits no GPU is refused unseen, not what a small one beside
    it (that of a screen, or a hidden one) could not hold. None when it cannot be told."""
    if device == "cpu":
        return int(psutil.virtual_memory().total)
    return max(gpu_memory_bytes(), default=None)
