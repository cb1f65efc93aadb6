"""Figures by their data: what is drawn is what the rows say, failures are marked and never a 0."""

import re
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from farm import catalog
from farm.present import theme
from farm.present.figures import all_drawings
from farm.present.figures.latency import latency_vs_context
from farm.present.figures.memory import memory_footprint
from farm.present.figures.perplexity import ppl_degradation
from farm.present.figures.phases import prefill_vs_decode
from farm.present.figures.summary_table import LINE, summary_table
from farm.present.figures.throughput import tokens_s_vs_length
from farm.records import Status
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build

ROWS = cell_rows(build.with_failures(build.sweep()))
RANDOM_ROWS = cell_rows(build.sweep(build.RANDOM))
CPU_ROWS = cell_rows(build.sweep(build.SMOL, ("fp32", "nf4"), (128,), "cpu"))


def named(figure: go.Figure, name: str) -> go.Scatter:
    (trace,) = [trace for trace in figure.data if trace.name == name and trace.x is not None and trace.x[0] is not None]
    return trace


def notes(figure: go.Figure) -> str:
    return " | ".join(note.text for note in figure.layout.annotations)


def find(quantization: str, context: int, cache: str = "on", rows: list[CellRow] = ROWS) -> CellRow:
    wanted = (quantization, context, cache)
    return next(r for r in rows if (r.quantization, r.context_tokens, r.cache_mode) == wanted)


def column(figure: go.Figure, title: str) -> list[str]:
    table = figure.data[0]
    titles = [re.sub("<[^>]+>", " ", text).strip() for text in table.header["values"]]
    return list(table.cells["values"][titles.index(title)])


def test_latency_draws_the_medians_in_milliseconds_with_their_intervals() -> None:
    line = named(latency_vs_context(ROWS), "NF4, cache on")
    assert list(line.x) == [128, 256, 512, 1024, 2048]
    summaries = [find("nf4", context).tpot_s for context in line.x]
    assert list(line.y) == [s.median * 1000 for s in summaries if s]
    s = summaries[0]
    assert s and s.ci_high is not None and s.ci_low is not None
    assert line.error_y.array[0] == pytest.approx((s.ci_high - s.median) * 1000)
    assert line.error_y.arrayminus[0] == pytest.approx((s.median - s.ci_low) * 1000)
    assert line.error_y.array[0] > 0


def test_a_failed_point_is_a_cross_above_its_context_and_no_value() -> None:
    figure = latency_vs_context(ROWS)
    assert list(named(figure, "INT8, cache off").x) == [128, 256, 512, 1024]
    crosses = named(figure, "failed")
    marks = list(zip(crosses.y, crosses.x, crosses.text, strict=True))
    assert [(label, x) for label, x, _ in marks] == [
        ("INT8, cache off", 2048),
        ("NF4, cache off", 1024),
        ("NF4, cache off", 2048),
    ]
    assert marks[0][2].endswith(" oom") and marks[1][2].endswith(" timeout")
    assert "out of memory" in crosses.hovertext[0]


def test_an_invalid_measurement_is_marked_and_not_drawn() -> None:
    records = [
        replace(r, status=Status.INVALID) if find_task(r.cell.task) == ("on", 2048) else r
        for r in build.sweep(quantizations=("fp16",))
    ]
    figure = latency_vs_context(cell_rows(records))
    assert list(named(figure, "FP16, cache on").x) == [128, 256, 512, 1024]
    assert list(named(figure, "failed").x) == [2048]


@pytest.mark.parametrize("draw", [latency_vs_context, tokens_s_vs_length, prefill_vs_decode, memory_footprint])
def test_nothing_is_ever_drawn_at_zero(draw: object) -> None:
    figure = draw(ROWS)  # type: ignore[operator]
    drawn = [y for trace in figure.data if trace.name not in ("failed", "KV cache") for y in trace.y]
    assert drawn and all(y is None or y > 0 for y in drawn)


def test_a_single_trial_has_no_error_bar() -> None:
    rows = cell_rows([build.speed(build.speed_cell(build.load(), runs=1))])
    assert list(named(latency_vs_context(rows), "FP16, cache on").error_y.array) == [None]


