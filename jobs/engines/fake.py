"""An engine without a model: it drives the whole farm, its faults included, in milliseconds.

A model `fake:SCRIPT[?key=value&...]` names what happens. Every script measures like `steady` except at its planted
fault; `context=512` restricts the fault to that context, `attempts=1` to the first attempt(s), `p=0.3&seed=7` makes it
happen with that probability, decided by the cell and the attempt (so a run is reproducible); `pause=0.1` makes each
generation take that many true seconds.

Time is simulated (`FakeStopwatch`), so derived figures are exact. Records of this engine are never published.
"""

import ctypes
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from farm.errors import SweepError, Unsupported, unknown
from farm.records import Effective, Memory
from jobs.engines.base import Reference, TokenIds
from jobs.prompts import ByteTokenizer

PREFILL_S_PER_TOKEN = 1e-4
DECODE_S = 0.01
KV_BYTES_PER_TOKEN = 1024
WEIGHTS_BYTES = 1_000_000


class FakeStopwatch:
    """A clock that moves only when the fake engine says so; marks are points of that clock."""

    name = "fake"

    def __init__(self) -> None:
        self.time_s = 0.0

    def advance(self, seconds: float) -> None:
        self.time_s += seconds

    def now(self) -> float:
        return self.time_s

    def synchronize(self) -> None:
        pass

    def mark(self) -> float:
        return self.time_s

    def seconds_between(self, start: float, end: float) -> float:
        return end - start


class FakeMeter:
    """Memory figures that are what the fake engine says."""

    def reset_peak(self) -> None:
        pass

    def read(self) -> Memory:
        return Memory(peak_allocated_bytes=2 * WEIGHTS_BYTES, peak_reserved_bytes=3 * WEIGHTS_BYTES)


class Unpicklable(Exception):
    """An exception that cannot cross a process: it holds a lock."""

    def __init__(self) -> None:
        import threading

        super().__init__("an exception that cannot be pickled")
        self.lock = threading.Lock()


def _oom() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory (planted)")


def _raise(error: BaseException) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


def _unpicklable() -> None:
    raise Unpicklable


def _segfault() -> None:
    ctypes.string_at(0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS: dict[str, Callable[[], None]] = {
    "steady": lambda: None,
    "raise": _raise(ValueError("planted failure")),
    "unpicklable": _unpicklable,
    "unsupported": _raise(Unsupported("planted: this configuration cannot run here")),
    "oom": _oom,
    "host-oom": _raise(MemoryError("planted")),
    "segfault": _segfault,
    "exit": lambda: os._exit(7),
    "kill": _kill,
    "hang": lambda: time.sleep(3600),
    "slow": lambda: time.sleep(0.2),
}


@dataclass(frozen=True, slots=True)
class Script:
    """Which fault, and when. `p` and `seed` draw reproducibly from the cell and the attempt."""

    fault: str
    context: int | None = None
    attempts: int | None = None
    p: float = 1.0
    seed: int = 0
    when: str = "run"
    pause: float = 0.0

    def strikes(self, context_tokens: int, cache_mode: str, attempt: int) -> bool:
        if self.context not in (None, context_tokens) or (self.attempts is not None and attempt > self.attempts):
            return False
        draw = random.Random(f"{self.seed}:{context_tokens}:{cache_mode}:{attempt}").random()
        return draw < self.p


def parse_script(name: str) -> Script:
    """`hang?context=512` -> Script. Raises SweepError with the valid scripts or keys."""
    fault, _, query = name.partition("?")
    if fault not in FAULTS and fault != "chaos":
        raise SweepError(unknown("fake script", fault, [*FAULTS, "chaos"], "models"))
    kinds = {"context": int, "attempts": int, "p": float, "seed": int, "when": str, "pause": float}
    options = dict(parse_qsl(query))
    for key in options:
        if key not in kinds:
            raise SweepError(unknown(f"option of fake:{fault}", key, kinds, "models"))
    return Script(fault, **{key: kinds[key](value) for key, value in options.items()})


def open_fake(name: str, attempt: int) -> "FakeEngine":
    """The engine of a `fake:` model; a script with `when=load` strikes here."""
    engine = FakeEngine(parse_script(name), attempt)
    if engine.script.when == "load" and engine.script.strikes(0, "load", attempt):
        engine.strike(0, "load")
    return engine


@dataclass(slots=True)
class FakeGeneration:
    """Emits a token that is a hash of the prompt and the position: equal for cache on and off."""

    engine: "FakeEngine"
    token_ids: TokenIds
    cache_mode: str
    emitted: list[list[int]] = field(default_factory=list)

    def prefill(self) -> None:
        self.engine.clock.advance(PREFILL_S_PER_TOKEN * len(self.token_ids[0]))

    def first_token(self) -> None:
        self._emit()

    def decode_step(self) -> None:
        length = len(self.token_ids[0]) + len(self.emitted)
        self.engine.clock.advance(DECODE_S if self.cache_mode == "on" else DECODE_S + PREFILL_S_PER_TOKEN * length)
        self._emit()

    def tokens(self) -> list[list[int]]:
        return [list(row) for row in zip(*self.emitted, strict=True)]

    def kv_bytes(self) -> int | None:
        if self.cache_mode == "off":
            return None
        return KV_BYTES_PER_TOKEN * len(self.token_ids) * (len(self.token_ids[0]) + len(self.emitted))

    def _emit(self) -> None:
        position = len(self.emitted)
        seeds = [hashlib.sha256(f"{list(row)}:{position}".encode()).digest() for row in self.token_ids]
        self.emitted.append([digest[0] for digest in seeds])


class FakeEngine:
    """See the module's docstring. `attempt` lets a script strike only on the first tries."""

    weights_bytes = WEIGHTS_BYTES
    max_positions = 1_000_000
    architecture = None
    reference: Reference | None = None

    def __init__(self, script: Script, attempt: int = 1) -> None:
        self.script = script
        self.attempt = attempt
        self.clock = FakeStopwatch()
        self.stopwatch = self.clock
        self.meter = FakeMeter()
        self.tokenizer = ByteTokenizer()

    def begin(self, token_ids: TokenIds, cache_mode: str, new_tokens: int) -> FakeGeneration:
        context = len(token_ids[0])
        time.sleep(self.script.pause)
        if self.script.when == "run" and self.script.strikes(context, cache_mode, self.attempt):
            self.strike(context, cache_mode)
        return FakeGeneration(self, token_ids, cache_mode)

    def strike(self, context_tokens: int, cache_mode: str) -> None:
        name = self.script.fault
        if name == "chaos":  # any fault but the one that would only cost time
            names = sorted(set(FAULTS) - {"steady", "slow", "hang"})
            name = random.Random(f"{self.script.seed}/{context_tokens}/{cache_mode}/{self.attempt}").choice(names)
        FAULTS[name]()

    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        return [[2.0] * (len(row) - 1) for row in token_ids]

    def logits(self, token_ids: TokenIds) -> Any:
        """It expects every byte to be followed by the next higher one."""
        import torch

        return torch.nn.functional.one_hot((torch.tensor(token_ids) + 1) % 256, 256).float()

    def effective(self, cache_mode: str | None) -> Effective:
        return Effective({"FakeLinear": 1}, {"fake": 1}, "fake", "FakeCache" if cache_mode == "on" else None)
