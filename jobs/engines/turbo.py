"""Our own decoder over a loaded model's weights: static cache, one CUDA graph a token, weights in 16, 8 or 4 bit.

Why beside the eager engine: at batch 1 a GPU waits for the host, which launches hundreds of kernels a token; fewer bits
cannot help where the bytes are not the limit. Here a token is one launch, so the bytes are. The limit on an H100 is in
`docs/turbo-notes.md`, with what each version reached.

    engine = load_turbo(load, cache=None, seed=0)
    generation = engine.begin([[1, 2, 3]], cache_mode="on", new_tokens=8)
    generation.prefill(); generation.first_token(); generation.decode_step()
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farm.architectures import architecture_of_config
from farm.catalog import REFERENCES
from farm.cells import Load
from farm.errors import Unsupported
from farm.quantization import parse_quantization
from farm.records import Effective
from jobs.effective import dtype_name
from jobs.engines.base import MemoryMeter, Reference, Scorer, Stopwatch, TokenIds
from jobs.engines.eager import token_nll_of
from jobs.engines.lengths import check_length
from jobs.memory import release_unused
from jobs.prompts import Tokenizer
from jobs.turbo.cache import FP8
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.layers import Taken
from jobs.turbo.recipe import Recipe, recipe_for
from jobs.turbo.slots import DecodeSlot, Slots
from jobs.turbo.weights import Dense, Int4, Int8

_PREFILL_ROWS = 2048  # a prompt's kernels are those of many rows
# Of gptqmodel's, to load a checkpoint with: they leave its tensors as they lie in the file.
_READABLE = {"cuda": "triton", "cpu": "auto"}
_EAGERS_OWN = ("bits", "group_size", "kernel")  # details that are read off our own weights, or are not true of them
_KV_DTYPES: dict[str, torch.dtype | None] = {"on": None, "fp8": FP8}  # by cache mode; None: the model's own type


class TurboGeneration:
    """One greedy generation over a rectangle of prompts. It has the slot until the next one of its shape begins."""

    def __init__(self, slot: DecodeSlot, token_ids: TokenIds, new_tokens: int) -> None:
        self._slot, self._number = slot, slot.take()
        self._prompt = slot.prompt(token_ids)
        self._prompt_tokens = self._length = len(token_ids[0])
        self._end = self._length + new_tokens

    def prefill(self) -> None:
        self._slot.check(self._number)
        self._prompt.graph.run()

    @torch.inference_mode()
    def first_token(self) -> None:
        self._grow()
        self._slot.state.take_first(self._prompt.logits, self._prompt_tokens)

    def decode_step(self) -> None:
        self._grow()
        self._slot.graph.run()

    def tokens(self) -> list[list[int]]:
        self._slot.check(self._number)
        new: list[list[int]] = self._slot.state.ids[:, self._prompt_tokens : self._length].tolist()
        return new

    def kv_bytes(self) -> int:
        """Of the whole static cache, which is allocated before the first token."""
        return self._slot.bytes

    def _grow(self) -> None:
        self._slot.check(self._number)
        if self._length >= self._end:
            raise IndexError(
                f"this generation was begun for {self._end - self._prompt_tokens} new tokens, all are made"
            )
        self._length += 1


class TurboEngine:
    """The engine protocol over a `TurboDecoder`. The model is consumed: afterwards it is an empty shell.

    `details`: what is known of the weights beside how they are kept, such as who made their checkpoint.
    `convert_s`: seconds of taking and quantizing the weights; `ready_s`: of warm-ups and captures so far.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        stopwatch: Stopwatch,
        meter: MemoryMeter,
        recipe: Recipe | None = None,
        reference: Reference | None = None,
        one_kernel: bool = True,
        details: Mapping[str, str] | None = None,
    ) -> None:
        self.details = dict(details or {})
        self.tokenizer, self.stopwatch, self.meter, self.reference = tokenizer, stopwatch, meter, reference
        self.recipe = recipe or Recipe()
        self.architecture = architecture_of_config(model.config.to_dict())
        began = time.perf_counter()
        self.decoder = TurboDecoder(model, self.recipe, one_kernel)
        stopwatch.synchronize()
        self.convert_s = time.perf_counter() - began
        self.slots = Slots(self.decoder)
        self._batch = 1
        self.weights_bytes = self.decoder.weights_bytes
        self.max_positions = self.decoder.shape.max_positions

    @property
    def ready_s(self) -> float:
        return self.slots.ready_s

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> TurboGeneration:
        """Put the prompts on the device and capture the step if this shape is new. Raises Unsupported."""
        kv_dtype = _kv_dtype(cache_mode)
        tokens = len(token_ids[0]) + new_tokens
        check_length(tokens, self.max_positions)
        self._batch = len(token_ids)
        return TurboGeneration(self.slots.get(self._batch, tokens, kv_dtype), token_ids, new_tokens)

    @torch.inference_mode()
    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        """Negative log-likelihoods [batch][tokens - 1] in nats, through the kernels of the prefill."""
        return token_nll_of(self.logits([row[:-1] for row in token_ids]), token_ids)

    def logits(self, token_ids: TokenIds, kv_dtype: torch.dtype | None = None) -> Tensor:
        """[batch, tokens, vocabulary], with keys and values as a cache of `kv_dtype` (None: the model's own type) keeps
        them. Raises Unsupported beyond the model's positions."""
        check_length(len(token_ids[0]), self.max_positions)
        return self.decoder.logits(torch.tensor(token_ids, dtype=torch.long, device=self.decoder.device), kv_dtype)

    def through_cache(self, mode: str) -> Scorer:
        """The same kernels, scoring a text with keys and values as that cache stores them. Raises Unsupported."""
        return _Through(self, _kv_dtype(mode))

    def effective(self, cache_mode: str | None) -> Effective:
        """Read off the weights that are stored; the kernels are those of the last generation's batch."""
        weights, kv_dtype = self.decoder.weights, _KV_DTYPES.get(cache_mode or "on")
        return Effective(
            linear_classes=dict(Counter(f"Turbo{type(weight).__name__}" for weight in weights.linears)),
            parameter_dtypes=self._elements_by_dtype(),
            attention="sdpa (prefill), turbo (decode)",
            cache_class=f"turbo.KvCache{_told(kv_dtype)}" if cache_mode in _KV_DTYPES else None,
            compute_dtype=dtype_name(self.decoder.dtype),
            mismatches=_other_than(self.recipe, weights),
            quantization=_details(weights) | self.details,
            kernels={
                "prefill": "+".join(self.decoder.kernels_used(_PREFILL_ROWS)),
                "decode": "+".join(self.decoder.decode_kernels(self._batch, kv_dtype)),
            },
            compile_s=self.ready_s if self.decoder.device.type == "cuda" else None,
        )

    def _elements_by_dtype(self) -> dict[str, int]:
        """Each storage once; 4-bit weights count as the elements that they are packed in."""
        unique = {tensor.data_ptr(): tensor for tensor in self.decoder.weights.tensors()}
        count: Counter[str] = Counter()
        for tensor in unique.values():
            count[dtype_name(tensor.dtype)] += tensor.numel()
        return dict(count)


