"""A transformers model's weights, taken over layer by layer: fused, quantized, and the old ones freed on the way.

Why fuse: q, k and v read the same input, gate and up too. Seven matrices a layer become four, so a decode step has
fewer and larger kernels; at batch 1 a small one ends before the memory system is busy.

Why layer by layer: the model is 16 GB in 16 bit. Each of its layers is taken out before the next is converted, so the
peak is one model and one layer. Afterwards the transformers model is an empty shell: it must not be run any more.

    taken = take_model(model, Recipe("int8"))       # model.model.layers[0] is gone
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from farm.errors import Unsupported
from jobs.turbo.checkpoint_layers import CHECKPOINT_CONVERTERS
from jobs.turbo.recipe import Recipe
from jobs.turbo.weights import Dense, Weight, concat


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer. Weights are [out, in]; norms [hidden], or [head_dim] for those of queries and keys."""

    attention_norm: Tensor
    qkv: Weight
    qkv_bias: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Weight
    mlp_norm: Tensor
    gate_up: Weight
    down: Weight

    @property
    def linears(self) -> tuple[Weight, ...]:
        return self.qkv, self.out, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class Taken:
    """All weights of a model. `embedding` [vocab, hidden] and a dense `head` may be one tensor (tied)."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Weight

    @property
    def linears(self) -> list[Weight]:
        return [*(weight for layer in self.layers for weight in layer.linears), self.head]

    def tensors(self) -> Iterator[Tensor]:
        """Everything that takes memory; a tied tensor comes twice."""
        yield from (self.embedding, self.norm)
        for layer in self.layers:
            yield from tensors_of(layer)
        yield from tensors_of(self.head)


@torch.no_grad()
def take_model(model: Any, recipe: Recipe) -> Taken:
    """Empty the model into a `Taken`. Raises Unsupported for a linear layer of an unknown class."""
    embedding = model.get_input_embeddings().weight.detach()
    layers = []
    for index in range(len(model.model.layers)):
        old = model.model.layers[index]
        layers.append(_take_layer(old, recipe))
        model.model.layers[index] = nn.Module()
        old.to_empty(device="meta")  # frees what is not taken; gptqmodel's layers refer to themselves, and would linger
    head = recipe.quantize_head(linear_weight(model.lm_head))
    model.lm_head = nn.Module()
    return Taken(embedding, tuple(layers), model.model.norm.weight.detach(), head)


def linear_weight(module: nn.Module) -> Weight:
    """What a linear module holds, as our kernels read it; the seam where quantized checkpoints come in.

    Raises Unsupported for a class that nobody has taught it: then the checkpoint cannot be decoded here.
    """
    convert = CONVERTERS.get(type(module).__name__)
    if convert is None:
        known = ", ".join(sorted(CONVERTERS))
        raise Unsupported(
            f"the turbo engine cannot take weights from {type(module).__name__}, known are: {known}; load the "
            "model in a dense precision, or use engine eager"
        )
    return convert(module)


def _dense(module: Any) -> Weight:
    return Dense(module.weight.detach())


# By the class's name, so that no quantization library needs to be imported to know its layers.
CONVERTERS: dict[str, Callable[[Any], Weight]] = {"Linear": _dense, **CHECKPOINT_CONVERTERS}


def _take_layer(layer: Any, recipe: Recipe) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    heads = [attention.q_proj, attention.k_proj, attention.v_proj]
    return Layer(
        attention_norm=layer.input_layernorm.weight.detach(),
        qkv=_fused(heads, recipe),
        qkv_bias=_fused_bias(heads, layer.input_layernorm.weight.dtype),
        query_norm=_norm_or_none(attention, "q_norm"),
        key_norm=_norm_or_none(attention, "k_norm"),
        out=recipe.quantize_layer(linear_weight(attention.o_proj)),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=_fused([mlp.gate_proj, mlp.up_proj], recipe),
        down=recipe.quantize_layer(linear_weight(mlp.down_proj)),
    )


def _fused(modules: list[nn.Module], recipe: Recipe) -> Weight:
    """Quantized one by one: scales belong to an output row or to a piece of one, so fusing changes none."""
    return concat([recipe.quantize_layer(linear_weight(module)) for module in modules])


def _fused_bias(modules: list[Any], dtype: torch.dtype) -> Tensor | None:
    """None where no module has one. A quantized layer may keep its bias in another type than the model computes in."""
    biases = [module.bias for module in modules]
    known = next((bias for bias in biases if bias is not None), None)
    if known is None:
        return None
    pairs = zip(modules, biases, strict=True)
    rows = [known.new_zeros(module.out_features) if bias is None else bias.detach() for module, bias in pairs]
    return torch.cat(rows).to(dtype)


def _norm_or_none(attention: Any, name: str) -> Tensor | None:
    norm = getattr(attention, name, None)
    return None if norm is None else norm.weight.detach()


def tensors_of(holder: Any) -> Iterator[Tensor]:
    """The tensors in a dataclass, those of dataclasses inside it included."""
    for field in fields(holder):
        value = getattr(holder, field.name)
        if isinstance(value, Tensor):
            yield value
        elif hasattr(value, "__dataclass_fields__"):
            yield from tensors_of(value)
