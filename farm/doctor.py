"""`farm doctor`: can this machine run the farm, and which parts of it? One check a line, each with what to do."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A launch-bound cell needs 10 quiet trials: 40 in all where a quarter are, and 80 is what the published sweep allows.
QUIET_ENOUGH = 0.25
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `required`: without it nothing can be measured."""

    name: str
    ok: bool
    detail: str
    required: bool = False


def checkup() -> list[Check]:
    """All checks, the core first."""
    probe, problem = _probe()
    return [
        _python(),
        *_packages(),
        _torch(probe, problem),
        _gpu(probe),
        *host_checks(probe),
        *_backends(probe),
        *_legacy_backends(probe),
        _ray(),
        _browser(),
        _cache_folder(),
    ]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), f"{version} (3.11 or newer)", required=True)


def _packages() -> list[Check]:
    return [_package(name, True) for name in ("transformers", "accelerate")] + [_package("datasets", False)]


def _package(name: str, required: bool) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), required)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed: pip install -r requirements.txt", required)


def _probe() -> tuple[dict[str, Any], str]:
    """Ask the measuring side in a process of its own: what it found, or why it could not start."""
    command = [sys.executable, "-m", "jobs.capabilities"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        return json.loads(done.stdout.strip().splitlines()[-1]), ""
    except subprocess.TimeoutExpired:
        return {}, "importing it took more than 180 s"
    except (ValueError, IndexError):
        return {}, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _torch(probe: dict[str, Any], problem: str) -> Check:
    return Check("torch", bool(probe), probe.get("torch", problem), required=True)


def _gpu(probe: dict[str, Any]) -> Check:
    if probe.get("cuda"):
        return Check("gpu", True, probe["device_name"])
    driver = "a driver is there but torch sees no GPU: " if shutil.which("nvidia-smi") else "no NVIDIA driver: "
    return Check("gpu", False, driver + "cells run on the CPU")


def host_checks(probe: dict[str, Any]) -> list[Check]:
    """On a shared machine it decides whether a launch-bound row can become valid: ask before a long sweep."""
    if "host" not in probe:
        return []
    quiet, stretches = probe["host"]["quiet"], probe["host"]["stretches"]
    detail = f"{quiet} of {stretches} stretches of work at full speed"
    if quiet >= QUIET_ENOUGH * stretches:
        return [Check("host", True, detail)]
    advice = "others slow its cores, and launch-bound cells (eager on a GPU) may stay slow_host"
    return [Check("host", False, f"{detail}: {advice}; try another machine or another hour")]


def _backends(probe: dict[str, Any]) -> list[Check]:
    device = probe.get("device", "cpu")
    return [
        Check(f"quantization {name}", reason is None, reason or f"ready on {device}")
        for name, reason in probe.get("backends", {}).items()
    ]


def _legacy_backends(probe: dict[str, Any]) -> list[Check]:
    return [
        Check(f"quantization {name}", python is not None, python or f"no environment yet: run farm prepare-env {name}")
        for name, python in probe.get("environments", {}).items()
    ]


def _ray() -> Check:
    return _package("ray", True)


def _browser() -> Check:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return Check("browser", found is not None, found or "no chromium: figures as HTML only (apt-get install chromium)")


def _cache_folder() -> Check:
    import os

    root = Path(os.environ.get("TURBO_CACHE") or "~/.cache/turbo-inferencia").expanduser()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    return Check("model cache", free_gb > 2 and os.access(existing, os.W_OK), f"{root}, {free_gb:.0f} GB free")
