"""What a worker tells the driver while it works on a load group. Plain data, so it crosses processes and pools.

The order is: Loading, Loaded, then Running ... CellEnded for every cell (interleaved), then Ended. A worker that dies
sends nothing more: the pool reports a `Died` in its place. `Shown` comes only when the request asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

from farm.cells import Cell, Load
from farm.records import Record, Status, Trial
from farm.sanity import MAX_PPL_RATIO


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """One order for a worker: load this once, measure these cells. `attempts` holds each cell's attempt number.

    `show`: before a cell is measured, generate once for those who watch, untimed (jobs.show).
    """

    load: Load
    cells: tuple[Cell, ...]
    keys: tuple[str, ...]
    attempts: tuple[int, ...]
    seed: int
    interleave: int = 4
    max_ppl_ratio: float = MAX_PPL_RATIO
    show: bool = False
    more_runs_s: float | None = None

    def attempt_of(self, key: str) -> int:
        return self.attempts[self.keys.index(key)]

    def only(self, wanted: Sequence[bool]) -> "GroupRequest":
        """The same order for some of its cells."""
        return replace(
            self,
            cells=tuple(compress(self.cells, wanted)),
            keys=tuple(compress(self.keys, wanted)),
            attempts=tuple(compress(self.attempts, wanted)),
        )


@dataclass(frozen=True, slots=True)
class Loading:
    """The worker is alive and loads the model. `gpus`: the ones it may see, as CUDA_VISIBLE_DEVICES names them."""

    pid: int
    host: str
    gpus: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready."""

    load_s: float


@dataclass(frozen=True, slots=True)
class Running:
    """The worker now repeats this cell: `done` of `total` repetitions, warm-ups included. A death from here is its.

    `latest`: the cell's last timed repetition so far.
    """

    key: str
    done: int
    total: int
    latest: Trial | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A piece of a generation that is shown and does not count: its text, and the time before each of its tokens.

    The first piece begins with the first token: `gaps_s[0]` is then the time to it. Bytes are those of this moment.
    """

    key: str
    first_token: int
    text: str
    gaps_s: tuple[float, ...]
    weights_bytes: int
    kv_bytes: int | None
    peak_allocated_bytes: int | None


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A finished point; the driver writes it at once."""

    record: Record


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker is through. `poisoned`: it met an OOM or a device error and must not measure the cells left over."""

    poisoned: bool = False


@dataclass(frozen=True, slots=True)
class Died:
    """The worker's process is gone without an Ended; `status` is crash or host_oom.

    `node_lost`: as far as can be told its machine went, or the way to it, and the work is not to blame.
    """

    status: Status
    message: str
    node_lost: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checkpoint is on a node's disk, or why not. Comes before any group is started, and from no group."""

    load: Load
    node: str
    seconds: float
    problem: str | None = None


Event = Loading | Loaded | Running | Shown | CellEnded | Ended | Died
