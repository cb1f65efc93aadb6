"""Bytes: those of a model, and the peaks of the device and of this process.

Why several peaks: `max_memory_allocated` is what tensors took and understates (workspaces, the CUDA context),
`max_memory_reserved` is what the allocator held and overstates (fragments), the device's used memory has everything,
neighbours included. Each is told apart; what cannot be read is None with the reason, never 0.

    meter = meter_for("cuda")           # before loading: later figures are relative to this moment
    meter.reset_peak(); ...; meter.read().peak_allocated_bytes
"""

import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from farm.records import Memory
from jobs.engines.base import MemoryMeter

NO_DEVICE = "no device allocator on the CPU"
_DEVICE_FIELDS = (
    "activation_peak_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "device_used_delta_bytes",
)


class HostPeak:
    """The largest resident set of this process. Until the first reset the window is the life of the process."""

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._proc = proc
        self._reason: str | None = None

    def reset(self) -> None:
        """Ask the kernel to forget the peak. Containers may forbid it: then there is no peak of the window."""
        try:
            (self._proc / "clear_refs").write_text("5")
            self._reason = None
        except OSError as error:
            self._reason = f"the kernel did not let the peak be reset ({error.strerror or error})"

    def read(self) -> tuple[int | None, str | None]:
        """Bytes, or None and the reason."""
        if self._reason is not None:
            return None, self._reason
        try:
            found = re.search(r"^VmHWM:\s+(\d+) kB", (self._proc / "status").read_text(), re.MULTILINE)
        except OSError as error:
            return None, f"the process status cannot be read ({error.strerror or error})"
        return (int(found[1]) * 1024, None) if found else (None, "this kernel does not report VmHWM")


class CpuMeter:
    """On the CPU only the process can be watched."""

    def __init__(self, host: HostPeak | None = None) -> None:
        self._host = host or HostPeak()

    def reset_peak(self) -> None:
        self._host.reset()

    def read(self) -> Memory:
        peak, reason = self._host.read()
        reasons = dict.fromkeys(_DEVICE_FIELDS, NO_DEVICE)
        return Memory(host_peak_rss_bytes=peak, reasons=reasons | _because("host_peak_rss_bytes", reason))


class CudaMeter:
    """Sums over all visible GPUs. `device_used_delta_bytes` counts from the construction, so construct before loading;
    the CUDA context is made then and not counted."""

    def __init__(self, host: HostPeak | None = None) -> None:
        self._host = host or HostPeak()
        self._devices = range(torch.cuda.device_count())
        self._used_before = self._used()

    def reset_peak(self) -> None:
        self._host.reset()
        for device in self._devices:
            torch.cuda.reset_peak_memory_stats(device)

    def read(self) -> Memory:
        peak, reason = self._host.read()
        delta = self._used() - self._used_before
        reasons = _because("host_peak_rss_bytes", reason)
        if delta < 0:
            reasons["device_used_delta_bytes"] = "another process gave device memory back meanwhile"
        return Memory(
            peak_allocated_bytes=sum(torch.cuda.max_memory_allocated(device) for device in self._devices),
            peak_reserved_bytes=sum(torch.cuda.max_memory_reserved(device) for device in self._devices),
            device_used_delta_bytes=delta if delta >= 0 else None,
            host_peak_rss_bytes=peak,
            reasons=reasons,
        )

    def _used(self) -> int:
        pairs = [torch.cuda.mem_get_info(device) for device in self._devices]
        return sum(total - free for free, total in pairs)


def meter_for(device: str) -> MemoryMeter:
    return CudaMeter() if device == "cuda" else CpuMeter()


def release_unused(device: str) -> None:
    """Give back what loading left in the allocator, or it would count as reserved in every later peak."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: str) -> int:
    """What a model could still take: of all visible GPUs together, or of the host."""
    if device == "cuda":
        return sum(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    return int(psutil.virtual_memory().available)


def model_bytes(model: nn.Module) -> int:
    """True bytes of a model's weights: each storage once (tied weights), scales of quantized layers included."""
    return bytes_of_storages(_tensors_of(model))


def bytes_of_storages(tensors: Iterator[torch.Tensor]) -> int:
    """Bytes of the memory behind the tensors; views of one storage count once."""
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if tensor.device.type != "meta":
            storages[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors_of(model: nn.Module) -> Iterator[torch.Tensor]:
    for tensor in (*model.parameters(), *model.buffers()):
        yield from _with_inner(tensor)
        yield from _attached(getattr(tensor, "quant_state", None))  # bitsandbytes 4-bit: absmax, code
        yield from _attached_tensors(tensor, "CB", "SCB")  # bitsandbytes int8, before the first forward
    for module in model.modules():
        yield from _attached_tensors(getattr(module, "state", None), "CB", "SCB")  # the same, after it


def _with_inner(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor subclass that wraps others (torchao) has a storage of its own that holds nothing."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _with_inner(getattr(tensor, name))


def _attached(state: Any) -> Iterator[torch.Tensor]:
    if state is None:
        return
    yield from _attached_tensors(state, *vars(state))
    yield from _attached(getattr(state, "state2", None))  # scales of the scales, with double quantization


def _attached_tensors(owner: Any, *names: str) -> Iterator[torch.Tensor]:
    values = (getattr(owner, name, None) for name in names)
    yield from (value for value in values if isinstance(value, torch.Tensor))


def _because(field: str, reason: str | None) -> dict[str, str]:
    return {} if reason is None else {field: reason}
