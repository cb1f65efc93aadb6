"""gpt-fast's method as a peer of the turbo engine: a compact decoder in plain torch, its step compiled, a static cache.

What is taken of the method: fused matrices, INT8 as `linear(x, codes) * scales`, INT4 by torch's tinygemm (bfloat16),
the step compiled with coordinate descent (which makes a product with one row a reduction), the prompt not compiled.
What differs, to save minutes: a layer is compiled once and called for each, where gpt-fast compiles the whole unrolled
step (50 to 113 s a precision on an H100), and the step is captured here; that costs the peer a kernel more a layer. The
prompt is captured too, and has flash attention: the peer gains by both.

    engine = PeerEngine(PlainDecoder(model, recipe_for("int8wo")), stopwatch_for("cuda"))
    engine.begin([[1, 2, 3]], "on", new_tokens=8)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from jobs.engines.base import Stopwatch, TokenIds
from jobs.engines.turbo import TurboGeneration
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.kernels.reference import rms_norm, rope_and_append, silu_mul
from jobs.turbo.layers import Layer
from jobs.turbo.recipe import Recipe
from jobs.turbo.shape import Shape
from jobs.turbo.slots import Slots
from jobs.turbo.step import DecodeState
from jobs.turbo.weights import Dense, Int4, Int8, Weight, unpack_int4

_INNER_K_TILES = 8  # of tinygemm's layout
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True, slots=True)
class Tinygemm:
    """4-bit codes in torch's own layout; `scales`: [in / group, out, 2], with what is added to (code - 8) * scale."""

    packed: Tensor
    scales: Tensor
    group: int


class PlainDecoder(TurboDecoder):
    """Takes a model as the turbo engine does; batch 1. `compiler`: what makes a step's layer and head fast."""

    def __init__(self, model: Any, recipe: Recipe, compiler: Callable[[Any], Any] | None = None) -> None:
        super().__init__(model, recipe, one_kernel=False)
        compiler = compiler or _compiled
        layers = tuple(_in_torchs_layout(layer) for layer in self.weights.layers)
        self.weights = replace(self.weights, layers=layers)
        self._fast_layer, self._fast_head = compiler(_layer), compiler(_head_of)

    @torch.inference_mode()
    def prefill(self, ids: Tensor, cache: KvCache) -> Tensor:
        positions = torch.arange(ids.shape[1], device=self.device)
        x = functional.embedding(ids.flatten(), self.weights.embedding)
        for index, layer in enumerate(self.weights.layers):
            rows = self.table.rows(len(positions))
            x = _layer(self.shape, layer, x, rows, positions, cache.layer(index), _attend_prompt)
        return _head_of(self.shape, self.weights.norm, self.weights.head, x[-1:])

    def stepper(self, rows: tuple[Tensor, Tensor], state: DecodeState, cache: KvCache) -> Callable[[], None]:
        @torch.inference_mode()
        def step() -> None:
            x = functional.embedding(state.token, self.weights.embedding)
            for index, layer in enumerate(self.weights.layers):
                x = self._fast_layer(self.shape, layer, x, rows, state.positions, cache.layer(index), _attend_token)
            state.take_next(self._fast_head(self.shape, self.weights.norm, self.weights.head, x))

        return step


class PeerEngine:
    """Of the engine protocol what timing needs."""

    def __init__(self, decoder: PlainDecoder, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch
        self._slots = Slots(decoder)

    @property
    def ready_s(self) -> float:
        """Compilation included."""
        return self._slots.ready_s

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> TurboGeneration:
        return TurboGeneration(self._slots.get(1, len(token_ids[0]) + new_tokens), token_ids, new_tokens)


def _compiled(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, dynamic=False, options={"coordinate_descent_tuning": True})


def _layer(
    shape: Shape,
    layer: Layer,
    x: Tensor,
    rows: tuple[Tensor, Tensor],
    positions: Tensor,
    cache: tuple[Tensor, Tensor],
    attend: Attend,
) -> Tensor:
    normed, _ = rms_norm(x, layer.attention_norm, shape.norm_eps)
    query = rope_and_append(_product(normed, layer.qkv), *rows, positions, *cache)
    x = x + _product(attend(query, *cache, positions, shape.scale), layer.out)
    normed, _ = rms_norm(x, layer.mlp_norm, shape.norm_eps)
    return x + _product(silu_mul(_product(normed, layer.gate_up)), layer.down)


def _head_of(shape: Shape, norm: Tensor, head: Weight, x: Tensor) -> Tensor:
    return _product(rms_norm(x, norm, shape.norm_eps)[0], head)


def _attend_prompt(query: Tensor, keys: Tensor, values: Tensor, positions: Tensor, scale: float) -> Tensor:
    """[tokens, heads, dim] in, [tokens, heads * dim] out; the prompt stands at the cache's first rows."""
    tokens = len(query)
    keys, values = keys[:, :, :tokens], values[:, :, :tokens]
    attended = functional.scaled_dot_product_attention(
        query.transpose(0, 1)[None], keys, values, is_causal=True, scale=scale, enable_gqa=True
    )
    return attended[0].transpose(0, 1).reshape(tokens, -1)


def _attend_token(query: Tensor, keys: Tensor, values: Tensor, positions: Tensor, scale: float) -> Tensor:
    """Over the whole static cache, with what is beyond the position masked; a key's query heads side by side."""
    grouped = query.view(keys.shape[1], -1, query.shape[-1])
    beyond = torch.arange(keys.shape[2], device=keys.device) > positions
    scores = (grouped @ keys[0].transpose(1, 2) * scale).float().masked_fill(beyond, float("-inf"))
    return (scores.softmax(-1).to(values.dtype) @ values[0]).view(1, -1)


def _product(x: Tensor, weight: Weight | Tinygemm) -> Tensor:
    if isinstance(weight, Dense):
        return functional.linear(x, weight.weight)
    if isinstance(weight, Int8):
        return functional.linear(x, weight.codes.to(x.dtype)) * weight.scales
    assert isinstance(weight, Tinygemm)
    multiply = torch.ops.aten._weight_int4pack_mm
    if x.device.type == "cpu":
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    product: Tensor = multiply(x, weight.packed, weight.group, weight.scales)
    return product


def _in_torchs_layout(layer: Layer) -> Any:
    found: dict[str, Any] = {name: _tinygemm(getattr(layer, name)) for name in ("qkv", "out", "gate_up", "down")}
    return replace(layer, **found)


def _tinygemm(weight: Weight) -> Weight | Tinygemm:
    """Ours are symmetric about code 8, as tinygemm's are: nothing is added."""
    if not isinstance(weight, Int4):
        return weight
    codes, scales = unpack_int4(weight), weight.scales.T
    if codes.device.type == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), _INNER_K_TILES)
    else:  # two codes a byte, the first in the high half
        pairs = codes[:, ::2] << 4 | codes[:, 1::2]
        packed = torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), _INNER_K_TILES)
    return Tinygemm(packed, torch.stack([scales, torch.zeros_like(scales)], dim=-1).contiguous(), weight.group)