def test_throughput_has_one_curve_a_precision() -> None:
    figure = tokens_s_vs_length(ROWS)
    drawn = [trace.name for trace in figure.data if trace.x[0] is not None]
    assert drawn == ["FP16, decode", "BF16, decode", "INT8, decode", "NF4, decode"]
    line = named(figure, "INT8, decode")
    assert list(line.y) == [find("int8", x).decode_tok_s.median for x in line.x]  # type: ignore[union-attr]
    assert figure.layout.yaxis.title.text == "Decode tokens per second"


def test_phases_share_a_logarithmic_axis() -> None:
    figure = prefill_vs_decode(ROWS)
    assert figure.layout.yaxis.type == "log"
    prefill, decode = named(figure, "NF4, prefill"), named(figure, "NF4, decode")
    assert prefill.y[-1] == find("nf4", 2048).prefill_tok_s.median  # type: ignore[union-attr]
    assert decode.y[-1] == find("nf4", 2048).decode_tok_s.median  # type: ignore[union-attr]


def test_memory_stacks_to_the_peak() -> None:
    figure = memory_footprint(ROWS)
    stacks: dict[float, float] = {}
    for name in ("weights", "KV cache", "activations and other"):
        bars = named(figure, name)
        for x, y in zip(bars.x, bars.y, strict=True):
            stacks[x] = stacks.get(x, 0.0) + y
    peaks = [r.memory.peak_allocated_bytes for r in ROWS if r.cache_mode == "on"]
    assert sorted(stacks.values()) == pytest.approx(sorted(peak / 1e9 for peak in peaks if peak))
    assert figure.layout.barmode == "stack"


def test_memory_on_the_cpu_shows_weights_and_cache_and_says_so() -> None:
    figure = memory_footprint(CPU_ROWS)
    assert "weights and KV cache only" in figure.layout.title.text
    assert build.CPU_REASON in figure.layout.title.text
    assert not named_or_none(figure, "activations and other")
    assert list(named(figure, "KV cache").y) == [r.memory.kv_bytes / 1e9 for r in CPU_ROWS if r.cache_mode == "on"]  # type: ignore[operator]


def named_or_none(figure: go.Figure, name: str) -> list[float]:
    return [y for trace in figure.data if trace.name == name for y in trace.y if y is not None]


def test_a_cell_that_ran_out_of_memory_is_named_at_its_bar() -> None:
    records = [
        build.failed(r.cell) if find_task(r.cell.task) == ("on", 2048) and r.cell.load.quantization == "fp16" else r
        for r in build.sweep(contexts=(128, 2048))
    ]
    figure = memory_footprint(cell_rows(records))
    (note,) = [note for note in figure.layout.annotations if "oom" in note.text]
    bars = named(figure, "weights")
    assert len(bars.x) == 7 and not any(abs(x - note.x) < 0.1 for x in bars.x)
    assert 0.5 < note.x < 1  # the first bar of the second context


def find_task(task: object) -> tuple[object, object]:
    return getattr(task, "cache_mode", None), getattr(task, "context_tokens", None)


def test_perplexity_draws_the_change_and_the_limit() -> None:
    figure = ppl_degradation(ROWS)
    (bars,) = figure.data
    quality = {r.quantization: r.quality for r in ROWS if r.kind == "quality"}
    assert list(bars.y) == [quality[name].perplexity_delta_percent for name in ("bf16", "int8", "nf4")]
    assert any(shape.y0 == shape.y1 == 5 for shape in figure.layout.shapes)
    assert "baseline<br>PPL 6.129" in notes(figure)


def test_a_failed_perplexity_is_marked() -> None:
    records = [
        build.failed(r.cell) if r.quality and r.cell.load.quantization == "nf4" else r
        for r in build.sweep(contexts=(128,))
    ]
    figure = ppl_degradation(cell_rows(records))
    assert len(figure.data[0].y) == 2
    assert " oom" in notes(figure)


def test_figures_without_data_say_why() -> None:
    assert "random weights means nothing" in notes(ppl_degradation(RANDOM_ROWS))
    assert "no perplexity cell" in notes(ppl_degradation([r for r in ROWS if r.kind == "speed"]))
    for drawing in all_drawings([]):
        assert "Nothing to draw: no " in notes(drawing.figure), drawing.name


