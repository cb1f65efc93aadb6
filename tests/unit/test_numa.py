"""A worker stays near its GPU, where a (made-up) sysfs tells what is near; otherwise nothing is touched."""

import os
from pathlib import Path

import pytest

from jobs import numa

CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two GPUs on node 0, one on node 1, one that the firmware says nothing about; node 0 has this process's cores."""
    for address, node in (("0000:3b:00.0", 0), ("0000:3c:00.0", 0), ("0000:af:00.0", 1), ("0000:d8:00.0", -1)):
        folder = tmp_path / "bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
    for node, cpus in ((0, f"{CORES[0]}"), (1, "4000-4003")):
        folder = tmp_path / f"devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus + "\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path
    os.sched_setaffinity(0, CORES)


def seen(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setattr(numa, "gpu_addresses", lambda: list(addresses))


def test_a_worker_is_kept_on_its_gpus_node(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, "0000:3b:00.0", "0000:3c:00.0")
    assert numa.pin_to_gpu_node(sysfs) == "0"
    assert os.sched_getaffinity(0) == {CORES[0]}
    assert numa.pinned_node(sysfs) == "0"


@pytest.mark.parametrize(
    "addresses",
    [
        (),  # no GPU
        ("0000:d8:00.0",),  # the firmware does not say
        ("0000:3b:00.0", "0000:af:00.0"),  # two GPUs on two nodes
        ("0000:af:00.0",),  # its node has none of the cores that this process may use
        ("0000:00:00.0",),  # not in sysfs: a container
    ],
)
def test_nothing_is_touched_where_anything_is_unknown(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    seen(monkeypatch, *addresses)
    assert numa.pin_to_gpu_node(sysfs) is None
    assert sorted(os.sched_getaffinity(0)) == CORES
    assert numa.pinned_node(sysfs) is None


def test_a_worker_is_not_squeezed_onto_fewer_cores_than_threads(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, "0000:3b:00.0")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert numa.pin_to_gpu_node(sysfs) is None


def test_cpulists_as_the_kernel_writes_them() -> None:
    assert numa.parse_cpulist("0-3,8,10-11") == {0, 1, 2, 3, 8, 10, 11}
    assert numa.parse_cpulist("") == set()


class FakeNvml:
    """What pynvml answers on a host with two GPUs."""

    NVMLError = type("NVMLError", (Exception,), {})

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if uuid != "GPU-abc":
            raise self.NVMLError
        return 1

    def nvmlDeviceGetPciInfo(self, handle: int) -> object:
        return type("Pci", (), {"busId": ("00000000:3B:00.0", b"0000:AF:00.0")[handle]})


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("0", ["0000:3b:00.0"]),
        ("GPU-abc", ["0000:af:00.0"]),
        ("0,1", ["0000:3b:00.0", "0000:af:00.0"]),
        ("", []),
        ("MIG-xyz", []),
    ],
)
def test_the_visible_gpus_as_sysfs_spells_them(visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numa, "pynvml", FakeNvml())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert numa.gpu_addresses() == found
