"""NVML's own units become ours, and whatever it refuses becomes None or a reason."""

import inspect
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from jobs.nvml import Found, NvmlGpu, gpu_by_uuid, open_gpu


def test_the_binding_lets_go_of_the_interpreter_lock() -> None:
    """ctypes' CDLL does in every call, PyDLL never: with the lock held, a reading would stop a launch-bound model."""
    source = inspect.getsource(pynvml)
    assert 'CDLL("libnvidia-ml.so.1")' in source and "PyDLL" not in source


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """NVML's functions by name: a value to return, or an exception to raise. What is not set is not supported."""
    answers: dict[str, Any] = {"nvmlInit": None, "nvmlDeviceGetHandleByUUID": "handle", "nvmlDeviceGetMigMode": [0, 0]}

    def answering(name: str) -> Any:
        def call(*_: Any) -> Any:
            answer = answers.get(name, pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    for name in [name for name in dir(pynvml) if name.startswith(("nvmlDeviceGet", "nvmlInit"))]:
        monkeypatch.setattr(pynvml, name, answering(name))
    return answers


def _field(value: int, status: int = 0) -> list[Any]:
    return [SimpleNamespace(nvmlReturn=status, value=SimpleNamespace(uiVal=value))]


def test_units(nvml: dict[str, Any]) -> None:
    nvml |= {
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetFieldValues": _field(512_300),
        "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
        "nvmlDeviceGetTemperature": 61,
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=123),
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=1), SimpleNamespace(pid=2)],
        "nvmlDeviceGetTotalEnergyConsumption": 1_500,
    }
    gpu = NvmlGpu("handle")
    assert (gpu.sm_clock_hz(), gpu.power_w(), gpu.clock_events(), gpu.temperature_c()) == (1.98e9, 512.3, 4, 61.0)
    assert (gpu.utilization(), gpu.memory_used_bytes(), gpu.compute_pids()) == (0.97, 123, (1, 2))
    assert gpu.energy_j() == 1.5


def test_what_is_not_supported_is_none(nvml: dict[str, Any]) -> None:
    gpu = NvmlGpu("handle")
    names = ("sm_clock_hz", "power_w", "clock_events", "temperature_c", "utilization", "memory_used_bytes")
    for name in (*names, "compute_pids", "energy_j"):
        assert getattr(gpu, name)() is None, name


def test_older_drivers_know_other_names(nvml: dict[str, Any]) -> None:
    nvml |= {
        "nvmlDeviceGetFieldValues": _field(0, status=pynvml.NVML_ERROR_NOT_SUPPORTED),
        "nvmlDeviceGetPowerUsage": 250_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
        "nvmlDeviceGetComputeRunningProcesses": pynvml.NVMLLibraryMismatchError("old"),
    }
    gpu = NvmlGpu("handle")
    assert (gpu.power_w(), gpu.clock_events(), gpu.compute_pids()) == (250.0, 0x40, None)


def test_the_gpu_is_found_by_uuid(nvml: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: asked.append(uuid) or "handle")
    found = gpu_by_uuid("0b1c-2d")
    assert isinstance(found.gpu, NvmlGpu) and found.reason is None
    assert asked == ["GPU-0b1c-2d"]


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("nvmlInit", pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND), "NVML does not show the GPU"),
        ("nvmlDeviceGetHandleByUUID", pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND), "UUID 0b1c"),
        ("nvmlDeviceGetMigMode", [1, 1], "split by MIG"),
    ],
)
def test_no_gpu_to_ask_is_a_reason(nvml: dict[str, Any], name: str, answer: Any, reason: str) -> None:
    nvml[name] = answer
    found = gpu_by_uuid("0b1c")
    assert found.gpu is None and reason in (found.reason or "")


def test_a_gpu_without_mig_is_fine(nvml: dict[str, Any]) -> None:
    nvml["nvmlDeviceGetMigMode"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert gpu_by_uuid("0b1c").gpu is not None


def test_several_gpus_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.nvml._cuda_uuids", lambda: ["a", "b"])
    assert open_gpu("cuda") == Found(None, "telemetry watches one GPU a worker; torch shows the UUIDs of 2 here")
