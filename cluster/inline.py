"""A pool that is this process: the same sweep, one group at a time, under a debugger or a profiler.

It cannot end a hung group (there is no other process to do it), and a crash takes the driver along: `farm resume`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence, Set

from cluster.pool import JobId
from farm.cells import Load
from farm.events import Ended, Event, GroupRequest, Prepared
from farm.sweep import RuntimeEnv
from jobs.group import run_group
from jobs.preparing import prepare_load


class InlinePool:
    """Runs groups in the driver's own process, lazily: an event is produced when the driver asks for it."""

    capacity = 1

    def __init__(self, device: str, device_memory_bytes: int | None = None) -> None:
        self.device = device
        self.device_memory_bytes = device_memory_bytes
        self._started = 0
        self._current: tuple[JobId, Iterator[Event]] | None = None

    def check(self, loads: Iterable[Load]) -> None:
        """Whatever is missing here shows when a group loads."""

    def has_room(self, load: Load) -> bool:
        return self._current is None

    def prepare(self, loads: Sequence[Load]) -> Iterator[Prepared]:
        return map(prepare_load, loads)

    def start(self, request: GroupRequest, env: RuntimeEnv | None) -> JobId:
        self._started += 1
        job = JobId(self._started)
        self._current = (job, run_group(request))
        return job

    def events(self, timeout_s: float, held: Set[JobId] = frozenset()) -> Iterator[tuple[JobId, Event]]:
        if self._current is None:
            return
        job, group = self._current
        event = next(group, Ended())
        if isinstance(event, Ended):
            self._current = None
        yield job, event

    def kill(self, job: JobId) -> None:
        self._current = None

    def settle(self) -> None:
        """What ran here has ended when its last event is out."""

    def close(self) -> None:
        self._current = None

    def describe(self) -> str:
        return f"this process, {self.device}, Python {sys.version.split()[0]}"