class _Through:
    """The engine's `logits` and `token_nll` as a cache of another type would have them."""

    def __init__(self, engine: TurboEngine, kv_dtype: torch.dtype | None) -> None:
        self._engine, self._kv_dtype = engine, kv_dtype

    @torch.inference_mode()
    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        return token_nll_of(self.logits([row[:-1] for row in token_ids]), token_ids)

    def logits(self, token_ids: TokenIds) -> Tensor:
        return self._engine.logits(token_ids, self._kv_dtype)


def _kv_dtype(cache_mode: str) -> torch.dtype | None:
    if cache_mode not in _KV_DTYPES:
        raise Unsupported(
            f"the turbo engine decodes with a cache of its own only, not with cache mode {cache_mode!r}; "
            f"use {' or '.join(_KV_DTYPES)}"
        )
    return _KV_DTYPES[cache_mode]


def _told(kv_dtype: torch.dtype | None) -> str:
    return f"[{dtype_name(kv_dtype)}]" if kv_dtype else ""


def load_turbo(load: Load, cache: Path | None, seed: int) -> TurboEngine:
    """Load dense weights or a checkpoint, then convert. Raises Unsupported, ModelUnavailable or torch's OOM."""
    from jobs.loading import load_engine

    recipe = recipe_for(load.quantization)
    loaded = _loaded_as(load, recipe)
    eager: Any = load_engine(replace(load, quantization=loaded, engine="eager"), cache, seed)
    as_it_is = recipe.from_checkpoint or loaded == load.quantization
    reference = eager.reference if as_it_is else _reference(load, loaded, eager, cache, seed)
    told = eager.request.details if recipe.from_checkpoint else {}
    details = {name: value for name, value in told.items() if name not in _EAGERS_OWN}
    engine = TurboEngine(eager.model, eager.tokenizer, eager.stopwatch, eager.meter, recipe, reference, details=details)
    del eager
    release_unused(load.device)
    return engine


def _loaded_as(load: Load, recipe: Recipe) -> str:
    """What the eager engine is asked for: the same, in layers that can be read, or what we quantize ourselves."""
    if recipe.from_checkpoint:
        wanted = parse_quantization(load.quantization)
        options = f"group_size={wanted.group_size}&kernel={_READABLE[load.device]}"
        return str(parse_quantization(f"{wanted.name}?{options}"))
    return load.quantization if recipe == Recipe() else REFERENCES[load.device]


def _reference(load: Load, dense: str, eager: Any, cache: Path | None, seed: int) -> Reference:
    """The dense weights that were quantized here, opened again on demand."""
    from jobs.loading import load_engine

    other = replace(load, quantization=dense, engine="eager")
    return Reference(dense, load.device, lambda: load_engine(other, cache, seed), eager.weights_bytes)


def _details(weights: Taken) -> dict[str, str]:
    """Bits of a layer's weight, the group of its scales, and how the head is kept: others leave it in 16 bit."""
    first = weights.layers[0].qkv
    bits = 8 * first.weight.itemsize if isinstance(first, Dense) else 8 if isinstance(first, Int8) else 4
    group = {"group_size": str(first.group)} if isinstance(first, Int4) else {}
    return {"bits": str(bits), **group, "head": type(weights.head).__name__.lower()}


def _other_than(recipe: Recipe, weights: Taken) -> tuple[str, ...]:
    """Where a layer is kept in another way than the recipe asks."""
    kinds = [type(weight).__name__.lower() for layer in weights.layers for weight in layer.linears]
    wrong = sum(kind != recipe.layers for kind in kinds)
    return (f"asked for {recipe.layers} layers, {wrong} of {len(kinds)} are of another kind",) if wrong else ()
