"""Keeps a worker on the CPUs that are nearest to its GPU, where the system tells which those are.

The physics: on a host with two sockets, half of the cores reach a GPU through the link between the sockets. Eager
decoding is bound by how fast the host hands out kernels, so the same cell came out differently from socket to socket,
as the scheduler chose. One NUMA node's cores, for life, take that coin toss out.

    pin_to_gpu_node()               # '0', or None: no GPU, no driver, or a system that does not tell
    pinned_node()                   # what the record's environment says

Call it before torch starts its threads: they inherit the mask. Nothing happens where anything is unknown.
"""

import os
from pathlib import Path

import pynvml

SYSFS = Path("/sys")


def pin_to_gpu_node(sysfs: Path = SYSFS) -> str | None:
    """Confine this process to the CPUs of its GPUs' NUMA node. Returns the node; None when nothing was done."""
    node, cpus = _node_and_cpus(sysfs)
    allowed = os.sched_getaffinity(0) & cpus
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    if len(allowed) < threads:  # nothing known, or a container that was given other cores: leave it as it is
        return None
    os.sched_setaffinity(0, allowed)
    return node


def pinned_node(sysfs: Path = SYSFS) -> str | None:
    """The NUMA node that this process shares with its GPUs, when it cannot leave it."""
    node, cpus = _node_and_cpus(sysfs)
    return node if cpus and os.sched_getaffinity(0) <= cpus else None


def _node_and_cpus(sysfs: Path) -> tuple[str | None, set[int]]:
    nodes = {_text(sysfs / "bus/pci/devices" / address / "numa_node") for address in gpu_addresses()}
    if len(nodes) != 1:
        return None, set()
    (node,) = nodes
    if node is None or int(node) < 0:  # -1: the firmware does not say
        return None, set()
    return node, parse_cpulist(_text(sysfs / f"devices/system/node/node{node}/cpulist") or "")


def parse_cpulist(text: str) -> set[int]:
    """The kernel's own notation: `0-3,8,10-11`."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first:
            cpus |= set(range(int(first), int(last if dash else first) + 1))
    return cpus


def gpu_addresses() -> list[str]:
    """PCI addresses of the GPUs that this process may use, as sysfs spells them; empty when they cannot be told.

    Asked of NVML, so that no CUDA context is made; CUDA_VISIBLE_DEVICES is what Ray set for this worker.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_address(_handle(name.strip())) for name in visible.split(",") if name.strip()]
    except (pynvml.NVMLError, ValueError):
        return []
    finally:
        pynvml.nvmlShutdown()


def _handle(name: str) -> object:
    return pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)


def _address(handle: object) -> str:
    """NVML says `00000000:3B:00.0` where sysfs says `0000:3b:00.0`."""
    bus = pynvml.nvmlDeviceGetPciInfo(handle).busId
    text = (bus.decode() if isinstance(bus, bytes) else bus).lower()
    return text[4:] if len(text) == len("00000000:3b:00.0") else text


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
