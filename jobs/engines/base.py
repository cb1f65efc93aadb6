"""The seams of measuring: an engine that generates, a stopwatch that times it, a meter that reads memory.

Why protocols: the measuring code in `jobs.measure` is tested with fakes of all three and exact equality; the shipped
fake engine drives the whole farm without a model. An engine knows nothing of trials, warm-ups or statistics.

One generation is: `prefill()` (the one forward over the prompt), `first_token()` (argmax on the device), then
`decode_step()` once a later token. All three only *enqueue* work; nothing waits for the device until
`Stopwatch.synchronize()`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from farm.records import Effective, Memory
from jobs.prompts import Tokenizer

TokenIds = Sequence[Sequence[int]]  # [batch][tokens], a rectangle


class Stopwatch(Protocol):
    """Host and device time. `mark()` is ordered with the enqueued work; `now()` is the host's clock, in seconds."""

    name: str

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
        """Bytes of the key/value cache now; None without a cache."""
        ...


class Engine(Protocol):
    """A loaded model. Everything here may raise `farm.errors.Unsupported` for a configuration it cannot run."""

    tokenizer: Tokenizer
    stopwatch: Stopwatch
    meter: MemoryMeter
    weights_bytes: int
    max_positions: int

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> Generation: ...

    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        """Negative log-likelihood in nats of every token given those before it: [batch][tokens - 1], in float32."""
        ...

    def effective(self, cache_mode: str | None) -> Effective: ...
