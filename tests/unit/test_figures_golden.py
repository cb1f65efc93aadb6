"""Whole figures by their data: every value that the rows hold is drawn once, and nothing else is.

The other tests of figures look at single lines; here nothing may be missing, doubled, rounded or made up.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from farm.present.figures import all_drawings
from farm.present.figures.cache_gain import crossover
from farm.present.figures.fronts import fronts
from farm.present.figures.gantt_bars import chart_of, parse_events
from farm.present.figures.latency import latency_vs_context
from farm.present.figures.memory import memory_footprint
from farm.present.figures.pareto import pareto
from farm.present.figures.perplexity import ppl_degradation
from farm.present.figures.points import Point
from farm.present.figures.work import work_points
from farm.reduce import cell_rows
from farm.rows import CellRow
from farm.stats import Summary
from tests.unit import rich_records as rich

RECORDS = rich.rich_sweep()
ROWS = [row for row in cell_rows(RECORDS) if row.is_ok]
SPEED = [row for row in ROWS if row.kind == "speed"]
CACHED = [row for row in SPEED if row.cache_mode == "on"]
EVENTS = parse_events(rich.event_log(RECORDS))
FIGURES = {drawing.name: drawing.figure for drawing in all_drawings(cell_rows(RECORDS), RECORDS, EVENTS)}


def drawn(name: str, mode: str, axis: str = "y") -> list[float]:
    """Every coordinate of the figure's traces of this mode; those of the legend have none."""
    traces = [trace for trace in FIGURES[name].data if isinstance(trace, go.Scatter) and trace.mode == mode]
    values = [value for trace in traces for value in (getattr(trace, axis) if trace[axis] is not None else ())]
    return sorted(value for value in values if value is not None)


def medians(
    rows: Iterable[CellRow], pick: Callable[[CellRow], Summary | float | None], scale: float = 1
) -> list[float]:
    found = [pick(row) for row in rows]
    return sorted(scale * (one.median if isinstance(one, Summary) else one) for one in found if one is not None)


