"""The transformers model with a static cache and `torch.compile`d decode steps: what PyTorch itself offers.

Why: on a GPU eager decoding is bound by the host. `torch.compile(mode="reduce-overhead")` fuses small kernels and
replays a step as CUDA graphs, without a line of the model rewritten. It costs most of a minute of compilation per shape
of batch and cache, which is reported apart (`ready_s`). The prompt's forward stays eager: it is bound by arithmetic.

    engine = CompiledEngine(EagerEngine(model, tokenizer, stopwatch, meter))
    generation = engine.begin([[1, 2, 3]], cache_mode="on", new_tokens=8)       # compiles here

Every step is compiled whole (`fullgraph`) and replayed as CUDA graphs; where either fails, it is run without graphs, in
pieces if it must be, and the row says so: its figure is not one of what was asked for. (A graph refuses memory that it
did not hand out; bitsandbytes keeps some.)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, StaticCache

from farm.errors import Unsupported
from farm.records import Effective, Memory
from jobs.engines.base import MemoryMeter, TokenIds
from jobs.engines.eager import EagerEngine
from jobs.engines.lengths import bucket_of, check_length
from jobs.engines.slot import Slot
from jobs.memory import bytes_of_storages

_WARMUP_STEPS = 3  # compile; run once and record the CUDA graph; replay it
_MOST_SHAPES = 64  # torch gives up after 8 recompilations of one function; a sweep has more shapes

Step = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Way:
    """How a step is compiled; `why` it is another than the best one, None where it is the best."""

    fullgraph: bool = True
    graphs: bool = True
    why: str | None = None

    def mode(self, device: str) -> str:
        """torch's name; CUDA graphs are all that reduce-overhead adds."""
        return "reduce-overhead" if self.graphs and device == "cuda" else "default"


class CompiledSlot(Slot):
    """The cache and the compiled step of one shape. Both must stay: new addresses would be recorded anew."""

    def __init__(self, model: PreTrainedModel, batch: int, max_len: int, step: Step) -> None:
        super().__init__()
        self.cache: Any = StaticCache(config=model.config, max_cache_len=max_len)
        self.token = torch.zeros((batch, 1), dtype=torch.long, device=model.device)
        self.step = step

    def take(self) -> int:
        """Begin a generation with an empty cache."""
        self.cache.reset()
        return super().take()

    @property
    def bytes(self) -> int:
        """Of the whole static cache."""
        return bytes_of_storages(tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values))


class MeterOfOneShape:
    """The engine's meter, less the caches that are kept for other shapes: a cell by itself would not have them."""

    def __init__(self, meter: MemoryMeter, kept_bytes: Callable[[], int]) -> None:
        self._meter, self._kept_bytes = meter, kept_bytes

    def reset_peak(self) -> None:
        self._meter.reset_peak()

    def read(self) -> Memory:
        read = self._meter.read()
        peak = read.peak_allocated_bytes
        return read if peak is None else replace(read, peak_allocated_bytes=peak - self._kept_bytes())


class CompiledGeneration:
    """One greedy generation over a rectangle of prompts. It has the slot until the next one of its shape begins."""

    def __init__(self, model: PreTrainedModel, slot: CompiledSlot, token_ids: TokenIds, new_tokens: int) -> None:
        self._model, self._slot, self._number = model, slot, slot.take()
        self._prompt = torch.tensor(token_ids, dtype=torch.long, device=model.device)
        self._new = self._prompt.new_zeros((len(token_ids), new_tokens))
        self._length = 0
        self._logits: Tensor

    @torch.no_grad()
    def prefill(self) -> None:
        self._slot.check(self._number)
        output = self._model(input_ids=self._prompt, past_key_values=self._slot.cache, use_cache=True, logits_to_keep=1)
        self._logits = output.logits

    @torch.no_grad()
    def first_token(self) -> None:
        self._append(self._logits[:, -1].argmax(dim=-1, keepdim=True))

    @torch.no_grad()
    def decode_step(self) -> None:
        """The result of a CUDA graph is overwritten by the next replay: it is copied out at once."""
        torch.compiler.cudagraph_mark_step_begin()
        self._append(self._slot.step(self._slot.cache, self._slot.token))

    def tokens(self) -> list[list[int]]:
        self._slot.check(self._number)
        new: list[list[int]] = self._new[:, : self._length].tolist()
        return new

    def kv_bytes(self) -> int:
        return self._slot.bytes

    def _append(self, token: Tensor) -> None:
        self._slot.check(self._number)
        self._new[:, self._length] = token[:, 0]
        self._slot.token.copy_(token)
        self._length += 1


