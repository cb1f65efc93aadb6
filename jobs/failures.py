"""From an exception to a typed failure: what a sweep does next depends on the kind, not on the traceback.

Why: "does not fit" and "cannot run here" are findings that a resumed sweep must not repeat; a lost network is not. The
message goes into tables, so it is one line; tracebacks may hold an access token, so it is taken out.

    status, failure = classify(error)
    if poisons(error): ...              # this process must not measure again
"""

import re
import sys
import traceback
from collections.abc import Iterator

from farm.errors import FarmError, Unsupported
from farm.records import Failure, Status
from farm.redact import redacted

_MESSAGE_CHARS = 500
_TRACEBACK_CHARS = 4000
# torch raises a plain RuntimeError where a library underneath runs out: cuBLAS for its handle, the driver itself.
_DEVICE_FULL = re.compile(r"out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED", re.IGNORECASE)
_HOST_FULL = re.compile(r"DefaultCPUAllocator: can't allocate memory|Cannot allocate memory")
_DEVICE_FAULT = re.compile(r"CUDA error|CUDA driver error|CUBLAS_STATUS_|CUDNN_STATUS_|CUSPARSE_STATUS_|NCCL error")


def classify(error: BaseException) -> tuple[Status, Failure]:
    """The status of a failed attempt, and what to write about it."""
    text = "".join(traceback.format_exception(error))
    failure = Failure(
        message=_one_line(error),
        exception=type(error).__name__,
        traceback=redacted(text)[-_TRACEBACK_CHARS:],
    )
    return _status(error), failure


def poisons(error: BaseException) -> bool:
    """True after running out of memory and after any device error: allocator or context can no longer be trusted."""
    return any(_is_full(link) or _is_device_fault(link) for link in _chain(error))


def _status(error: BaseException) -> Status:
    if isinstance(error, Unsupported):
        return Status.UNSUPPORTED
    if isinstance(error, FarmError):
        return Status.ERROR
    links = list(_chain(error))
    if any(_is_device_full(link) for link in links):
        return Status.OOM
    return Status.HOST_OOM if any(_is_host_full(link) for link in links) else Status.ERROR


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those it came from: libraries wrap the one that matters."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _is_full(error: BaseException) -> bool:
    return _is_device_full(error) or _is_host_full(error)


def _is_device_full(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # not imported: then the error is not torch's, and seconds are saved
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and not _is_host_full(error) and bool(_DEVICE_FULL.search(str(error)))


def _is_host_full(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_HOST_FULL.search(str(error))))


def _is_device_fault(error: BaseException) -> bool:
    if type(error).__name__ == "AcceleratorError":  # by name: torch has it since 2.8
        return True
    return isinstance(error, RuntimeError) and bool(_DEVICE_FAULT.search(str(error)))


def _one_line(error: BaseException) -> str:
    text = " ".join(redacted(str(error)).split()) or type(error).__name__
    return text if len(text) <= _MESSAGE_CHARS else text[: _MESSAGE_CHARS - 3] + "..."
