"""What is predicted not to fit must fit no GPU of the machine."""

import pytest

from jobs import devices


def test_a_small_gpu_beside_a_large_one_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_memory_bytes", lambda: [2_000_000_000, 80_000_000_000])
    assert devices.device_memory_bytes("cuda") == 80_000_000_000


def test_without_a_gpu_nothing_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_memory_bytes", list)
    assert devices.device_memory_bytes("cuda") is None