class CompiledEngine:
    """Scores as the eager engine inside does, and decodes with compiled steps. It has no `generate()` to compare with:
    the library's own would compile a step of its own. `ready_s`: seconds of compilation so far."""

    def __init__(self, eager: EagerEngine) -> None:
        self.eager = eager
        self.tokenizer, self.stopwatch = eager.tokenizer, eager.stopwatch
        self.meter = MeterOfOneShape(eager.meter, self._kept_bytes)
        self.weights_bytes, self.max_positions = eager.weights_bytes, eager.max_positions
        self.architecture, self.reference = eager.architecture, eager.reference
        self.ready_s = 0.0
        self.way = Way()
        self._slots: dict[tuple[int, int], CompiledSlot] = {}
        self._current: tuple[int, int] | None = None
        self._breaks_before = graph_breaks()

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> Any:
        """Put the prompts on the device; a new shape is compiled first. Raises Unsupported."""
        if cache_mode != "on":
            raise Unsupported(f"the compiled engine needs its static cache, not cache mode {cache_mode!r}; use on")
        tokens = len(token_ids[0]) + new_tokens
        check_length(tokens, self.max_positions)
        key = (len(token_ids), bucket_of(tokens))
        if key not in self._slots:
            self._slots[key] = self._ready_slot(key, token_ids)
        self._current = key
        return CompiledGeneration(self.eager.model, self._slots[key], token_ids, new_tokens)

    def effective(self, cache_mode: str | None) -> Effective:
        """As of the eager engine, with the breaks of the compiled graph; one that had to be cut is a mismatch."""
        found = self.eager.effective(cache_mode)
        return replace(
            found,
            cache_class=StaticCache.__name__ if cache_mode == "on" else None,
            compiled=True,
            graph_breaks=graph_breaks() - self._breaks_before,
            compile_s=self.ready_s,
            mismatches=(*found.mismatches, *([self.way.why] if self.way.why else [])),
        )

    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        return self.eager.token_nll(token_ids)

    def logits(self, token_ids: TokenIds) -> Tensor:
        return self.eager.logits(token_ids)

    def _kept_bytes(self) -> int:
        return sum(slot.bytes for key, slot in self._slots.items() if key != self._current)

    def _ready_slot(self, key: tuple[int, int], token_ids: TokenIds) -> CompiledSlot:
        began = time.perf_counter()
        try:
            slot = self._warm_slot(key, token_ids)
        except RuntimeError as error:  # dynamo's own are among them
            if (way := _instead(error, self.way, self.eager.model.device.type)) is None:
                raise
            self.way = way
            slot = self._warm_slot(key, token_ids)
        self.stopwatch.synchronize()
        self.ready_s += time.perf_counter() - began
        return slot

    def _warm_slot(self, key: tuple[int, int], token_ids: TokenIds) -> CompiledSlot:
        """A slot that has been through a whole short generation: the cache has its memory, the step its graph."""
        slot = CompiledSlot(self.eager.model, *key, step=compiled_step(self.eager.model, self.way))
        short = [row[:8] for row in token_ids]
        generation = CompiledGeneration(self.eager.model, slot, short, _WARMUP_STEPS + 1)
        generation.prefill()
        generation.first_token()
        for _ in range(_WARMUP_STEPS):
            generation.decode_step()
        generation.tokens()
        return slot


def _instead(error: RuntimeError, way: Way, device: str) -> Way | None:
    """What to try after the best way failed; None for what another way would not mend."""
    if way != Way() or isinstance(error, torch.OutOfMemoryError):
        return None
    if isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return Way(False, False, f"the step could not be compiled whole, runs in pieces: {_first_line(error)}")
    if device == "cuda":
        return Way(graphs=False, why=f"the step could not be replayed as CUDA graphs: {_first_line(error)}")
    return None


def compiled_step(model: PreTrainedModel, way: Way) -> Step:
    """Cache and token [batch, 1] in, the next token [batch, 1] out; compiled at the first call of each shape."""

    def step(cache: Any, token: Tensor) -> Tensor:
        logits = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(dim=-1, keepdim=True)

    torch._dynamo.config.recompile_limit = _MOST_SHAPES
    mode = way.mode(model.device.type)
    compiled: Step = torch.compile(step, mode=mode, fullgraph=way.fullgraph, dynamic=False)
    return compiled


def graph_breaks() -> int:
    """How many breaks this process has seen; torch counts them by reason."""
    return sum(torch._dynamo.utils.counters["graph_break"].values())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
