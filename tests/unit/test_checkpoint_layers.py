"""Codes of GPTQ and AWQ layers, packed here by hand as the formats have them, come out as ours: the same numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from farm.errors import Unsupported
from jobs import refusals
from jobs.engines.turbo import _loaded_as
from jobs.refusals import why_refused
from jobs.turbo.checkpoint_layers import CHECKPOINT_CONVERTERS, awq_weight, gptq_weight
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.layers import linear_weight
from jobs.turbo.recipe import Recipe, recipe_for
from jobs.turbo.weights import Dense, Int4, dequantize, unpack_int4
from tests.unit.sweeps import cells

ROWS, COLUMNS, GROUP = 24, 64, 16
GROUPS = COLUMNS // GROUP
AWQ_PLACES = (0, 2, 4, 6, 1, 3, 5, 7)  # which of 8 outputs the nibbles of a word hold, the lowest first


def packed(codes: Tensor, places: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """Eight neighbours of the last dimension to a word of 32 bits, one after another."""
    words = []
    for row in codes.tolist():
        for start in range(0, len(row), 8):
            word = sum(row[start + place] << (4 * nibble) for nibble, place in enumerate(places))
            words.append(word - (1 << 32) if word >> 31 else word)
    return torch.tensor(words, dtype=torch.int32).view(len(codes), -1)


class Packed(nn.Module):
    """What gptqmodel's layers hold that a converter reads."""

    def __init__(self, codes: Tensor, zeros: Tensor, scales: Tensor, group: int = GROUP) -> None:
        """Codes [out, in]; zeros and scales [out, groups]."""
        super().__init__()
        self.out_features, self.in_features = codes.shape
        self.bits, self.group_size, self.bias = 4, group, None
        self.expected = (codes - zeros.repeat_interleave(group, 1)) * scales.float().repeat_interleave(group, 1)
        self.register_buffer("scales", scales.T.contiguous())
        self._pack(codes, zeros)

    def _pack(self, codes: Tensor, zeros: Tensor) -> None:
        raise NotImplementedError


