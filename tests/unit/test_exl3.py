"""EXL3 without a GPU and without exllamav3: what is refused, and what its loader is asked for (a stand-in answers)."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from farm.cells import Load
from farm.errors import Unsupported
from farm.model_ref import parse_model
from farm.quantization import parse_quantization
from jobs.models.sources import Located
from jobs.quantization import base, exl3, why_not
from jobs.quantization.exl3 import BACKEND

WANTED = parse_quantization("exl3")


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))


def found(*packages: str) -> Any:
    return lambda name: SimpleNamespace(name=name) if name in packages else None


def checkpoint(folder: Path, **quantization: object) -> tuple[Located, Load]:
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization} if quantization else {}))
    return Located(str(folder), None, None), Load(parse_model(str(folder)), "exl3", "eager", "cuda")


def test_it_is_refused_on_a_cpu() -> None:
    assert why_not(WANTED, "cpu") == "exllamav3 has kernels for CUDA GPUs only; use gptq, awq, nf4 or hqq"


def test_a_missing_package_and_a_missing_compiler_are_named(on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", found("transformers", "accelerate"))
    assert "pip install exllamav3" in (why_not(WANTED, "cuda") or "")
    monkeypatch.setattr(base, "find_spec", found("transformers", "accelerate", "exllamav3"))
    monkeypatch.setattr(exl3, "find_spec", found())
    monkeypatch.setattr(exl3.shutil, "which", lambda program: None)
    assert "compiled with nvcc on first use, which is not here" in (why_not(WANTED, "cuda") or "")
    monkeypatch.setattr(exl3, "find_spec", found("exllamav3_ext"))
    assert why_not(WANTED, "cuda") is None


def test_a_model_that_is_not_converted_is_refused_with_the_next_step(tmp_path: Path) -> None:
    located, load = checkpoint(tmp_path)
    with pytest.raises(Unsupported, match=r"no EXL3 checkpoint, and the farm makes none; convert it with .*-b 4"):
        BACKEND.load(WANTED, located, load)


def test_another_bitrate_is_not_measured_under_this_name(tmp_path: Path) -> None:
    located, load = checkpoint(tmp_path, quant_method="exl3", bits=3.0)
    with pytest.raises(Unsupported, match=r"is not what exl3 names: it has bits 3\.0"):
        BACKEND.load(WANTED, located, load)


def test_its_quantizer_is_registered_before_transformers_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    package: Any = ModuleType("exllamav3.integration.transformers")
    package.register = lambda: done.append("registered")
    monkeypatch.setitem(sys.modules, "exllamav3", ModuleType("exllamav3"))
    monkeypatch.setitem(sys.modules, "exllamav3.integration", ModuleType("exllamav3.integration"))
    monkeypatch.setitem(sys.modules, "exllamav3.integration.transformers", package)
    monkeypatch.setattr(exl3, "load_pretrained", lambda located, load, dtype: done.append(dtype))
    BACKEND.load(WANTED, *checkpoint(tmp_path, quant_method="exl3", bits=4.0, version="1.6.5"))
    assert done == ["registered", torch.float16]


def test_it_tells_its_weights_the_usual_way_round() -> None:
    class Layer(nn.Module):
        def dequantized_weight(self) -> torch.Tensor:
            return torch.zeros(3, 5)  # [in, out]

    weights = BACKEND.dequantized(Layer())
    assert weights is not None
    assert weights.shape == (5, 3)
    assert BACKEND.dequantized(nn.Linear(3, 5)) is None
