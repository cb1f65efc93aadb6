"""Making and finding the environments of the legacy backends.

Why an environment: auto-gptq and autoawq were last released for transformers 4.51 and do not import, or do not run,
beside today's. Why one on top of the farm's own packages and not a whole one: torch, Ray and this very code stay the
same, so that a legacy row differs from its modern neighbour in the backend alone; and it is 200 MB made in half a
minute, where a second torch would be gigabytes. Its own folder comes first on the path, so the old packages win.

    >>> [line for line in requirements("autoawq") if line.startswith("autoawq")]
    ['autoawq==0.2.9']
"""

import hashlib
import json
import os
import subprocess
import sys
import venv
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path

from farm.catalog import LEGACY, PRECISIONS
from farm.errors import EnvironmentUnavailable, SweepError, unknown
from farm.quantization import parse_quantization
from farm.runtime_env import RuntimeEnv
from jobs.models.cache import build_once, cache_root, is_complete

PIP_TIMEOUT_S = 900.0
_SHARED = ("torch", "ray")  # the worker must speak the driver's Ray; another torch would be another comparison


def prepare_environment(name: str) -> Path:
    """The interpreter of a legacy backend, its environment made now if it is not there; safe under concurrent calls.

    Raises SweepError for another name, EnvironmentUnavailable when its packages cannot be had.
    """
    if name not in LEGACY:
        raise SweepError(unknown("legacy backend", name, LEGACY, "farm prepare-env"))
    _require_plain(folder_of(name))
    return _python_in(build_once(folder_of(name), lambda aside: _build(name, aside)))


def _require_plain(folder: Path) -> None:
    """Ray hands an interpreter's path to a shell."""
    try:
        RuntimeEnv(py_executable=str(folder))
    except ValueError:
        raise EnvironmentUnavailable(
            f"{folder} has characters that Ray cannot start an interpreter from; set TURBO_CACHE to a folder whose "
            "path holds only letters, digits and . _ - + @"
        ) from None


def interpreter(name: str) -> Path | None:
    """Its interpreter where the environment is there and whole; None where it must be made first."""
    folder = folder_of(name)
    return _python_in(folder) if is_complete(folder) else None


def lacks_environment(name: str) -> bool:
    """True for a legacy backend whose environment is not on this machine."""
    return PRECISIONS[name].is_legacy and interpreter(name) is None


def why_not_in(name: str, package: str) -> str | None:
    """Why this process cannot serve a legacy backend, and what to do; None inside the backend's own environment."""
    if find_spec(package) is not None:
        return None
    if interpreter(name) is None:
        return (
            f"it runs in an environment of its own, which is not on this machine; run farm prepare-env {name} on "
            "every node, then farm resume DIR --retry unsupported"
        )
    return "it runs in an environment of its own, which only a Ray worker enters; leave out --pool inline"


def with_own_interpreter(env: RuntimeEnv | None, quantization: str) -> RuntimeEnv | None:
    """What a sweep says of a backend's worker, with the interpreter that `farm prepare-env` made for it filled in."""
    name = parse_quantization(quantization).name
    python = interpreter(name) if name in LEGACY and not (env and env.py_executable) else None
    return env if python is None else RuntimeEnv(py_executable=str(python), env_vars=env.env_vars if env else {})


def requirements(name: str) -> tuple[str, ...]:
    """The pinned set: all that the environment adds."""
    text = resources.files("jobs").joinpath("legacy", f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def folder_of(name: str) -> Path:
    """`environments/autoawq-1f3c...`: another pin, Python, torch or Ray makes another folder."""
    shared = {package: metadata.version(package) for package in _SHARED}
    identity = [requirements(name), sys.version_info[:2], shared, _farm_packages()]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return cache_root() / "environments" / f"{name}-{digest[:16]}"


def _farm_packages() -> tuple[str, ...]:
    """Where this interpreter has its packages; inside a legacy environment its own folder is among them."""
    return tuple(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))


def _python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def _build(name: str, folder: Path) -> None:
    venv.create(folder, symlinks=True, with_pip=False)
    for script in (folder / "bin").glob("[Aa]ctivate*"):
        script.unlink()  # they name the folder it is built in, and nobody needs them
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    _install(name, packages)
    _fall_back_on_the_farm(packages)


def _install(name: str, packages: Path) -> None:
    """Without dependencies: the rest is the farm's own. AutoGPTQ's source would compile CUDA code: not that part."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(packages), *requirements(name)]
    env = os.environ | {"BUILD_CUDA_EXT": "0"}
    hint = "check the network, or set PIP_NO_INDEX=1 and PIP_FIND_LINKS to a folder with these wheels"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise EnvironmentUnavailable(f"{name}: pip took over {PIP_TIMEOUT_S:.0f} s; {hint}") from None
    if done.returncode != 0:
        said = next((line for line in done.stderr.splitlines() if "error" in line.lower()), f"status {done.returncode}")
        raise EnvironmentUnavailable(f"{name}: pip could not install its packages ({said.strip()}); {hint}")


def _fall_back_on_the_farm(packages: Path) -> None:
    """`addsitedir` and not a bare path: the farm's own .pth files (an editable install) then count, too."""
    lines = [f"import site; site.addsitedir({entry!r})" for entry in _farm_packages()]
    (packages / "turbo-inferencia.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
