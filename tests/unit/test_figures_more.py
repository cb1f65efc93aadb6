"""Figures beyond the mission's, by their data: gain and crossover, fronts, energy, roofline, predictions, the Gantt."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest

from farm.architectures import KNOWN
from farm.present import theme
from farm.present.alt import alt_text
from farm.present.figures import all_drawings
from farm.present.figures.cache_gain import cache_gain, crossover, crossover_words
from farm.present.figures.energy import energy_per_token
from farm.present.figures.fronts import fronts
from farm.present.figures.gantt import gantt
from farm.present.figures.gantt_bars import parse_events
from farm.present.figures.latency import latency_vs_context
from farm.present.figures.memory import memory_footprint
from farm.present.figures.pareto import pareto
from farm.present.figures.perplexity import ppl_degradation
from farm.present.figures.points import Point, is_trusted
from farm.present.figures.predicted_memory import predicted_memory, predictions
from farm.present.figures.roofline import roof, roofline
from farm.present.figures.summary_table import summary_table
from farm.present.figures.throughput import engines_vs_length, tokens_s_vs_length
from farm.present.figures.work import work_points
from farm.present.words.figures_es import PHRASES
from farm.records import Record, Status
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build
from tests.unit import rich_records as rich
from tests.unit.rich_records import named

RECORDS = rich.rich_sweep()
ROWS = cell_rows(RECORDS)
EVENTS = parse_events(rich.event_log(RECORDS, at_once=2, killed_after=3))


def find(quantization: str, context: int, cache: str = "on", engine: str = "eager") -> CellRow:
    wanted = (quantization, context, cache, engine)
    return next(r for r in ROWS if (r.quantization, r.context_tokens, r.cache_mode, r.engine) == wanted)


def notes(figure: go.Figure) -> str:
    return " | ".join(note.text for note in figure.layout.annotations)


def point(context: int, value: float) -> Point:
    return Point(context, value, None, None, ROWS[0])


def test_the_gain_is_the_rows_speedup_and_the_level_of_no_gain_is_drawn() -> None:
    figure = cache_gain(ROWS)
    line = named(figure, "INT8, cache on")
    assert list(line.y) == [find("int8", context).cache_speedup for context in line.x]
    assert any(shape.y0 == shape.y1 == 1 for shape in figure.layout.shapes)
    assert "INT8: pays from about 555 tokens" in notes(figure)
    assert "FP16, BF16, NF4: pays at every length measured" in notes(figure)
    assert named(figure, "crossover").x[0] == pytest.approx(555, abs=1)


def test_a_gain_over_a_row_that_is_not_valid_is_hollow() -> None:
    on = find("int8", 512)
    doubtful = replace(on, cache_speedup_verdict="contended")  # though itself valid: the row without the cache is not
    line = named(cache_gain([doubtful if row is on else row for row in ROWS]), "INT8, cache on")
    hollow = {context for context, symbol in zip(line.x, line.marker.symbol, strict=True) if symbol.endswith("-open")}
    assert hollow == {512}
    assert not any(symbol.endswith("-open") for symbol in named(cache_gain(ROWS), "INT8, cache on").marker.symbol)


def test_the_crossover_lies_between_the_two_contexts_around_it() -> None:
    assert crossover([point(100, 0.5), point(400, 2.0)]) == pytest.approx(200)
    assert crossover([point(100, 1.5), point(400, 2.0)]) is None
    assert crossover_words([point(100, 0.5), point(400, 0.9)]) == "does not pay at any length measured"
    assert crossover([point(100, 0.5), point(400, 1.0)]) == pytest.approx(400)


def test_a_row_that_is_not_valid_is_hollow_and_says_why() -> None:
    assert [r.quantization for r in ROWS if not is_trusted(r)] == ["bf16"]
    figure = latency_vs_context(ROWS)
    line = named(figure, "BF16, cache on")
    assert list(line.marker.symbol) == ["square", "square", "square-open", "square", "square"]
    assert list(line.customdata) == ["", "", "<br>noisy", "", ""]
    assert "hollow: verdict not valid" in figure.layout.title.text
    clean = [row for row in ROWS if is_trusted(row)]
    assert "hollow" not in latency_vs_context(clean).layout.title.text


def test_the_table_names_a_verdict_that_is_not_valid_and_shows_no_invalid_value() -> None:
    rows = [replace(find("bf16", 512)), replace(find("fp16", 512), status=Status.INVALID)]
    cells = summary_table(rows).data[0].cells["values"]
    assert list(cells[-1]) == ["○ noisy", "invalid"]
    assert cells[3][1] == "–"
    assert not cells[3][0].startswith(("▲", "▼"))


def test_the_physical_limit_is_a_line_in_both_units() -> None:
    row = find("nf4", 2048)
    limit = row.roofline.decode_limit_tok_s
    assert limit
    assert named(tokens_s_vs_length(ROWS), "NF4, physical limit").y[-1] == limit
    assert named(latency_vs_context(ROWS), "NF4, physical limit").y[-1] == pytest.approx(1000 / limit)
    assert tokens_s_vs_length(ROWS).layout.yaxis.type == "log"


def test_engines_meet_on_one_pair_of_axes_told_apart_by_dash() -> None:
    figure = engines_vs_length(ROWS)
    eager, turbo = named(figure, "NF4, eager"), named(figure, "NF4, turbo")
    assert eager.line.dash != turbo.line.dash and eager.line.color == turbo.line.color
    assert turbo.y[-1] == find("nf4", 2048, engine="turbo").decode_tok_s.median  # type: ignore[union-attr]
    alone = engines_vs_length([row for row in ROWS if row.engine == "eager"])
    assert "no second engine" in notes(alone)


def test_energy_draws_both_phases() -> None:
    figure = energy_per_token(ROWS)
    assert named(figure, "FP16, generated token").y[0] == find("fp16", 128).energy.j_per_generated_token
    assert named(figure, "FP16, prompt token").y[0] == find("fp16", 128).energy.j_per_prompt_token
    reasons = [replace(ROWS[0], energy=replace(ROWS[0].energy, j_per_generated_token=None, energy_reason="no counter"))]
    assert "no counter" in notes(energy_per_token(reasons))


def test_a_front_holds_what_nothing_beats() -> None:
    (front,) = fronts(ROWS)
    assert [(row.quantization, row.engine) for row in front.best] == [("fp16", "turbo"), ("nf4", "turbo")]
    assert front.context == 2048 and len(front.rows) == 8 and not front.with_quality
    (eager,) = fronts([row for row in ROWS if row.engine == "eager"])
    assert eager.with_quality
    assert {row.quantization for row in eager.best} == {"fp16", "int8", "nf4"}


def test_the_pareto_figure_draws_each_row_at_its_speed_and_memory() -> None:
    figure = pareto(ROWS)
    drawn = named(figure, "NF4, turbo")
    row = find("nf4", 2048, engine="turbo")
    assert row.decode_tok_s and row.memory.peak_allocated_bytes
    assert (drawn.x[0], drawn.y[0]) == (row.memory.peak_allocated_bytes / 1e9, row.decode_tok_s.median)
    assert drawn.marker.size > named(figure, "NF4, eager").marker.size
    invalid = [replace(one, status=Status.INVALID) for one in ROWS]
    assert "Nothing to draw" in notes(pareto(invalid))


def test_roofline_points_are_work_over_time() -> None:
    points = work_points(RECORDS, ROWS)
    decode = next(p for p in points if (p.row.key, p.phase) == (find("fp16", 2048).key, "decode"))
    row = decode.row
    assert row.roofline.mbu_decode
    # bytes = intensity^-1 * FLOPs, so bytes a second over the bandwidth is the row's own MBU.
    assert decode.flops / decode.intensity / 3.03e12 == pytest.approx(row.roofline.mbu_decode)
    prefill = next(p for p in points if (p.row.key, p.phase) == (row.key, "prefill"))
    assert prefill.flops / 7.7e14 == pytest.approx(row.roofline.mfu_prefill)
    drawn = named(roofline(ROWS, RECORDS), "FP16, decode")
    assert decode.flops in list(drawn.y) and decode.intensity in list(drawn.x)


def test_the_roof_bends_where_memory_and_arithmetic_meet() -> None:
    x, y = roof([rich.H100], [1.0, 1000.0])
    assert x[1] == pytest.approx(7.7e14 / 3.03e12) and y[1] == pytest.approx(7.7e14)
    assert y[0] == pytest.approx(3.03e12 * x[0]) and y[2] == 7.7e14


def test_predicted_memory_is_weights_and_cache_of_the_shape() -> None:
    row = find("fp16", 2048)
    found = next(one for one in predictions(ROWS, RECORDS) if one.row.key == row.key)
    assert found.predicted == KNOWN["llama-3-8b"].weight_bytes(16, 16) + 131_072 * (2048 + build.NEW_TOKENS - 1)
    assert found.measured == row.memory.peak_allocated_bytes
    drawn = named(predicted_memory(ROWS, RECORDS), "FP16")
    assert found.predicted / 1e9 in list(drawn.x) and found.measured / 1e9 in list(drawn.y)


def test_a_cell_that_ran_out_of_memory_stands_on_the_devices_line() -> None:
    cell = find("int8", 2048, "off")
    records = [rich.measured(r) if r.speed else replace(r, architecture=KNOWN["llama-3-8b"]) for r in RECORDS]
    figure = predicted_memory(ROWS, records)
    failed = named(figure, "failed")
    assert cell.status is Status.OOM and len(failed.x) == 1
    assert failed.y[0] == 85.0 and failed.text[0].endswith(" oom")


def test_options_of_a_precision_keep_its_colour_and_tell_by_marker() -> None:
    one, other = "gptq?group_size=64&kernel=triton", "gptq?group_size=128"
    assert theme.color_of(one) == theme.color_of(other) == theme.color_of("gptq")
    assert theme.symbol_of(one) != theme.symbol_of(other) != theme.symbol_of("gptq")
    assert theme.short_title_of(one) == "GPTQ group_size=64 kernel=triton"
    families = ("fp32", "fp16", "bf16", "int8", "nf4", "gptq", "awq", "hqq", "int8wo", "int4wo", "fp4")
    assert len({theme.color_of(name) for name in families}) == len({theme.symbol_of(name) for name in families}) == 11
    assert theme.color_of("brand-new") == theme.color_of("brand-new?x=1")


def test_rows_of_unknown_precisions_engines_and_cache_modes_are_drawn() -> None:
    rows = [
        replace(row, quantization="gptq?group_size=64", engine="rocket", cache_mode=mode)
        for row in ROWS
        if row.quantization == "nf4" and row.cache_mode == "on" and row.engine == "eager"
        for mode in ("on", "static", "fp8", "brand-new")
    ]
    figure = latency_vs_context(rows)
    dashes = [named(figure, f"GPTQ group_size=64, cache {mode}").line.dash for mode in ("on", "static", "fp8")]
    assert len(set(dashes)) == 3
    for drawing in all_drawings(rows):
        assert drawing.figure.layout.title.text


def test_the_words_for_a_figure_hold_its_numbers() -> None:
    words = alt_text(tokens_s_vs_length(ROWS))
    row = find("nf4", 2048)
    assert row.decode_tok_s is not None
    assert f"{row.decode_tok_s.median:.4g} (2,048)" in words
    assert "Nothing to draw" in alt_text(gantt((), []))
    assert "6.078 (NF4)" in alt_text(ppl_degradation(ROWS))
    assert "weights: 16.06 (FP16 128)" in alt_text(memory_footprint(ROWS))
    assert "Meta-Llama-3-8B-Instruct FP16 eager: loading 20.0 s" in alt_text(gantt(EVENTS, RECORDS))


@pytest.mark.parametrize("records", [RECORDS, build.sweep(build.RANDOM), []], ids=["rich", "random", "none"])
def test_no_english_title_axis_or_legend_is_left_in_spanish(records: list[Record]) -> None:
    rows = cell_rows(records)
    english, spanish = all_drawings(rows, records, EVENTS), all_drawings(rows, records, EVENTS, "es")
    for one, other in zip(english, spanish, strict=True):
        for axis in ("xaxis", "yaxis"):
            title = one.figure.layout[axis].title.text
            assert not title or other.figure.layout[axis].title.text == PHRASES[title], (one.name, title)
        heading = one.figure.layout.title.text.split("<br>")[0]
        assert heading != other.figure.layout.title.text.split("<br>")[0], one.name
        assert [trace.y for trace in one.figure.data if trace.name == "weights"] == [
            trace.y for trace in other.figure.data if trace.name == "pesos"
        ]


def test_a_logarithmic_axis_has_ticks_to_read_by_at_every_span() -> None:
    assert theme.log_axis([1, 900])["dtick"] == "D2"
    assert theme.log_axis([1, 5])["dtick"] == "D1"
    assert "dtick" not in theme.log_axis([0.97, 1.4])  # every digit of a decade would be one tick, at 1
    assert theme.log_axis([])["type"] == "log"
