"""The Gantt figure by its data: bars, lanes, pauses and failures are those of the event log."""

import json

import plotly.graph_objects as go
import pytest

from farm.keys import load_key
from farm.present.figures.gantt import gantt
from farm.present.figures.gantt_bars import chart_of, parse_events
from farm.present.figures.schedule import schedule_of
from farm.reduce import cell_rows
from tests.unit import rich_records as rich
from tests.unit.rich_records import named

RECORDS = rich.rich_sweep()
ROWS = cell_rows(RECORDS)
EVENTS = parse_events(rich.event_log(RECORDS, at_once=2, killed_after=3))


def notes(figure: go.Figure) -> str:
    return " | ".join(note.text for note in figure.layout.annotations)


def test_the_gantt_has_a_bar_a_group_and_cuts_the_pause_of_a_killed_driver() -> None:
    chart = chart_of(EVENTS, RECORDS)
    loads = {load_key(record.cell.load) for record in RECORDS}
    assert len(chart.bars) == len(loads) == 8
    assert sum(len(bar.marks) for bar in chart.bars) == len(RECORDS)
    assert {bar.lane for bar in chart.bars} == {0, 1}
    first = chart.bars[0]
    assert (first.start_s, first.loaded_s, first.end_s) == pytest.approx((0, 20, 21 + 10 * len(first.marks)))
    assert len(chart.resumed_s) == 1
    assert max(bar.end_s for bar in chart.bars) < 1000  # an hour's pause is cut
    for one in chart.bars:
        others = [bar for bar in chart.bars if bar is not one and bar.lane == one.lane]
        assert all(bar.end_s <= one.start_s or bar.start_s >= one.end_s for bar in others)


def test_a_driver_killed_in_the_middle_leaves_a_bar_that_ends_with_its_last_word() -> None:
    def event(second: int, what: str, **more: object) -> str:
        return json.dumps({"at": f"2026-01-31T12:00:{second:02d}.000+00:00", "what": what, **more})

    record = RECORDS[0]
    load = load_key(record.cell.load)
    lines = [
        event(0, "group_started", job=1, load=load),
        event(10, "loaded", job=1, load=load),
        event(12, "recorded", key=record.key, status="ok"),
        event(40, "group_started", job=1, load=load),
        event(45, "group_ended", job=1, load=load),
        '{"at": "2026-01-31T12:0',
    ]
    chart = chart_of(parse_events("\n".join(lines)), [record])
    assert [(bar.start_s, bar.end_s) for bar in chart.bars] == [(0, 12), (40, 45)]
    assert [len(bar.marks) for bar in chart.bars] == [1, 0]


def test_the_gantt_marks_cells_that_did_not_end_well() -> None:
    figure = gantt(EVENTS, RECORDS)
    assert len(named(figure, "failed").x) == 3
    assert "64 cells in 8 load groups" in figure.layout.title.text
    assert "no event log" in notes(gantt((), RECORDS))


def test_the_busy_share_counts_processes_at_work_and_not_their_start_or_the_tail() -> None:
    def event(second: int, what: str, job: int | None = None, **more: object) -> str:
        load = load_key(RECORDS[0].cell.load)
        return json.dumps(
            {"at": f"2026-01-31T12:00:{second:02d}.000+00:00", "what": what, "job": job, **more} | {"load": load}
        )

    lines = [event(0, "driver_started", capacity=2)]
    for job, (start, up, loaded, end) in {1: (0, 2, 5, 20), 2: (0, 4, 6, 10)}.items():
        lines += [event(start, "group_started", job), event(up, "loading", job), event(loaded, "loaded", job)]
        lines += [event(end, "group_ended", job)]
    found = schedule_of(chart_of(parse_events("\n".join(sorted(lines))), RECORDS[:1]))
    assert (found.groups, found.slots, found.wall_s) == (2, 2, 20)
    assert found.busy_share == pytest.approx((18 + 6) / 40)
    assert found.loading_share == pytest.approx((3 + 2) / 24)


def test_a_run_without_a_log_has_no_busy_share() -> None:
    assert schedule_of(chart_of((), RECORDS)).busy_share is None
