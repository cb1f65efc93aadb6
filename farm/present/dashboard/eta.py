"""How long a run will still take: the plan's own guesses, scaled by how long its finished cells really took. Pure.

Why scaled: the guesses know that a cache-off cell at 2,048 tokens is longer than a cached one at 128, but not how fast
this device is; the cells already measured know that.

    left = remaining_s(open_groups, loaded, measured, capacity=2)    # None until a cell was measured
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from farm.cells import Load
from farm.cost import group_seconds, wall_seconds
from farm.plan import LoadGroup, group_by_load
from farm.records import Record


def remaining_s(
    open_groups: Sequence[LoadGroup], loaded: Collection[Load], measured: Iterable[Record], capacity: int
) -> float | None:
    """Until `capacity` workers are through with what has no record yet; None while nobody knows.

    `loaded`: those of the open groups whose model is in memory already.
    """
    if not open_groups:
        return 0.0
    factor = pace(measured)
    if factor is None:
        return None
    guesses = [group.seconds - group_seconds(group.load, ()) * (group.load in loaded) for group in open_groups]
    return factor * wall_seconds(guesses, max(1, capacity))


def pace(measured: Iterable[Record]) -> float | None:
    """Seconds really spent for each second guessed; a group's first record carries its load."""
    done = [record for record in measured if record.environment is not None]
    guessed = sum(group.seconds for group in group_by_load(record.cell for record in done))
    spent = sum(map(_seconds, done))
    return spent / guessed if guessed > 0 and spent > 0 else None


def _seconds(record: Record) -> float:
    began, ended = datetime.fromisoformat(record.started_at), datetime.fromisoformat(record.ended_at)
    return (ended - began).total_seconds()
