"""A load group at work, as the driver knows it: pure bookkeeping."""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from farm.cells import Cell
from farm.plan import LoadGroup
from farm.records import Neighbours


@dataclass(slots=True)
class Job:
    """A group at work: which cells it still owes, which one it is at, and how long each has taken."""

    group: LoadGroup
    owed: dict[str, Cell]
    started_s: float
    started_at: str
    loaded: bool = False
    running: str | None = None
    running_since_s: float = 0.0
    told_s: float = -math.inf
    spent_s: dict[str, float] = field(default_factory=dict)
    host: str | None = None
    beside: dict[str, Neighbours] = field(default_factory=dict)

    def turn_to(self, key: str | None, now_s: float) -> None:
        """Book the time of the cell that was running and note the one that is now."""
        if self.running is not None:
            self.spent_s[self.running] = self.spent_on_running(now_s)
        self.running, self.running_since_s = key, now_s

    def spent_on_running(self, now_s: float) -> float:
        if self.running is None:
            return 0.0
        return self.spent_s.get(self.running, 0.0) + now_s - self.running_since_s

    @property
    def alive(self) -> bool:
        """Its process has started: before, it may be waiting for a GPU that somebody else holds."""
        return self.host is not None

    @property
    def has_begun(self) -> bool:
        """It has come to its first cell."""
        return self.running is not None or bool(self.spent_s)

    def suspects(self) -> list[str]:
        """Whose fault a death is: the running cell's; during the load, everybody's."""
        return [self.running] if self.running in self.owed else list(self.owed)

    def note_others(self, others: int) -> None:
        """So many other groups are at work on this machine while the running cell is measured."""
        if self.running is not None:
            seen = self.beside.get(self.running, Neighbours(others, others))
            self.beside[self.running] = Neighbours(min(seen.fewest, others), max(seen.most, others))


def note_neighbours(jobs: Collection[Job]) -> None:
    """Tell each job how many others are at work on its machine now; call it whenever that may have changed."""
    on = Counter(job.host for job in jobs if job.alive)
    for job in jobs:
        job.note_others(on[job.host] - 1)
