"""The memory and the captured graph of one shape of generation: made once, used by one generation at a time.

Why one shape at a time by default: a slot holds a whole cache (5 GB at batch 16 and 2,304 positions of Llama-3-8B). A
second one in the background would count into the first one's peak memory and could push a cell out of memory that
fits by itself. Making the slot of a shape anew takes only the capture: cells of a load group take turns, so a shape
comes back with every turn, and a warm-up of 16 prompts of 2,048 tokens is 1.6 s.

    slots = Slots(decoder)
    slot = slots.get(batch=1, tokens=2048)      # slot.state, slot.cache, slot.graph
"""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from jobs.engines.lengths import bucket_of
from jobs.engines.slot import Slot
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.graph import Replay
from jobs.turbo.step import DecodeState

_Key = tuple[int, int, torch.dtype | None]  # batch, longest sequence, type of the cache
_STEP = 0  # the length of a step among those of prompts


class Prompt:
    """The captured forward over prompts of one length: `ids` [batch, tokens] in, `logits` [batch, vocab] out.

    Why captured too: it is 500 kernels, and launching them leaves the device idle for 2 of 50 ms.
    """

    def __init__(self, decoder: TurboDecoder, cache: KvCache, batch: int, tokens: int, is_warm: bool = False) -> None:
        self.ids = torch.zeros(batch, tokens, dtype=torch.long, device=decoder.device)
        self.logits = torch.empty(batch, decoder.shape.vocab, dtype=decoder.dtype, device=decoder.device)
        ids, logits = self.ids, self.logits  # not self: a cycle would keep a dropped slot's memory
        self.graph = Replay(lambda: _store(logits, decoder.prefill(ids, cache)), decoder.device, is_warm)


def _store(into: Tensor, value: Tensor) -> None:
    into.copy_(value)


class DecodeSlot(Slot):
    """A static cache, the state of a generation, and the captured step and prompt over both. `kv_dtype`: of the cache,
    None for the model's own. `warm_lengths`: the prompts that earlier slots of this shape had; 0 is the step."""

    def __init__(
        self,
        decoder: TurboDecoder,
        batch: int,
        max_len: int,
        kv_dtype: torch.dtype | None = None,
        warm_lengths: set[int] | None = None,
    ) -> None:
        super().__init__()
        cache = KvCache.allocate(decoder.shape, batch, max_len, like=decoder.weights.embedding, dtype=kv_dtype)
        state = DecodeState.allocate(batch, max_len, decoder.device)
        rows = decoder.table.rows(max_len)  # kept here too: the graph reads them after the table has grown
        self.cache, self.state, self.rows = cache, state, rows
        self._warm_lengths = set() if warm_lengths is None else warm_lengths
        self.graph = Replay(decoder.stepper(rows, state, cache), decoder.device, _STEP in self._warm_lengths)
        self._warm_lengths.add(_STEP)
        self.ready_s = self.graph.ready_s
        self._decoder = decoder
        self._prompt: Prompt | None = None

    def prompt(self, token_ids: Sequence[Sequence[int]]) -> Prompt:
        """Made for the length of these prompts, which are put on the device. One length at a time is kept."""
        ids = torch.tensor(token_ids, dtype=torch.long, device=self._decoder.device)
        if self._prompt is None or self._prompt.ids.shape != ids.shape:
            self._prompt = None  # its memory makes room
            batch, tokens = ids.shape
            self._prompt = Prompt(self._decoder, self.cache, batch, tokens, tokens in self._warm_lengths)
            self._warm_lengths.add(tokens)
            self.ready_s += self._prompt.graph.ready_s
        self._prompt.ids.copy_(ids)
        return self._prompt

    @property
    def bytes(self) -> int:
        return self.cache.bytes


class Slots:
    """The last `kept` shapes."""

    def __init__(self, decoder: TurboDecoder, kept: int = 1) -> None:
        self._decoder = decoder
        self._kept = kept
        self._slots: OrderedDict[_Key, DecodeSlot] = OrderedDict()
        self._warm_lengths: defaultdict[_Key, set[int]] = defaultdict(set)
        self._dropped_s = 0.0

    @property
    def ready_s(self) -> float:
        """Seconds of all warm-ups and captures so far."""
        return self._dropped_s + sum(slot.ready_s for slot in self._slots.values())

    def get(self, batch: int, tokens: int, kv_dtype: torch.dtype | None = None) -> DecodeSlot:
        """The slot for `batch` sequences of up to `tokens`; the oldest ones make room before it is made."""
        key = (batch, bucket_of(tokens), kv_dtype)
        if key not in self._slots:
            while len(self._slots) >= self._kept:
                self._dropped_s += self._slots.popitem(last=False)[1].ready_s
            self._slots[key] = DecodeSlot(self._decoder, *key, self._warm_lengths[key])
        self._slots.move_to_end(key)
        return self._slots[key]

    @property
    def bytes(self) -> int:
        """Of all caches that are held."""
        return sum(slot.bytes for slot in self._slots.values())
