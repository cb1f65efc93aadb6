"""From the kernel's source to a launch: compiled at run time by NVRTC, which torch's CUDA builds bring with them.

Why not a compiler on the machine: a GPU host has a driver, seldom a CUDA toolkit. A compiled kernel is kept on disk by
the hash of all that made it; compiling takes about three seconds, loading none.

    kernel = compiled_kernel(build, torch.device("cuda"))
    kernel(table.data_ptr())
"""

import ctypes
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from jobs.models.cache import cache_root
from jobs.turbo.persistent.build import Build, source
from jobs.turbo.persistent.step import Kernel

_NAME = b"decode_step"
_LEAST_CAPABILITY = (9, 0)  # the bulk copy engine


def why_no_kernel(device: torch.device) -> str | None:
    """None where the persistent step can run."""
    if device.type != "cuda":
        return "it runs on a GPU"
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return "it needs the bulk copy engine of compute capability 9.0"
    try:
        import cuda.bindings.driver
        import cuda.bindings.nvrtc  # noqa: F401
    except ImportError:
        return "it needs the package cuda-bindings"
    return None


@cache
def compiled_kernel(build: Build, device: torch.device) -> Kernel:
    """Raises RuntimeError with the compiler's or the driver's words."""
    from cuda.bindings import driver

    capability = torch.cuda.get_device_capability(device)
    binary = _cached_binary(build, f"sm_{capability[0]}{capability[1]}a")
    torch.cuda.synchronize(device)  # the driver's current context is now this device's
    module = _checked(driver.cuModuleLoadData(binary))
    function = _checked(driver.cuModuleGetFunction(module, _NAME))
    limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _checked(driver.cuFuncSetAttribute(function, limit, build.shared_bytes))

    def launch(table: int) -> None:
        """Cooperative: the driver refuses what would wait for a block that has no room to run."""
        stream = torch.cuda.current_stream(device).cuda_stream
        grid, block = (build.blocks, 1, 1), (build.threads, 1, 1)
        arguments = ((table,), (ctypes.c_void_p,))
        _checked(driver.cuLaunchCooperativeKernel(function, *grid, *block, build.shared_bytes, stream, arguments))

    return launch


def _cached_binary(build: Build, architecture: str) -> bytes:
    """Written aside and renamed: another process never reads half of it."""
    text, options = source(), _options(build, architecture)
    name = hashlib.sha256("\n".join((text, *options, str(_nvrtc_version()))).encode()).hexdigest()
    path = cache_root() / "kernels" / f"{name[:32]}.cubin"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(_compiled(text, options))
        Path(aside).replace(path)
    return path.read_bytes()


def _options(build: Build, architecture: str) -> tuple[str, ...]:
    return (f"--gpu-architecture={architecture}", "--std=c++17", *build.defines)


def _nvrtc_version() -> tuple[int, int]:
    from cuda.bindings import nvrtc

    error, major, minor = nvrtc.nvrtcVersion()
    return (major, minor) if int(error) == 0 else (0, 0)


def _compiled(text: str, options: tuple[str, ...]) -> bytes:
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"step.cu", 0, [], []))
    encoded = [option.encode() for option in options]
    if int(nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)[0]) != 0:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"the persistent decode step does not compile: {log.decode(errors='replace').strip()}")
    binary = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, binary))
    return binary


def _checked(answer: Any) -> Any:
    """The driver's answers are (error, value ...)."""
    error, *values = answer
    if int(error) != 0:
        raise RuntimeError(f"the GPU's driver refused the persistent decode step: {error!r}")
    return values[0] if values else None
