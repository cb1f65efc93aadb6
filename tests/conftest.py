"""What holds for the whole suite: that Triton interprets its kernels where no GPU is, and how the process ends."""

import atexit
import os
import sys

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before any library imports Triton, which reads it then and never again

_status: list[int] = []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    _status.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Python's own clean-up runs, then the process leaves with the suite's verdict. The native libraries of a dozen
    packages in one process were seen to crash while the interpreter took them down: exit code 139 after the summary."""
    if not _status:
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status[-1])
