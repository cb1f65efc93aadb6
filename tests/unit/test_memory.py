"""Bytes by hand, and missing figures with their reason."""

from pathlib import Path

import pytest
import torch
from torch import nn

from jobs.memory import CpuMeter, CudaMeter, HostPeak, bytes_of_storages, meter_for, model_bytes, release_unused

MIB = 1 << 20


def fake_proc(folder: Path, status: str = "VmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n") -> Path:
    (folder / "status").write_text(status)
    (folder / "clear_refs").write_text("")
    return folder


def test_the_peak_is_read_in_bytes_and_reset_by_writing_5(tmp_path: Path) -> None:
    peak = HostPeak(fake_proc(tmp_path))
    assert peak.read() == (2048 * 1024, None)
    peak.reset()
    assert (tmp_path / "clear_refs").read_text() == "5"


def test_a_forbidden_reset_gives_a_reason_and_no_figure(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path)
    (proc / "clear_refs").unlink()
    (proc / "clear_refs").mkdir()  # writing fails, for root too
    meter = CpuMeter(HostPeak(proc))
    assert meter.read().host_peak_rss_bytes == 2048 * 1024
    meter.reset_peak()
    memory = meter.read()
    assert memory.host_peak_rss_bytes is None
    assert "did not let the peak be reset" in memory.reasons["host_peak_rss_bytes"]


def test_a_kernel_without_the_figure_gives_a_reason(tmp_path: Path) -> None:
    value, reason = HostPeak(fake_proc(tmp_path, status="VmRSS:\t 1 kB\n")).read()
    assert value is None
    assert reason is not None
    value, reason = HostPeak(tmp_path / "nowhere").read()
    assert value is None
    assert reason is not None


def test_the_cpu_has_no_device_figures_and_says_so() -> None:
    memory = meter_for("cpu").read()
    for field in ("peak_allocated_bytes", "peak_reserved_bytes", "device_used_delta_bytes", "activation_peak_bytes"):
        assert getattr(memory, field) is None
        assert memory.reasons[field] == "no device allocator on the CPU"


def test_a_window_sees_its_own_peak_only() -> None:
    peak = HostPeak()
    peak.reset()
    before, reason = peak.read()
    if before is None:
        pytest.skip(str(reason))
    block = bytearray(64 * MIB)
    during, _ = peak.read()
    del block
    peak.reset()
    after, _ = peak.read()
    assert during is not None
    assert after is not None
    assert during - before >= 60 * MIB
    assert during - after >= 60 * MIB


def test_a_plain_layer() -> None:
    assert model_bytes(nn.Linear(10, 5)) == (10 * 5 + 5) * 4


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 7, bias=False))
    assert model_bytes(model) == 2 * 7 * 3 * 4
    model[1].weight = model[0].weight
    assert model_bytes(model) == 7 * 3 * 4


def test_buffers_count_and_views_of_one_storage_count_once() -> None:
    model = nn.Module()
    whole = torch.zeros(10, dtype=torch.float16)
    model.register_buffer("first", whole[:5])
    model.register_buffer("second", whole[5:], persistent=False)
    assert model_bytes(model) == 20


def test_tensors_without_storage_count_nothing() -> None:
    assert bytes_of_storages(iter([torch.empty(100, device="meta")])) == 0


class Wrapper(torch.Tensor):
    """A tensor subclass as torchao makes them: logically 4 bytes an element, really 1 and a scale."""

    codes: torch.Tensor
    scale: torch.Tensor

    @staticmethod
    def __new__(cls, codes: torch.Tensor, scale: torch.Tensor) -> "Wrapper":
        wrapper: Wrapper = torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)  # type: ignore[attr-defined]
        wrapper.codes, wrapper.scale = codes, scale
        return wrapper

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        raise NotImplementedError(func)


def test_wrapped_tensors_count_what_they_hold() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(Wrapper(torch.zeros(100, dtype=torch.int8), torch.zeros(1)), requires_grad=False)
    assert model_bytes(model) == 100 + 4


class TwoGpus:
    """Two GPUs as torch.cuda shows them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = [70, 60]
        self.reset: list[int] = []
        cuda = torch.cuda
        monkeypatch.setattr(cuda, "device_count", lambda: 2)
        monkeypatch.setattr(cuda, "mem_get_info", lambda device: (self.free[device], 80))
        monkeypatch.setattr(cuda, "max_memory_allocated", lambda device: [5, 6][device])
        monkeypatch.setattr(cuda, "max_memory_reserved", lambda device: [7, 8][device])
        monkeypatch.setattr(cuda, "reset_peak_memory_stats", self.reset.append)


def test_gpu_figures_are_sums_over_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = TwoGpus(monkeypatch)
    meter = CudaMeter()
    gpus.free = [50, 45]
    meter.reset_peak()
    memory = meter.read()
    assert gpus.reset == [0, 1]
    assert (memory.peak_allocated_bytes, memory.peak_reserved_bytes) == (11, 15)
    assert memory.device_used_delta_bytes == 35


def test_a_shrinking_neighbour_gives_no_negative_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = TwoGpus(monkeypatch)
    meter = CudaMeter()
    gpus.free = [75, 60]
    memory = meter.read()
    assert memory.device_used_delta_bytes is None
    assert "another process" in memory.reasons["device_used_delta_bytes"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu() -> None:
    release_unused("cuda")  # what earlier tests left in torch's pool would serve the block and take nothing new
    meter = meter_for("cuda")
    block = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    meter.reset_peak()
    memory = meter.read()
    assert memory.peak_allocated_bytes is not None
    assert memory.peak_allocated_bytes >= 256 * MIB
    assert (memory.device_used_delta_bytes or 0) >= 256 * MIB
    del block
    release_unused("cuda")
    meter.reset_peak()
    assert (meter.read().peak_reserved_bytes or 0) < memory.peak_allocated_bytes
