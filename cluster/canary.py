"""The canary: the sweep's shortest speed cell, measured alone before the sweep and again while everything is busy.

    groups = with_canary(plan.todo, pool, Driver(...).run)

It costs two loads and two cells. The second time it starts first, and not before its device is free again, so that Ray
gives it the same one; then it and its neighbours wait for each other, loaded, and begin together (`Driver._held`).
`farm.interference` compares the two.
"""

from collections.abc import Callable, Sequence

from cluster.pool import Pool
from farm.cells import Cell, SpeedTask
from farm.cost import cell_seconds
from farm.plan import LoadGroup

Run = Callable[[Sequence[LoadGroup]], int]


def canary_cell(groups: Sequence[LoadGroup]) -> Cell | None:
    """The speed cell that is over soonest, with a cache if any has one: then it is the host's time that shows."""
    speed = [cell for group in groups for cell in group.cells if isinstance(cell.task, SpeedTask)]
    return min(speed, key=_seconds_with_cache_first, default=None)


def _seconds_with_cache_first(cell: Cell) -> tuple[bool, float]:
    return isinstance(cell.task, SpeedTask) and cell.task.cache_mode == "off", cell_seconds(cell)


def with_canary(groups: Sequence[LoadGroup], pool: Pool, run: Run) -> Sequence[LoadGroup]:
    """Measure the canary alone with `run`, and put its second measurement before the others.

    Nothing where only one group runs at a time: nobody is disturbed there.
    """
    cell = canary_cell(groups)
    if cell is None or min(pool.capacity, len(groups)) < 2:
        return groups
    run([LoadGroup(cell.load, (cell,), "alone")])
    pool.settle()
    return [LoadGroup(cell.load, (cell,), "busy"), *groups]
