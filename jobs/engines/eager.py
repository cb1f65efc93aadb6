"""Plain transformers forward calls, one at a time: the baseline everybody knows.

Why a loop of our own and not `generate()`: its per-step logic costs host time and hides the edge between prefill and
decode. The physics: with the cache a decode step reads all weights and the KV cache once; without it, step n repeats
the forward over all n tokens. Nothing here waits for the device, so the host can run ahead of it; on a fast GPU this
path is still bound by the host, which launches hundreds of small kernels a token.

    generation = engine.begin([[1, 2, 3]], cache_mode="on", new_tokens=8)
    generation.prefill(); generation.first_token(); generation.decode_step()
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from farm.architectures import architecture_of_config
from farm.catalog import CACHE_MODES
from farm.errors import Unsupported, unknown
from farm.records import Effective
from jobs.effective import Request, dtype_name, linear_classes, mismatches, parameter_dtypes
from jobs.engines.base import MemoryMeter, Reference, Scorer, Stopwatch, TokenIds
from jobs.engines.caches import cache_bytes, host_bytes, new_cache, other_class, told_class
from jobs.engines.lengths import check_length
from jobs.memory import model_bytes
from jobs.prompts import Tokenizer

SLICE_ELEMENTS = 1 << 25  # float32 logits at a time: 128 MiB, where 2,048 tokens of a 128k vocabulary are 1 GiB
_NO_LIMIT = 1 << 31  # for position schemes without a maximum


class EagerGeneration:
    """One greedy generation over a rectangle of prompts: without padding, no attention mask is needed.

    `seen` receives the class of the cache that the model really filled, by mode.
    """

    def __init__(
        self, model: PreTrainedModel, token_ids: TokenIds, cache_mode: str, new_tokens: int, seen: dict[str, str]
    ) -> None:
        prompt = torch.tensor(token_ids, dtype=torch.long, device=model.device)
        batch, self._prompt_tokens = prompt.shape
        self._model = model
        self._mode, self._keeps_cache = cache_mode, cache_mode != "off"
        self._cache: Any = new_cache(model, cache_mode, self._prompt_tokens + new_tokens)
        self._seen = seen
        self._ids = prompt.new_zeros((batch, self._prompt_tokens + new_tokens))  # allocated once: no growth is timed
        self._ids[:, : self._prompt_tokens] = prompt
        self._length = self._prompt_tokens
        self._logits: torch.Tensor

    def prefill(self) -> None:
        self._forward(0)
        if self._keeps_cache:
            self._seen[self._mode] = told_class(self._cache)

    def first_token(self) -> None:
        self._append_token()

    def decode_step(self) -> None:
        self._forward(self._length - 1 if self._keeps_cache else 0)
        self._append_token()

    def tokens(self) -> list[list[int]]:
        new: list[list[int]] = self._ids[:, self._prompt_tokens : self._length].tolist()
        return new

    def kv_bytes(self) -> int | None:
        """Also None for a cache of another form than keys and values a layer."""
        return (cache_bytes(self._cache) or None) if self._keeps_cache else None

    def kv_host_bytes(self) -> int | None:
        """What of them lies in host memory; None where the cache stays on the device."""
        return host_bytes(self._cache) if self._keeps_cache else None

    @torch.inference_mode()
    def _forward(self, start: int) -> None:
        output = self._model(
            input_ids=self._ids[:, start : self._length],
            past_key_values=self._cache,
            use_cache=self._keeps_cache,
            logits_to_keep=1,
        )
        self._logits = output.logits
        if self._keeps_cache:
            self._cache = _required_cache(output)

    @torch.inference_mode()
    def _append_token(self) -> None:
        """The argmax stays on the device: the next forward reads it from there."""
        self._ids[:, self._length] = self._logits[:, -1].argmax(dim=-1)
        self._length += 1


class EagerEngine:
    """A transformers model, run eagerly."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        stopwatch: Stopwatch,
        meter: MemoryMeter,
        request: Request | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.model = model
        self.reference = reference
        self.request = request
        self.tokenizer = tokenizer
        self.stopwatch = stopwatch
        self.meter = meter
        self.weights_bytes = model_bytes(model)
        self.max_positions: int = getattr(model.config, "max_position_embeddings", None) or _NO_LIMIT
        self.architecture = architecture_of_config(model.config.to_dict())
        self.cache_classes: dict[str, str] = {}

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> EagerGeneration:
        """Put the prompts on the device. Raises Unsupported when prompt and new tokens exceed the positions."""
        if cache_mode not in CACHE_MODES:
            raise Unsupported(unknown("cache mode", cache_mode, CACHE_MODES))
        check_length(len(token_ids[0]) + new_tokens, self.max_positions)
        return EagerGeneration(self.model, token_ids, cache_mode, new_tokens, self.cache_classes)

    @torch.inference_mode()
    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        return token_nll_of(self.logits([row[:-1] for row in token_ids]), token_ids)

    @torch.inference_mode()
    def logits(self, token_ids: TokenIds) -> torch.Tensor:
        check_length(len(token_ids[0]), self.max_positions)
        ids = torch.tensor(token_ids, dtype=torch.long, device=self.model.device)
        logits: torch.Tensor = self.model(input_ids=ids, use_cache=False).logits
        return logits

    def through_cache(self, mode: str) -> Scorer:
        """The same model, scoring a text through a cache of that mode."""
        from jobs.engines.through_cache import ThroughCache  # builds on this module

        return ThroughCache(self, mode)

    def effective(self, cache_mode: str | None) -> Effective:
        """Read off the model itself; the cache class is known after a generation in that mode."""
        cache_class = self.cache_classes.get(cache_mode or "")
        other_cache = other_class(cache_mode or "", cache_class)
        other_weights = mismatches(self.model, self.request) if self.request else ()
        return Effective(
            linear_classes=linear_classes(self.model),
            parameter_dtypes=parameter_dtypes(self.model),
            attention=getattr(self.model.config, "_attn_implementation", None),
            cache_class=cache_class,
            compute_dtype=dtype_name(self.request.dtype) if self.request else None,
            mismatches=(*other_weights, *([other_cache] if other_cache else [])),
            quantization=dict(self.request.details) if self.request else {},
        )

    @torch.inference_mode()
    def generate(self, token_ids: TokenIds, new_tokens: int) -> None:
        """The library's own greedy loop over the same prompts, as a cross-check of ours."""
        ids = torch.tensor(token_ids, dtype=torch.long, device=self.model.device)
        generate: Any = self.model.generate
        generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )


def token_nll_of(logits: torch.Tensor, token_ids: TokenIds) -> list[list[float]]:
    """[batch][tokens - 1] in nats, from the logits [batch, tokens - 1, vocabulary] after every token but the last."""
    targets = torch.tensor([row[1:] for row in token_ids], dtype=torch.long, device=logits.device)
    nll: list[list[float]] = nll_in_slices(logits, targets).tolist()
    return nll


def nll_in_slices(logits: torch.Tensor, targets: torch.Tensor, elements: int = SLICE_ELEMENTS) -> torch.Tensor:
    """-log softmax at the targets in float32, [batch, tokens], a slice of the sequence at a time."""
    batch, _, vocabulary = logits.shape
    step = max(1, elements // (batch * vocabulary))
    pieces = zip(logits.split(step, dim=1), targets.split(step, dim=1), strict=True)
    return torch.cat([_nll(piece.float(), target) for piece, target in pieces], dim=1)


def _nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return logits.logsumexp(dim=-1) - logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def _required_cache(output: Any) -> Any:
    """Without a cache each later step would see one token only: fast, and nonsense."""
    if output.past_key_values is None:
        raise Unsupported("the model returns no key/value cache; measure it with cache mode off")
    return output.past_key_values
