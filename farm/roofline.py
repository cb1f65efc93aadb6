"""How far a measured time is from what the device's memory and arithmetic allow at best: the roofline model.

The physics: a phase must move some bytes and do some FLOPs, so it cannot take less than the longer of
`bytes / bandwidth` and `FLOPs / rate`. One decode step reads every weight but the embedding table (of that one row a
sequence) and the whole KV cache, and is bound by memory; a prompt does the same arithmetic once a token and is bound by
compute. Counted is what *must* be done: no activations, the head for the last prompt position only, causal attention
without its masked half. A real kernel does more, so MBU and MFU are never flattered.

    decode = decode_work(KNOWN["llama-3-8b"], PRECISIONS["fp16"], shape)
    limit_s(decode, limits); bound(decode, limits); mbu(decode, tpot_s, limits)

Sources: Williams, Waterman, Patterson, "Roofline", CACM 52 (2009); FLOPs of a token 2N + 4 * layers * heads *
head_dim * depth, as in PaLM, appendix B (arXiv 2204.02311), forward only; MBU as in Databricks, "LLM Inference
Performance Engineering: Best Practices" (2023), with all bytes of the KV cache and of the step's weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from farm.architectures import Architecture
from farm.device_facts import DeviceLimits

Bound = Literal["memory", "compute"]
# Measured weights this much above the prediction are two copies (one a phase), of which a step reads one.
_SEVERAL_COPIES = 1.25


class Widths(Protocol):
    """Bits of a value: a `farm.catalog.Precision`, or a `farm.quantization.Quantization` with its options."""

    @property
    def linear_bits(self) -> float: ...
    @property
    def other_bits(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Work:
    """What must be moved and computed."""

    bytes: float
    flops: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The generation that is counted. `kv_bits` a cached value, its scale included; None: as many as the model uses."""

    batch: int
    prompt_tokens: int
    new_tokens: int
    cache_on: bool = True
    kv_bits: float | None = None


def step_weight_bytes(architecture: Architecture, widths: Widths, measured_total: int | None = None) -> float:
    """Bytes of the weights that every forward reads: all but the embedding table, which is the head's when tied.

    The measured total is preferred: it has the true scales, and the layers that a backend left in 16 bit. Not when it
    is far above the prediction: an engine that keeps one copy a phase does not read both in one step.
    """
    predicted = architecture.weight_bytes(widths.linear_bits, widths.other_bits)
    trusted = measured_total is not None and measured_total <= _SEVERAL_COPIES * predicted
    total = measured_total if trusted and measured_total is not None else predicted
    table = 0 if architecture.tied_embeddings else architecture.vocab * architecture.hidden
    return total - table * widths.other_bits / 8


def prefill_work(architecture: Architecture, widths: Widths, shape: Shape, measured_total: int | None = None) -> Work:
    """One forward over the prompts. With the cache on, keys and values are written once."""
    weights = step_weight_bytes(architecture, widths, measured_total)
    return _forward(architecture, widths, shape, shape.prompt_tokens, weights)


def decode_work(
    architecture: Architecture, widths: Widths, shape: Shape, measured_total: int | None = None
) -> Work | None:
    """The mean over the decode steps of one generation: step n has n - 1 generated tokens behind it and feeds the nth.

    With the cache off every step is a forward over the sequence so far. None for a single new token: no step at all.
    """
    if shape.new_tokens < 2:
        return None
    weights = step_weight_bytes(architecture, widths, measured_total)
    lengths = range(shape.prompt_tokens + 1, shape.prompt_tokens + shape.new_tokens)
    if shape.cache_on:
        return _mean(_step(architecture, widths, shape, length, weights) for length in lengths)
    return _mean(_forward(architecture, widths, shape, length, weights) for length in lengths)


def _step(architecture: Architecture, widths: Widths, shape: Shape, length: int, weights: float) -> Work:
    """One token a sequence, the last of `length`: reads the keys and values before it and writes its own."""
    cached = architecture.kv_bytes_per_token(_kv_bytes(widths, shape)) * length
    per_sequence = architecture.hidden * widths.other_bits / 8 + cached
    flops = _token_flops(architecture) + _head_flops(architecture) + _attention_flops(architecture, length)
    return Work(weights + shape.batch * per_sequence, shape.batch * flops)


def _forward(architecture: Architecture, widths: Widths, shape: Shape, length: int, weights: float) -> Work:
    """All of `length` tokens at once, the head at the last only; position p attends to p tokens, itself included."""
    written = architecture.kv_bytes_per_token(_kv_bytes(widths, shape)) if shape.cache_on else 0.0
    per_sequence = length * (architecture.hidden * widths.other_bits / 8 + written)
    attention = _attention_flops(architecture, length * (length + 1) / 2)
    flops = length * _token_flops(architecture) + _head_flops(architecture) + attention
    return Work(weights + shape.batch * per_sequence, shape.batch * flops)


def _kv_bytes(widths: Widths, shape: Shape) -> float:
    """Of one cached value."""
    return (widths.other_bits if shape.kv_bits is None else shape.kv_bits) / 8


def _token_flops(architecture: Architecture) -> float:
    """A multiplication and an addition for each weight of the blocks' linear layers."""
    return 2.0 * architecture.linear_parameters


def _head_flops(architecture: Architecture) -> float:
    return 2.0 * architecture.vocab * architecture.hidden


def _attention_flops(architecture: Architecture, keys: float) -> float:
    """Queries times keys, weights times values: 4 * layers * heads * head_dim for each of `keys` attended positions."""
    return 4.0 * architecture.layers * architecture.heads * architecture.head_dim * keys


def _mean(works: Iterable[Work]) -> Work:
    everything = list(works)
    count = len(everything)
    return Work(sum(work.bytes for work in everything) / count, sum(work.flops for work in everything) / count)


def limit_s(work: Work, limits: DeviceLimits) -> float:
    """max(bytes / bandwidth, FLOPs / rate): the shortest time in which the device could do it."""
    return max(work.bytes / limits.copy_bytes_per_s, work.flops / limits.gemm_flops)


def bound(work: Work, limits: DeviceLimits) -> Bound:
    """Which of the two the limit is."""
    return "memory" if work.bytes / limits.copy_bytes_per_s >= work.flops / limits.gemm_flops else "compute"


def mbu(work: Work, seconds: float, limits: DeviceLimits) -> float:
    """Model bandwidth utilization: bytes / seconds / bandwidth. Above 1 only where weights stay in a cache."""
    return work.bytes / seconds / limits.copy_bytes_per_s


def mfu(work: Work, seconds: float, limits: DeviceLimits) -> float:
    """Model FLOPs utilization: FLOPs / seconds / rate."""
    return work.flops / seconds / limits.gemm_flops


def distance(work: Work, seconds: float, limits: DeviceLimits) -> float:
    """Measured over limit: 1.0 is at the roof, 5.0 is five times slower than the device allows."""
    return seconds / limit_s(work, limits)
