"""A whole decode step of Llama-3-8B with random weights at position 2,047: what the sum of the parts really takes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from jobs.turbo import kernels
from jobs.turbo.kernels import configs
from jobs.turbo.kernels.configs import Attention, Gemv
from tests.perf.turbo_kernels.shapes import DIM, HIDDEN, KV_HEADS, SHAPES
from tests.perf.turbo_kernels.small import MODES
from tests.perf.turbo_kernels.timing import attempt, graph_us
from tests.perf.turbo_kernels.variants import DEVICE, DTYPE, GEMVS, KINDS, make

LAYERS, _MAX_LEN, _POSITION = 32, 2304, 2047


@dataclass(frozen=True, slots=True)
class Way:
    """How a token is computed: bits of the head, fused products or single kernels, programmatic launch."""

    kind: str
    head: str
    fused: bool
    programmatic: bool


def ways() -> Iterator[Way]:
    for kind in KINDS:
        heads = {"dense": ("dense",), "int8": ("int8", "dense"), "int4": ("int8", "dense", "int4")}[kind]
        for fused, programmatic in ((True, True), (False, True), (True, False), (False, False)):
            yield Way(kind, heads[0], fused, programmatic)
        yield from (Way(kind, head, True, True) for head in heads[1:])


class Token:
    """The weights and caches of a model. Embedding left out: one row."""

    def __init__(self, kind: str, layers: int = LAYERS) -> None:
        self.layers = [{shape: make(kind, shape) for shape in ("qkv", "o", "gate_up", "down")} for _ in range(layers)]
        self.heads = {way.head: make(way.head, "head") for way in ways() if way.kind == kind}
        size = (2, 1, KV_HEADS, _MAX_LEN, DIM)
        self.caches = [torch.randn(size, dtype=DTYPE, device=DEVICE) for _ in range(layers)]
        self.cos, self.sin = torch.randn(2, _MAX_LEN, DIM, dtype=DTYPE, device=DEVICE)
        self.norm = kernels.Norm(torch.ones(HIDDEN, dtype=DTYPE, device=DEVICE), 1e-5)
        self.start = torch.randn(1, HIDDEN, dtype=DTYPE, device=DEVICE)
        self.position, self.length = (torch.tensor([at], device=DEVICE) for at in (_POSITION, _POSITION + 1))

    def step(self, way: Way) -> Tensor:
        x = self._fused() if way.fused else self._single()
        return kernels.linear(x, self.heads[way.head]).argmax(dim=-1)

    def _fused(self) -> Tensor:
        """Five kernels a layer and one or two of attention."""
        x = self.start
        for layer, cache in zip(self.layers, self.caches, strict=True):
            attended = self._attend(kernels.fused_linear(x, layer["qkv"], self.norm), cache)
            x = kernels.fused_linear(attended, layer["o"], residual=x)
            inner = kernels.fused_linear(x, layer["gate_up"], self.norm, glu=True)
            x = kernels.fused_linear(inner, layer["down"], residual=x)
        return kernels.rms_norm(x, self.norm.weight, self.norm.eps)[0]

    def _single(self) -> Tensor:
        """Eight kernels a layer and one or two of attention."""
        x, residual = self.start, None
        for layer, cache in zip(self.layers, self.caches, strict=True):
            normed, residual = kernels.rms_norm(x, self.norm.weight, self.norm.eps, residual)
            x = kernels.linear(self._attend(kernels.linear(normed, layer["qkv"]), cache), layer["o"])
            normed, residual = kernels.rms_norm(x, self.norm.weight, self.norm.eps, residual)
            x = kernels.linear(kernels.silu_mul(kernels.linear(normed, layer["gate_up"])), layer["down"])
        return kernels.rms_norm(x, self.norm.weight, self.norm.eps, residual)[0]

    def _attend(self, qkv: Tensor, cache: Tensor) -> Tensor:
        keys, values = cache
        query = kernels.rope_and_append(qkv, self.cos, self.sin, self.position, keys, values)
        return kernels.decode_attention(query, keys, values, self.length, DIM**-0.5)


def use_cuts(gemvs: dict[str, str], attention: str) -> None:
    """Let the kernels take the winners: `gemvs` by "kind shape" and the attention's cut, as text of their own repr."""

    def gemv_config(kind: str, rows: int, columns: int) -> Gemv:
        shape = next(name for name, size in SHAPES.items() if size == (rows, columns))
        return eval(gemvs[f"{kind} {shape}"]) if f"{kind} {shape}" in gemvs else GEMVS[kind][0]

    def attention_config(pairs: int, max_len: int) -> Attention:
        return eval(attention)

    configs.gemv_config, configs.attention_config = gemv_config, attention_config


def time_tokens(deadline: float, say: Callable[[str], None]) -> dict[str, float | str]:
    """Milliseconds of a token by way."""
    found: dict[str, float | str] = {}
    model: Token | None = None
    for index, way in enumerate(ways()):
        if time.perf_counter() > deadline:
            found[str(way)] = "not tried: out of time"
            continue
        if model is None or way.kind != kind_of(index - 1):
            model = None  # the old one's memory first
            model = Token(way.kind)
        configs.PROGRAMMATIC_LAUNCH = way.programmatic
        us, failure = attempt(partial(graph_us, partial(model.step, way)))
        found[str(way)] = failure or us / 1e3
        say(f"token: {way}: {failure or round(us / 1e3, 3)} ms")
    configs.PROGRAMMATIC_LAUNCH = MODES[0][0]
    return found


def kind_of(index: int) -> str:
    return list(ways())[index].kind
