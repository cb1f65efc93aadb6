"""The seam between the driver and whatever runs load groups: Ray actors, or this very process under a debugger.

A pool starts a group, hands over its events and can kill it. It knows nothing of records, retries or deadlines.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from farm.cells import Load
from farm.events import Event, GroupRequest, Prepared
from farm.sweep import RuntimeEnv


@dataclass(frozen=True, slots=True)
class JobId:
    """A started group, as the pool that started it knows it."""

    number: int


class Pool(Protocol):
    """After Ended or Died a job gives nothing more. `capacity`: how many groups of one device can run at once."""

    device: str
    device_memory_bytes: int | None

    @property
    def capacity(self) -> int: ...

    def check(self, loads: Iterable[Load]) -> None:
        """Raises ClusterError when one of these loads could never run here."""
        ...

    def prepare(self, loads: Sequence[Load]) -> Iterator[Prepared]:
        """Put what these loads need on the disk of every node that may run them; one answer a load and node."""
        ...

    def has_room(self, load: Load) -> bool:
        """Could a group of this load start now?"""
        ...

    def start(self, request: GroupRequest, env: RuntimeEnv | None) -> JobId: ...

    def events(self, timeout_s: float, held: Set[JobId] = frozenset()) -> Iterator[tuple[JobId, Event]]:
        """What has come in, waiting up to `timeout_s` for the first; may be nothing. Those in `held` are left alone."""
        ...

    def kill(self, job: JobId) -> None:
        """End the job's process; its Died is not reported."""
        ...

    def settle(self) -> None:
        """Wait, for seconds at most, until the devices of ended jobs are free again."""
        ...

    def close(self) -> None: ...
    def describe(self) -> str: ...
