"""Exceptions become typed failures: the kind decides whether a resumed sweep tries again."""

import json

import pytest
import torch

from farm.errors import ModelNotFound, ModelUnavailable, SweepError, Unsupported
from farm.records import Status
from jobs.failures import classify, poisons


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error with a traceback, as the worker sees it."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


DEVICE_FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
HOST_FULL = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]
DEVICE_FAULTS = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
]
HARMLESS = [ValueError("bad value"), RuntimeError("shape mismatch"), ModelUnavailable("no network"), KeyError("x")]


@pytest.mark.parametrize("error", DEVICE_FULL, ids=str)
def test_device_memory_is_a_finding_and_poisons(error: BaseException) -> None:
    assert classify(raised(error))[0] is Status.OOM
    assert poisons(error)


@pytest.mark.parametrize("error", HOST_FULL, ids=lambda e: type(e).__name__)
def test_host_memory_is_told_from_device_memory(error: BaseException) -> None:
    assert classify(raised(error))[0] is Status.HOST_OOM
    assert poisons(error)


def test_a_real_failed_host_allocation() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert classify(caught.value)[0] is Status.HOST_OOM


@pytest.mark.parametrize("error", DEVICE_FAULTS, ids=str)
def test_device_faults_are_errors_that_poison(error: BaseException) -> None:
    assert classify(raised(error))[0] is Status.ERROR
    assert poisons(error)


@pytest.mark.parametrize("error", [Unsupported("no kernel"), ModelNotFound("no such model")], ids=str)
def test_unsupported_is_a_finding(error: BaseException) -> None:
    assert classify(raised(error))[0] is Status.UNSUPPORTED
    assert not poisons(error)


@pytest.mark.parametrize("error", HARMLESS, ids=str)
def test_everything_else_is_an_error_and_the_process_goes_on(error: BaseException) -> None:
    assert classify(raised(error))[0] is Status.ERROR
    assert not poisons(error)


def test_the_cause_counts_when_a_library_wraps_it() -> None:
    wrapped = raised(ValueError("loading failed"), cause=torch.OutOfMemoryError("CUDA out of memory"))
    assert classify(wrapped)[0] is Status.OOM
    assert poisons(wrapped)


def test_a_suppressed_context_does_not_count() -> None:
    try:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError:
            raise ValueError("another matter") from None
    except ValueError as error:
        assert classify(error)[0] is Status.ERROR


def test_an_error_that_is_its_own_cause_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not poisons(first)


def test_the_message_is_one_line_and_bounded() -> None:
    _, failure = classify(raised(ValueError("first\n  second\n\nthird")))
    assert failure.message == "first second third"
    assert failure.exception == "ValueError"
    _, failure = classify(raised(ValueError("x" * 2000)))
    assert len(failure.message) == 500
    assert failure.message.endswith("...")


def test_an_error_without_a_message_gets_its_name() -> None:
    assert classify(raised(MemoryError()))[1].message == "MemoryError"


def test_access_tokens_are_taken_out() -> None:
    secret = "hf_" + "Ab12" * 8
    _, failure = classify(raised(SweepError(f"401 for url with {secret}"), cause=OSError(f"header {secret}")))
    assert secret not in json.dumps([failure.message, failure.traceback])
    assert "***" in failure.message


def test_a_token_cut_by_the_limit_is_gone_too() -> None:
    secret = "hf_" + "Ab12" * 8
    for padding in range(3970, 4010, 3):
        _, failure = classify(raised(ValueError(secret + "." * padding)))
        assert failure.traceback is not None
        assert "Ab12" not in failure.traceback


def test_the_traceback_keeps_its_end() -> None:
    def deep(n: int) -> None:
        if n == 0:
            raise ValueError("the end of it")
        deep(n - 1)

    with pytest.raises(ValueError, match="the end") as caught:
        deep(200)
    text = classify(caught.value)[1].traceback
    assert text is not None
    assert len(text) <= 4000
    assert text.rstrip().endswith("ValueError: the end of it")
