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
    """The speed cell that is over soonest, of those that show the host's time if there are any: the eager engine hands
    out every kernel, and with a cache a token is short."""
    speed = [cell for group in groups for cell in group.cells if isinstance(cell.task, SpeedTask)]
    return min(speed, key=_host_bound_then_soonest, default=None)


def _host_bound_then_soonest(cell: Cell) -> tuple[bool, bool, float]:
    has_no_cache = isinstance(cell.task, SpeedTask) and cell.task.cache_mode == "off"
    return cell.load.engine != "eager", has_no_cache, cell_seconds(cell)


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
