"""The seams of measuring: an engine that generates, a stopwatch that times it, a meter that reads memory.

Why protocols: the measuring code in `jobs.measure` is tested with fakes of all three and exact equality; the shipped
fake engine drives the whole farm without a model. An engine knows nothing of trials, warm-ups or statistics.

One generation is: `prefill()` (the one forward over the prompt), `first_token()` (argmax on the device), then
`decode_step()` once a later token. All three only *enqueue* work; nothing waits for the device until
`Stopwatch.synchronize()`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from farm.architectures import Architecture
from farm.records import Effective, Memory
from jobs.prompts import Tokenizer

TokenIds = Sequence[Sequence[int]]  # [batch][tokens], a rectangle


class Stopwatch(Protocol):
    """Host and device time. `mark()` is ordered with the enqueued work; `now()` is the host's clock, in seconds."""

    @property
    def name(self) -> str: ...
    def now(self) -> float: ...
    def synchronize(self) -> None: ...
    def mark(self) -> Any: ...
    def seconds_between(self, start: Any, end: Any) -> float: ...


class MemoryMeter(Protocol):
    """Bytes on the device and in the process. `reset_peak()` starts a new window for the peaks that `read()` gives."""

    def reset_peak(self) -> None: ...
    def read(self) -> Memory: ...


class Generation(Protocol):
    """One greedy generation of a fixed number of tokens; end-of-sequence does not stop it."""

    def prefill(self) -> None: ...
    def first_token(self) -> None: ...
    def decode_step(self) -> None: ...
    def tokens(self) -> list[list[int]]:
        """The new tokens, [batch][steps]; waits for the device."""
        ...

    def kv_bytes(self) -> int | None:
        """Bytes of the key/value cache now, wherever they lie; None without a cache."""
        ...


@dataclass(frozen=True, slots=True)
class Reference:
    """The model of the same weights that logits are compared with. `open` is None when this one is it. `revision`: the
    commit of a hub model's files, where the sweep names none."""

    name: str
    device: str
    open: "Callable[[], Engine] | None" = None
    needed_bytes: int | None = None
    revision: str | None = None


class Scorer(Protocol):
    """What judges a text: an engine's plain forward, or its forward through a cache."""

    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        """Negative log-likelihood in nats of every token given those before it: [batch][tokens - 1], in float32.

        The last token is only a target: `max_positions + 1` tokens are allowed.
        """
        ...

    def logits(self, token_ids: TokenIds) -> Any:
        """Of the token after each one given, as a tensor on the model's device: [batch, tokens, vocabulary]."""
        ...


class Engine(Scorer, Protocol):
    """A loaded model. Everything here may raise `farm.errors.Unsupported` for a configuration it cannot run."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def stopwatch(self) -> Stopwatch: ...
    @property
    def meter(self) -> MemoryMeter: ...
    @property
    def weights_bytes(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def architecture(self) -> Architecture | None:
        """The model's shape, for the roofline; None when it is none that the farm knows."""
        ...

    @property
    def reference(self) -> Reference | None: ...

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> Generation: ...

    def effective(self, cache_mode: str | None) -> Effective: ...
