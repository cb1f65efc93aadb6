"""The persistent step on a CPU: its CUDA source compiled by g++, each thread a fiber (`emulated.h`).

kernel = emulated_kernel(build, folder)     # for `PersistentStep`
"""

import ctypes
import subprocess
from pathlib import Path

from jobs.turbo.persistent.build import Build, source
from jobs.turbo.persistent.step import Kernel

HERE = Path(__file__).parent


def emulated_kernel(build: Build, folder: Path) -> Kernel:
    """Compile for this build into `folder`. Raises CalledProcessError with the compiler's words."""
    code, library = folder / "step.cpp", folder / "step.so"
    code.write_text(source(HERE / "emulated.h") + (HERE / "emulated.cpp").read_text(encoding="utf-8"), encoding="utf-8")
    command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", *build.defines, "-o", str(library), str(code)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    run = ctypes.CDLL(str(library)).run_decode_step

    def kernel(table: int) -> None:
        assert run(ctypes.c_void_p(table)) == 0, "the threads wait for each other for ever"

    return kernel
