"""One GPU as the driver's management library (NVML) shows it, behind a small protocol.

Why by UUID: NVML counts every GPU of the machine, CUDA only those in CUDA_VISIBLE_DEVICES; an index means two things.
Why None: a figure that this GPU, driver or container does not tell is missing, never 0, and never an exception.

    found = open_gpu("cuda")        # Found(gpu, None), or Found(None, "why not")
    found.gpu.power_w()             # 512.3

NVML's binding (ctypes) lets go of the interpreter lock in every call, and no call touches CUDA.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

# nvml.h: power since the last 25-100 ms; nvmlDeviceGetPowerUsage is a one-second average on Ampere and later.
_POWER_INSTANT_FIELD = 186


class Gpu(Protocol):
    """Readings of one GPU; each is None where it cannot be told."""

    def sm_clock_hz(self) -> float | None: ...
    def sm_clock_top_hz(self) -> float | None: ...
    def power_limit_share(self) -> float | None:
        """The power limit in force over the factory's."""
        ...

    def power_w(self) -> float | None: ...
    def clock_events(self) -> int | None: ...
    def temperature_c(self) -> float | None: ...
    def utilization(self) -> float | None:
        """Fraction of the last sample period (1/6 to 1 second) with a kernel on the GPU, of whatever process."""
        ...

    def memory_used_bytes(self) -> int | None: ...
    def compute_pids(self) -> tuple[int, ...] | None: ...
    def energy_j(self) -> float | None:
        """A counter that only grows: differences count."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A GPU, or the reason why there is none to ask. `place`: which of the machine's GPUs it is, and of how many."""

    gpu: Gpu | None
    reason: str | None = None
    place: tuple[int, int] = (0, 1)


class NvmlGpu:
    """The real one."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def sm_clock_hz(self) -> float | None:
        mhz = _told(lambda: pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM))
        return None if mhz is None else mhz * 1e6

    def sm_clock_top_hz(self) -> float | None:
        mhz = _told(lambda: pynvml.nvmlDeviceGetMaxClockInfo(self._handle, pynvml.NVML_CLOCK_SM))
        return None if mhz is None else mhz * 1e6

    def power_limit_share(self) -> float | None:
        limit = _told(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handle))
        factory = _told(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(self._handle))
        return limit / factory if limit and factory else None

    def power_w(self) -> float | None:
        instant = _told(lambda: _field(self._handle, _POWER_INSTANT_FIELD))
        milliwatts = instant or _told(lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle))
        return None if milliwatts is None else milliwatts / 1e3

    def clock_events(self) -> int | None:
        events = _told(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        if events is None:  # drivers before 535 know it by its old name
            events = _told(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))
        return None if events is None else int(events)

    def temperature_c(self) -> float | None:
        degrees = _told(lambda: pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU))
        return None if degrees is None else float(degrees)

    def utilization(self) -> float | None:
        rates = _told(lambda: pynvml.nvmlDeviceGetUtilizationRates(self._handle))
        return None if rates is None else rates.gpu / 100

    def memory_used_bytes(self) -> int | None:
        memory = _told(lambda: pynvml.nvmlDeviceGetMemoryInfo(self._handle))
        return None if memory is None else int(memory.used)

    def compute_pids(self) -> tuple[int, ...] | None:
        processes = _told(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return None if processes is None else tuple(int(process.pid) for process in processes)

    def energy_j(self) -> float | None:
        millijoules = _told(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if millijoules is None else millijoules / 1e3


def open_gpu(device: str) -> Found:
    """The GPU that torch computes on. Call it after torch chose its device; it starts no thread. Never raises."""
    if device != "cuda":
        return Found(None, f"no NVML on the {device.upper()}")
    uuids = _cuda_uuids()
    if len(uuids) != 1:
        return Found(None, f"telemetry watches one GPU a worker; torch shows the UUIDs of {len(uuids)} here")
    return gpu_by_uuid(uuids[0])


def gpu_by_uuid(uuid: str) -> Found:
    """`uuid` as torch tells it, without NVML's prefix. NVML stays open for the life of the process."""
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError as error:
        return Found(None, f"NVML does not show the GPU with UUID {uuid} ({error}); a MIG slice has no telemetry")
    if (_told(lambda: pynvml.nvmlDeviceGetMigMode(handle)) or [0])[0]:
        return Found(None, "the GPU is split by MIG: clocks and power are those of all its slices")
    index, count = _told(lambda: pynvml.nvmlDeviceGetIndex(handle)), _told(pynvml.nvmlDeviceGetCount)
    return Found(NvmlGpu(handle), place=(0, 1) if index is None or not count else (int(index), int(count)))


def _cuda_uuids() -> list[str]:
    import torch

    devices = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [str(device.uuid) for device in devices if hasattr(device, "uuid")]


def _told(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None


def _field(handle: Any, field: int) -> int | None:
    (value,) = pynvml.nvmlDeviceGetFieldValues(handle, [field])
    return int(value.value.uiVal) if value.nvmlReturn == pynvml.NVML_SUCCESS else None