CURVES = {
    "latency_vs_context": medians(SPEED, lambda row: row.tpot_s, 1000),
    "tokens_s_vs_length": medians(CACHED, lambda row: row.decode_tok_s),
    "engines": medians(CACHED, lambda row: row.decode_tok_s),
    "kv_cache_gain": medians(CACHED, lambda row: row.cache_speedup),
    "prefill_vs_decode": sorted(
        medians(CACHED, lambda row: row.prefill_tok_s) + medians(CACHED, lambda row: row.decode_tok_s)
    ),
    "energy_per_token": sorted(
        medians(CACHED, lambda row: row.energy.j_per_prompt_token)
        + medians(CACHED, lambda row: row.energy.j_per_generated_token)
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_holds_each_value_of_the_rows_once(name: str) -> None:
    assert len(CURVES[name]) >= 15
    assert drawn(name, "lines+markers") == pytest.approx(CURVES[name])


def test_memory_is_stacked_of_the_rows_parts() -> None:
    bars = [trace for trace in FIGURES["memory_footprint"].data if isinstance(trace, go.Bar) and trace.y is not None]
    for name, part in (("weights", "weights_bytes"), ("KV cache", "kv_bytes")):
        found = sorted(value for bar in bars if bar.name == name for value in bar.y if value is not None)
        assert found == pytest.approx(medians(CACHED, lambda row, part=part: getattr(row.memory, part), 1e-9))


def test_perplexity_bars_are_the_rows_changes() -> None:
    (bars,) = [trace for trace in FIGURES["ppl_degradation"].data if isinstance(trace, go.Bar) and len(trace.y or ())]
    changes = medians([row for row in ROWS if row.kind == "quality"], lambda row: row.quality.perplexity_delta_percent)
    assert sorted(value for value in bars.y if value) == pytest.approx(changes)


def test_the_roofline_has_the_prompt_and_a_token_of_every_measured_cell() -> None:
    points = work_points(RECORDS, ROWS)
    assert len(points) == 2 * len(SPEED)
    assert drawn("roofline", "markers") == pytest.approx(sorted(point.flops for point in points))
    assert drawn("roofline", "markers", "x") == pytest.approx(sorted(point.intensity for point in points))


def test_the_pareto_figure_has_every_cached_cell_at_the_longest_prompt() -> None:
    longest = [row for row in CACHED if row.context_tokens == 2048]
    assert drawn("pareto", "markers+text", "x") == pytest.approx(
        medians(longest, lambda row: row.memory.peak_allocated_bytes, 1e-9)
    )
    assert drawn("pareto", "markers+text") == pytest.approx(medians(longest, lambda row: row.decode_tok_s))


def test_the_gantt_has_each_load_group_once_and_as_long_as_it_took() -> None:
    chart = chart_of(EVENTS, RECORDS)
    loads = {(record.cell.load.quantization, record.cell.load.engine) for record in RECORDS}
    assert len(chart.bars) == len(loads)
    cells = sum(len(bar.marks) for bar in chart.bars)
    assert cells == len(RECORDS)
    assert sum(bar.end_s - bar.start_s for bar in chart.bars) == pytest.approx(21 * len(loads) + 10 * cells)


def titles(figure: go.Figure) -> str:
    return " ".join(note.text for note in figure.layout.annotations) + figure.layout.title.text


def test_a_panel_of_one_context_is_left_out_beside_curves_and_the_figure_says_so() -> None:
    lone = [replace(row, batch_size=16) for row in CACHED if row.context_tokens == 1024]
    figure = latency_vs_context([*ROWS, *lone])
    assert "batch 16" not in titles(figure) and "measured at one context only" in titles(figure)
    assert "one context only" not in titles(latency_vs_context(ROWS))
    assert "batch 16" in titles(latency_vs_context(lone))  # nothing else to draw


def test_a_much_faster_engine_does_not_press_the_others_flat() -> None:
    assert pareto([row for row in CACHED if row.engine == "eager"]).layout.yaxis.type is None
    fast = [replace(row, decode_tok_s=_times(row.decode_tok_s, 20)) if row.engine == "turbo" else row for row in CACHED]
    figure = pareto(fast)
    assert figure.layout.yaxis.type == "log" and "log scale" in figure.layout.yaxis.title.text
    low, high = (10**end for end in figure.layout.yaxis.range)
    assert all(low < trace.y[0] < high for trace in figure.data if trace.y[0] is not None)


def _times(speed: Summary | None, factor: float) -> Summary | None:
    return None if speed is None else replace(speed, median=factor * speed.median)


def test_two_names_at_one_place_stand_above_and_below_and_a_third_is_left_out() -> None:
    (front,) = fronts(CACHED)
    same = [replace(front.best[0], quantization=name, key=name) for name in ("fp16", "bf16", "int8")]
    named = {trace.name: trace.textposition for trace in pareto(same).data if trace.x[0] is not None and trace.text[0]}
    assert sorted(named.values()) == ["bottom center", "top center"]


def test_crowded_bars_have_no_totals_and_long_names_are_broken() -> None:
    def totals(rows: list[CellRow]) -> int:
        return sum(trace.name == "total" for trace in memory_footprint(rows).data)

    more = [replace(row, quantization="awq?group_size=64") for row in CACHED if row.quantization == "nf4"]
    assert totals(CACHED) == 2
    assert totals([*CACHED, *more, *[replace(row, quantization="gptq") for row in more]]) == 0
    quality = [row for row in ROWS if row.kind == "quality"]
    named = ppl_degradation([*quality, replace(quality[-1], quantization="awq?group_size=64&kernel=triton")])
    assert "AWQ<br>group_size=64<br>kernel=triton" in named.layout.xaxis.ticktext


def test_a_gain_that_falls_below_one_again_pays_from_the_last_crossing() -> None:
    line = [
        Point(context, value, None, None, ROWS[0]) for context, value in ((128, 0.9), (256, 1.1), (512, 0.9), (1024, 2))
    ]
    found = crossover(line)
    assert found is not None and 512 < found < 1024
