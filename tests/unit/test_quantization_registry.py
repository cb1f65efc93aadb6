"""The registry: every precision of the catalog has one backend, and one file adds another."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import jobs.quantization
from farm.catalog import LEGACY, PRECISIONS
from farm.errors import ModelUnavailable, Unsupported
from farm.quantization import Quantization, parse_quantization
from jobs.quantization import backend_for, backends, base, gptq_awq, usable_backend, why_not

PLUGIN = """
import torch

class Mine:
    names = ("int3",)

    def why_not(self, wanted, device):
        return None

BACKEND = Mine()
"""


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    backends.cache_clear()
    yield
    backends.cache_clear()


def test_every_precision_has_exactly_one_backend() -> None:
    served = [name for backend in backends() for name in backend.names]
    assert sorted(served) == sorted(PRECISIONS)


def test_one_file_adds_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: None) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.setattr(jobs.quantization, "__path__", [*jobs.quantization.__path__, str(tmp_path)])
    assert type(usable_backend(Quantization("int3"), "cpu")).__name__ == "Mine"
    assert backend_for(Quantization("fp16")) is not None


def test_an_unknown_name_is_unsupported_and_lists_the_valid_ones() -> None:
    with pytest.raises(Unsupported, match="int8"):
        backend_for(Quantization("int9"))
    assert "int9" in (why_not(Quantization("int9"), "cpu") or "")


@pytest.mark.parametrize("name", sorted(set(PRECISIONS) - {"int4wo", "exl3", *LEGACY}))
def test_everything_else_runs_on_the_cpu(name: str) -> None:
    wanted = parse_quantization(name)
    assert why_not(wanted, "cpu") is None
    assert usable_backend(wanted, "cpu") is backend_for(wanted)


def test_what_cannot_run_on_the_cpu_says_why_and_what_to_use() -> None:
    with pytest.raises(Unsupported, match=r"int4wo cannot run on cpu here: .* use gptq, awq, nf4 or hqq"):
        usable_backend(parse_quantization("int4wo"), "cpu")


@pytest.mark.parametrize("name", ["int8", "nf4"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda package: None if package == "bitsandbytes" else find_spec(package))
    assert "pip install bitsandbytes" in (why_not(parse_quantization(name), "cpu") or "")
    assert why_not(parse_quantization("fp16"), "cpu") is None
    with pytest.raises(Unsupported, match=f"{name} cannot run on cpu here: .*bitsandbytes"):
        usable_backend(parse_quantization(name), "cpu")


@pytest.mark.parametrize("name", sorted(PRECISIONS))
def test_without_a_gpu_cuda_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in (why_not(parse_quantization(name), "cuda") or "")


def test_an_old_gpu_is_refused_int8_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert "7.5" in (why_not(parse_quantization("int8"), "cuda") or "")
    assert why_not(parse_quantization("nf4"), "cuda") is None
    assert why_not(parse_quantization("bf16"), "cuda") is None


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("fp32", "cuda", torch.float32),
        ("fp16", "cuda", torch.float16),
        ("bf16", "cpu", torch.bfloat16),
        ("int8", "cuda", torch.float16),
        ("int8", "cpu", torch.float32),
        ("nf4", "cuda", torch.bfloat16),
        ("nf4", "cpu", torch.float32),
    ],
)
def test_compute_dtypes(name: str, device: str, dtype: torch.dtype) -> None:
    assert backend_for(parse_quantization(name)).dtype(parse_quantization(name), device) is dtype


def test_asking_is_cheap() -> None:
    code = (
        "import sys; from farm.quantization import parse_quantization as q; from jobs.quantization import why_not;"
        "why_not(q('int8'), 'cpu'); why_not(q('nf4'), 'cuda');"
        "print(sorted({'transformers', 'bitsandbytes', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tensors_that_the_checkpoint_lacks_are_not_random_in_silence() -> None:
    base.check_complete({"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": {"extra"}}, "m")
    with pytest.raises(ModelUnavailable, match=r"lacks 4 tensors .*\(a, b, c, \.\.\.\)"):
        base.check_complete({"missing_keys": {"d", "c", "b", "a"}}, "m")
    with pytest.raises(ModelUnavailable, match="head"):
        base.check_complete({"missing_keys": set(), "mismatched_keys": {("head", (1,), (2,))}}, "m")


def test_out_of_memory_hidden_in_a_log_line_is_brought_back() -> None:
    logger = logging.getLogger("transformers.modeling_utils")
    handlers = list(logger.handlers)
    with pytest.raises(torch.OutOfMemoryError), base._typed_errors("m"):
        logger.warning("CONVERSION | torch.OutOfMemoryError: CUDA out of memory")
        raise RuntimeError("We encountered some issues during automatic conversion of the weights.")
    with pytest.raises(RuntimeError, match="another") as caught, base._typed_errors("m"):
        raise RuntimeError("another matter")
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert logger.handlers == handlers


class _Placed:
    def __init__(self, device_map: Any) -> None:
        self.hf_device_map = device_map


def test_a_model_that_spills_to_the_cpu_does_not_fit() -> None:
    base._check_all_on_gpu(_Placed({"": 0}), "cuda")  # type: ignore[arg-type]
    base._check_all_on_gpu(_Placed({"": "cpu"}), "cpu")  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError):
        base._check_all_on_gpu(_Placed({"model": 0, "lm_head": "cpu"}), "cuda")  # type: ignore[arg-type]


def test_gptqmodel_does_not_choose_a_kernel_that_cannot_be_compiled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = parse_quantization("awq")
    monkeypatch.setattr(gptq_awq, "_can_compile", lambda: False)
    assert backend_for(wanted).linear_classes(wanted, "cuda") == ("AwqGEMMTritonLinear",)
    monkeypatch.setattr(gptq_awq, "_can_compile", lambda: True)
    assert "AwqMarlinLinear" in backend_for(wanted).linear_classes(wanted, "cuda")
