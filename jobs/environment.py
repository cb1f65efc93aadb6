"""Where a measurement ran: two rows compare only when this is equal.

Why it never raises: it is read after every load, also after a failed one, and a figure with half an environment is
worth more than none. What cannot be read is None.

    read_environment("cpu").device_name         # "Intel(R) Xeon(R) ..."
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import farm
from farm.records import Environment
from jobs.numa import pinned_node

QUANTIZERS = ("bitsandbytes", "torchao", "gptqmodel", "hqq", "exllamav3", "auto-gptq", "autoawq")
PACKAGES = ("torch", "triton", "transformers", "accelerate", *QUANTIZERS, "ray")
_SOURCES = ("farm", "jobs", "cluster")
_GIT_TIMEOUT_S = 10.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Device:
    name: str
    memory_bytes: int | None
    uuid: str | None = None
    driver: str | None = None


def read_environment(device: str) -> Environment:
    """Everything about this process, machine and device that a figure depends on. Never raises."""
    hardware = _or_none(_gpu if device == "cuda" else _cpu) or _Device("unknown", None)
    return Environment(
        host=platform.node(),
        platform=platform.platform(),
        python=platform.python_version(),
        packages=_versions(),
        device=device,
        device_name=hardware.name,
        device_memory_bytes=hardware.memory_bytes,
        device_uuid=hardware.uuid,
        driver=hardware.driver,
        cpu_threads=_or_none(_threads),
        farm_version=farm.__version__,
        farm_commit=_or_none(_commit),
        worker=_worker(),
    )


def _worker() -> dict[str, str]:
    """What about this process could slow the host side of a measurement, or send it to another device."""
    facts = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS") if name in os.environ}
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    node = _or_none(pinned_node)
    facts |= {"numa_node": node} if node else {}
    return facts | {"pid": str(os.getpid()), "niceness": str(os.nice(0)), "cpus_allowed": str(cpus)}


def _or_none(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except Exception:  # evidence is optional: a missing file or driver must not cost the measurement
        return None


def _versions() -> dict[str, str]:
    versions = {name: _or_none(lambda name=name: metadata.version(name)) for name in PACKAGES}  # type: ignore[misc]
    return {name: version for name, version in versions.items() if version}


def _threads() -> int | None:
    torch = sys.modules.get("torch")  # a fake group never imports it, and has no threads to tell
    return torch.get_num_threads() if torch else None


def _cpu() -> _Device:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return _Device(name, _or_none(lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))


def _gpu() -> _Device:
    """All visible GPUs. The UUID comes from torch: NVML counts devices without regard to CUDA_VISIBLE_DEVICES."""
    import torch

    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    first = devices[0].name
    return _Device(
        name=first if len(devices) == 1 else f"{len(devices)} x {first}",
        memory_bytes=sum(device.total_memory for device in devices),
        uuid=_or_none(lambda: ",".join(f"GPU-{device.uuid}" for device in devices)),
        driver=_or_none(_driver),
    )


def _driver() -> str:
    import pynvml

    pynvml.nvmlInit()
    try:
        version = pynvml.nvmlSystemGetDriverVersion()
    finally:
        pynvml.nvmlShutdown()
    return version.decode() if isinstance(version, bytes) else str(version)


def _commit() -> str | None:
    """The commit of the source tree, with `-dirty` when its code was changed.

    A copy without its history (an image, a submitted job) is of the commit that $FARM_COMMIT names, if any.
    """
    root = Path(farm.__file__).resolve().parent.parent
    if not (root / ".git").exists():  # git would go on looking upwards and answer for another repository
        return os.environ.get("FARM_COMMIT") or None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_SOURCES)
    return f"{commit}-dirty" if changes else commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True)
    return done.stdout.strip()