class TorchLinear(Packed):
    """GPTQ: along the inputs."""

    def _pack(self, codes: Tensor, zeros: Tensor) -> None:
        self.register_buffer("qweight", packed(codes).T.contiguous())
        self.register_buffer("qzeros", packed(zeros.T))
        self.register_buffer("g_idx", torch.arange(self.in_features, dtype=torch.int32) // self.group_size)


class AwqTorchLinear(Packed):
    """Along the outputs, in AWQ's order."""

    def _pack(self, codes: Tensor, zeros: Tensor) -> None:
        self.register_buffer("qweight", packed(codes.T, AWQ_PLACES))
        self.register_buffer("qzeros", packed(zeros.T, AWQ_PLACES))


Kind = type[Packed]
TURBO: Any = {"models": ["random:llama-3-8b"], "engines": ["turbo"]}
KINDS = pytest.mark.parametrize("kind", [TorchLinear, AwqTorchLinear])


def made(kind: Kind, zeros: str = "any", rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> Packed:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (rows, columns), generator=generator)
    shape = (rows, columns // GROUP)
    points = torch.full(shape, 8) if zeros == "middle" else torch.randint(0, 16, shape, generator=generator)
    scales = (torch.rand(shape, generator=generator) + 0.5).mul(0.05).half()
    return kind(codes, points, scales)


@KINDS
@pytest.mark.parametrize("zeros", ["middle", "any"])
def test_the_weights_are_those_of_the_checkpoint_to_the_last_bit(kind: Kind, zeros: str) -> None:
    layer = made(kind, zeros)
    weight = linear_weight(layer)
    assert isinstance(weight, Int4)
    assert torch.equal(dequantize(weight, torch.float32), layer.expected)
    assert (weight.group, weight.shape, weight.scales.dtype) == (GROUP, (ROWS, COLUMNS), torch.float16)
    assert (weight.zeros is None) == (zeros == "middle"), "the kernels without zero points are faster"


@KINDS
def test_one_zero_point_that_is_not_the_middle_is_enough(kind: Kind) -> None:
    zeros = torch.full((ROWS, GROUPS), 8)
    zeros[ROWS - 1, GROUPS - 1] = 7
    layer = kind(torch.full((ROWS, COLUMNS), 9), zeros, torch.ones(ROWS, GROUPS).half())
    weight = linear_weight(layer)
    assert isinstance(weight, Int4) and weight.zeros is not None
    assert weight.zeros.dtype == weight.scales.dtype and weight.zeros.sum() == 8 * ROWS * GROUPS - 1
    assert torch.equal(dequantize(weight, torch.float32), layer.expected)


@pytest.mark.parametrize(("kind", "convert"), [(TorchLinear, gptq_weight), (AwqTorchLinear, awq_weight)])
def test_what_fills_the_last_words_is_left_out(kind: Kind, convert: Callable[[Any], Int4]) -> None:
    """Outputs that are no multiple of 8 leave nibbles of the zero points' last word over."""
    layer = made(kind)
    expected = layer.expected[: ROWS - 3]
    layer.out_features = ROWS - 3
    layer.scales = layer.scales[:, : ROWS - 3].contiguous()
    if kind is TorchLinear:
        layer.qweight = layer.qweight[:, : ROWS - 3].contiguous()
    weight = convert(layer)
    assert unpack_int4(weight).shape == (ROWS - 3, COLUMNS)
    assert torch.equal(dequantize(weight, torch.float32), expected)


def test_inputs_out_of_order_are_refused_and_all_in_order_are_not() -> None:
    layer = made(TorchLinear)
    layer.g_idx[[0, COLUMNS - 1]] = layer.g_idx[[COLUMNS - 1, 0]]
    with pytest.raises(Unsupported, match="desc_act") as told:
        linear_weight(layer)
    assert "\n" not in str(told.value) and "use engine eager" in str(told.value)


@KINDS
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("bits", 8, "codes of 8 bits"),
        ("linear_mode", "inference", "has been run"),
        ("qweight", torch.zeros(8, 8, dtype=torch.int16), "32-bit words"),
        ("online_full_had", True, "rotates"),
        ("adapter", object(), "adapter"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(kind: Kind, name: str, value: object, told: str) -> None:
    layer = made(kind)
    setattr(layer, name, value)
    with pytest.raises(Unsupported, match=told):
        linear_weight(layer)


# --- in a model


def tiny() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    more = {"num_hidden_layers": 2, "vocab_size": 96, "max_position_embeddings": 64, "initializer_range": 0.3}
    nothing = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return Qwen2ForCausalLM(Qwen2Config(**sizes, **more, **nothing)).eval()


@torch.no_grad()
def pair(kind: Kind, kept: tuple[str, ...] = (), biases: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")) -> Any:
    """A model of packed layers, and a dense one of what they stand for; `kept`: layers that are dense in both."""
    model, reference = tiny(), tiny()
    for seed, (name, linear) in enumerate(list(reference.model.layers.named_modules())):
        if not isinstance(linear, nn.Linear):
            continue
        if linear.bias is not None:
            linear.bias.copy_(torch.randn_like(linear.bias).half())
        last = name.rpartition(".")[2]
        if last in kept:
            continue
        layer = made(kind, rows=linear.out_features, columns=linear.in_features, seed=seed)
        linear.weight.copy_(layer.expected)
        if linear.bias is not None and last in biases:
            layer.bias = linear.bias.detach().half()  # another type than the model's
        elif linear.bias is not None:
            linear.bias.zero_()
        model.model.layers.set_submodule(name, layer)
    return model, reference


@KINDS
@pytest.mark.parametrize("biases", [("q_proj", "k_proj", "v_proj"), ("k_proj",), ()], ids=len)
def test_a_model_of_such_layers_answers_as_its_dequantized_weights(kind: Kind, biases: tuple[str, ...]) -> None:
    model, reference = pair(kind, biases=biases)
    decoder = TurboDecoder(model, Recipe("int4", "dense", from_checkpoint=True))
    ids = torch.randint(0, 96, (2, 9))
    found, expected = decoder.logits(ids), reference(ids).logits
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-3, rtol=1e-4)
    assert {type(weight) for layer in decoder.weights.layers for weight in layer.linears} == {Int4}
    assert (decoder.weights.layers[0].qkv_bias is None) == (biases == ())


def test_a_layer_that_the_checkpoint_keeps_dense_stays_so() -> None:
    """Rounding it here would be a quantization that the checkpoint does not have."""
    model, reference = pair(TorchLinear, kept=("down_proj",))
    for layer, other in zip(model.model.layers, reference.model.layers, strict=True):
        layer.mlp.down_proj.load_state_dict(other.mlp.down_proj.state_dict())
    decoder = TurboDecoder(model, Recipe("int4", "dense", from_checkpoint=True))
    assert isinstance(decoder.weights.layers[0].down, Dense)
    ids = torch.randint(0, 96, (1, 9))
    assert torch.allclose(decoder.logits(ids), reference(ids).logits, atol=1e-3, rtol=1e-4)


# --- by name


def test_the_recipe_leaves_the_kernel_to_the_engine() -> None:
    assert recipe_for("gptq?group_size=64") == Recipe("int4", "int8", 64, from_checkpoint=True)
    assert recipe_for("awq?kernel=auto") == Recipe("int4", "int8", 128, from_checkpoint=True)
    with pytest.raises(Unsupported, match=r"gptq\?kernel=marlin: the turbo engine has kernels of its own; leave the"):
        recipe_for("gptq?kernel=marlin")
    with pytest.raises(Unsupported, match="int4wo, gptq, awq"):
        recipe_for("hqq")


@pytest.mark.parametrize(
    ("device", "loaded"), [("cpu", "awq?group_size=64"), ("cuda", "awq?group_size=64&kernel=triton")]
)
def test_it_is_loaded_with_a_kernel_whose_layers_can_be_read(device: str, loaded: str) -> None:
    (load, *_) = {cell.load for cell in cells(**TURBO, quantizations=["awq?group_size=64"])}
    load = replace(load, device=device)
    assert _loaded_as(load, recipe_for(load.quantization)) == loaded
    assert set(CHECKPOINT_CONVERTERS) >= {"TritonV2Linear", "AwqGEMMTritonLinear", "TorchAtenLinear"}


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        ("gptq?group_size=64", None),
        ("awq", None),
        ("int4wo", None),
        ("nf4", "unknown quantization 'nf4'"),
        ("gptq?kernel=triton", "leave the kernel out"),
    ],
)
def test_a_sweep_is_told_before_anything_is_loaded(quantization: str, told: str | None) -> None:
    (cell, *_) = cells(**TURBO, quantizations=[quantization], cache_modes=["on"])
    reason = why_refused(cell)
    assert reason is None if told is None else told in (reason or "")


def test_a_missing_package_is_told_of_turbo_as_of_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.quantization.base.find_spec", lambda name: None if name == "gptqmodel" else True)
    (cell, *_) = cells(**TURBO, quantizations=["gptq"], cache_modes=["on"])
    assert "pip install gptqmodel" in (refusals.why_refused(cell) or "")
    (cell, *_) = cells(**TURBO, quantizations=["int4wo"], cache_modes=["on"])
    assert refusals.why_refused(cell) is None