def test_a_panel_where_everything_failed_says_so() -> None:
    rows = cell_rows([build.failed(r.cell, Status.UNSUPPORTED, "no <kernel>") for r in build.sweep()])
    figure = latency_vs_context(rows)
    assert "nothing was measured here" in notes(figure)
    assert named(figure, "failed").hovertext[0] == "no &lt;kernel&gt;"
    assert len(named(figure, "failed").x) == 40


def test_models_and_batches_have_panels_of_their_own() -> None:
    records = build.sweep(contexts=(128,)) + build.sweep(build.MISTRAL, ("fp16",), (128,))
    records.append(build.speed(build.speed_cell(build.load(), 128, batch=8)))
    text = notes(tokens_s_vs_length(cell_rows(records)))
    for title in ("Meta-Llama-3-8B-Instruct, batch 1", "Meta-Llama-3-8B-Instruct, batch 8", "Mistral-7B"):
        assert title in text


def test_the_table_shows_the_rows_and_marks_best_and_worst() -> None:
    figure = summary_table(ROWS)
    assert column(figure, "Precision") == ["FP16", "BF16", "INT8 (bitsandbytes)", "NF4 (bitsandbytes)"]
    assert column(figure, "Context") == ["2,048"] * 4
    assert column(figure, "Decode tok/s") == ["▲ 29.7", "29.0", "▼ 10.4", "21.1"]
    assert column(figure, "vs baseline") == ["–", "0.98×", "0.35×", "0.71×"]
    assert column(figure, "Cache gain") == ["3.5×", "3.5×", "–", "–"]
    assert column(figure, "Weights GB") == ["▼ 16.06", "▼ 16.06", "9.08", "▲ 5.56"]
    assert column(figure, "Change of PPL") == ["baseline", "✓ +0.05 %", "✓ +0.80 %", "✗ +6.08 %"]
    fills = figure.data[0].cells.fill.color
    assert list(fills[-2]) == [theme.PAPER, theme.GOOD, theme.GOOD, theme.BAD]


def test_the_table_of_a_short_sweep_takes_the_longest_context() -> None:
    assert column(summary_table(CPU_ROWS), "Context") == ["128", "128"]
    assert column(summary_table(CPU_ROWS), "Peak GB") == ["–", "–"]


def test_a_failed_cell_stays_in_the_table() -> None:
    records = [build.failed(r.cell) if r.cell.load.quantization == "int8" else r for r in build.sweep()]
    figure = summary_table(cell_rows(records))
    assert column(figure, "Status") == ["ok", "ok", "oom", "ok"]
    assert column(figure, "Decode tok/s")[2] == "–"


def test_each_precision_has_one_colour_everywhere() -> None:
    colors = [theme.color_of(name) for name in catalog.PRECISIONS]
    assert len(set(colors)) == len(colors)
    assert named(latency_vs_context(ROWS), "NF4, cache on").line.color == theme.color_of("nf4")
    assert theme.color_of("nf4") in memory_footprint(ROWS).data[0].marker.color
    assert ppl_degradation(ROWS).data[0].marker.color[-1] == theme.color_of("nf4")
    assert summary_table(ROWS).data[0].cells.fill.color[1][-1] == theme.color_of("nf4")


def test_the_table_has_room_for_verdicts_that_take_two_lines() -> None:
    """Seen in a picture: the last rows were below its edge."""
    quiet = summary_table(ROWS)
    verdict = replace(ROWS[0].trust, verdict="slow_host (power_bound+launch_bound)")
    told = summary_table([replace(row, trust=verdict) for row in ROWS])
    rows = len(told.data[0].cells["values"][0])
    assert told.layout.height - quiet.layout.height == LINE * rows


def test_contrast_is_that_of_wcag() -> None:
    assert theme.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert theme.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


def test_text_contrasts_with_every_background() -> None:
    for background in [*(theme.color_of(name) for name in catalog.PRECISIONS), theme.HEADER, theme.GOOD, theme.BAD]:
        assert theme.contrast(background, theme.ink_on(background)) >= 4.5, background
