"""How well a sweep used its devices: one number a reader can hold against the Gantt figure.

    schedule_of(chart_of(events, records)).busy_share       # 0.94

Busy is strict: a device counts from the moment a group's process was up to the group's end, the start of processes,
the driver's own time and the idle tail do not. Time in which a stopped run lay still is no one's and is cut.
"""

from dataclasses import dataclass

from farm.present.figures.gantt_bars import Chart


@dataclass(frozen=True, slots=True)
class Schedule:
    """`busy_share`: 0-1 of all devices' time from the first group's start to the last one's end; None without a log."""

    groups: int
    slots: int
    wall_s: float
    busy_share: float | None
    loading_share: float | None


def schedule_of(chart: Chart) -> Schedule:
    """`loading_share` is the part of the busy time that went into loading models."""
    if not chart.bars:
        return Schedule(0, chart.slots, 0.0, None, None)
    wall_s = max(bar.end_s for bar in chart.bars) - min(bar.start_s for bar in chart.bars)
    busy_s = sum(bar.gpus * (bar.end_s - bar.up_s) for bar in chart.bars)
    loading_s = sum(bar.gpus * (bar.loaded_s - bar.up_s) for bar in chart.bars)
    share = busy_s / (chart.slots * wall_s) if wall_s > 0 else None
    return Schedule(len(chart.bars), chart.slots, wall_s, share, loading_s / busy_s if busy_s > 0 else None)
