"""The one table to read first: each precision at the longest context, best and worst of every column coloured.

Why one context: a table of every cell is cells.csv; this one answers which precision to take. Green with an upward
triangle is the best of its model, red with a downward one the worst; quality has traffic lights of its own.

    summary_table(cell_rows(records)).write_html("table.html")
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.panels import Panel, devices, shown_cache_mode, speed_panels
from farm.present.figures.points import is_trusted, mark_of
from farm.rows import CellRow
from farm.stats import Summary

TITLE = "Summary"
HEADLINE_CONTEXT = 2048
EMPTY = "–"
LEGEND = "▲ best and ▼ worst of each model; change of perplexity: ✓ up to 1 %, ! up to 5 %, ✗ more; ○ not valid"


@dataclass(frozen=True, slots=True)
class Column:
    """A measured column: how to read it, print it, and which end of it is better (+1 high, -1 low, 0 neither)."""

    title: str
    pick: Callable[[CellRow], float | None]
    form: str
    better: int
    verdict: Callable[[CellRow], str | None] = lambda row: None  # of a ratio, which rests on another row, too
    width: int = 82


@dataclass(frozen=True, slots=True)
class Box:
    """One table cell as it is drawn."""

    text: str
    fill: str


def _median(summary: Summary | None, scale: float = 1.0) -> float | None:
    return None if summary is None else summary.median * scale


def _gb(size: int | None) -> float | None:
    return None if size is None else size / 1e9


COLUMNS = (
    Column("Decode<br>tok/s", lambda row: _median(row.decode_tok_s), "{:.1f}", 1),
    Column("vs<br>baseline", lambda row: row.speedup_vs_baseline, "{:.2f}×", 0, lambda row: row.speedup_verdict),
    Column("Cache<br>gain", lambda row: row.cache_speedup, "{:.1f}×", 0, lambda row: row.cache_speedup_verdict),
    Column("Per token<br>ms", lambda row: _median(row.tpot_s, 1000), "{:.1f}", -1),
    Column("TTFT<br>ms", lambda row: _median(row.ttft_s, 1000), "{:.0f}", -1),
    Column("Prefill<br>ms", lambda row: _median(row.prefill_s, 1000), "{:.0f}", -1),
    Column("Weights<br>GB", lambda row: _gb(row.memory.weights_bytes), "{:.2f}", -1),
    Column("KV<br>GB", lambda row: _gb(row.memory.kv_bytes), "{:.3f}", 0),
    Column("Peak<br>GB", lambda row: _gb(row.memory.peak_allocated_bytes), "{:.2f}", -1),
    Column("PPL", lambda row: row.quality.perplexity, "{:.3f}", 0),
)
HEADER = ("Model", "Precision", "Context", *(column.title for column in COLUMNS), "Change<br>of PPL", "Status")
LETTER, LINE, PADDING = 7.5, 18, 14  # pixels: of a letter, a line of a cell, and above and below the lines
FIXED_WIDTHS = (160, 72, *(column.width for column in COLUMNS), 100, 230)


def summary_table(rows: Sequence[CellRow]) -> go.Figure:
    """The table as a figure; a note when no speed cell exists."""
    lines = table_lines(rows)
    if not lines:
        return theme.blank(TITLE, "no speed cell in this sweep")
    widths = (40 + round(LETTER * max(len(line[0].text) for line in lines)), *FIXED_WIDTHS)
    figure = go.Figure(_table(lines, widths))
    mode = shown_cache_mode(row for row in rows if row.kind == "speed")
    theme.dress(
        figure,
        TITLE,
        f"{devices(rows)}; KV cache {mode}; {LEGEND}",
        height=175 + sum(_height(line, widths) for line in lines),
        width=sum(widths) + 60,
    )
    return figure.update_layout(margin={"l": 30, "r": 30, "t": 95, "b": 20})


def headline_rows(panel: Panel) -> list[CellRow]:
    """The panel's rows at 2048 tokens, or at its longest context when it has no such cells."""
    mode = shown_cache_mode(panel.rows)
    contexts = panel.contexts
    context = HEADLINE_CONTEXT if HEADLINE_CONTEXT in contexts else contexts[-1]
    return [row for row in panel.rows if row.context_tokens == context and row.cache_mode == mode]


def table_lines(rows: Sequence[CellRow]) -> list[list[Box]]:
    """The table's lines, each box with its text and fill, in the order of `HEADER`."""
    groups = [(panel, headline_rows(panel)) for panel in speed_panels(rows)]
    return [_line(panel, row, chosen) for panel, chosen in groups for row in chosen]


def _line(panel: Panel, row: CellRow, group: Sequence[CellRow]) -> list[Box]:
    color = theme.color_of(row.quantization)
    return [
        Box(panel.title, theme.PAPER),
        Box(theme.title_of(row.quantization), color),
        Box(f"{row.context_tokens:,}", theme.PAPER),
        *(_figure_box(column, row, group) for column in COLUMNS),
        _degradation_box(row),
        _status_box(row),
    ]


def _status_box(row: CellRow) -> Box:
    """How it ended; for a measured row also why its figures are not to be trusted."""
    if not row.is_ok:
        return Box(row.status.value, theme.BAD)
    return Box("ok", theme.PAPER) if is_trusted(row) else Box(f"○ {row.trust.verdict}", theme.WARN)


def _figure_box(column: Column, row: CellRow, group: Sequence[CellRow]) -> Box:
    value = column.pick(row) if row.is_ok else None
    if value is None:
        return Box(EMPTY, theme.PAPER)
    text = mark_of(column.verdict(row)) + column.form.format(value)
    present = [column.pick(other) for other in group if other.is_ok]
    known = sorted(column.better * other for other in present if other is not None)
    if not column.better or known[0] == known[-1]:
        return Box(text, theme.PAPER)
    rank = column.better * value
    if rank == known[-1]:
        return Box(f"▲ {text}", theme.GOOD)
    return Box(f"▼ {text}", theme.BAD) if rank == known[0] else Box(text, theme.PAPER)


def _height(line: Sequence[Box], widths: Sequence[int]) -> int:
    """Plotly wraps a text and makes its row taller, but not the figure: what is below would be cut off."""
    letters = [int((width - PADDING) / LETTER) for width in widths]
    lines = max(len(textwrap.wrap(box.text, most)) for box, most in zip(line, letters, strict=True))
    return PADDING + LINE * lines


def _degradation_box(row: CellRow) -> Box:
    """A traffic light: up to 1 %, up to 5 %, above."""
    percent = row.quality.perplexity_delta_percent
    if percent is None:
        is_baseline = row.quality.perplexity is not None and row.quantization == row.baseline_quantization
        return Box("baseline" if is_baseline else EMPTY, theme.PAPER)
    mark, fill = ("✓", theme.GOOD) if percent <= 1 else ("!", theme.WARN) if percent <= 5 else ("✗", theme.BAD)
    return Box(f"{mark} {percent:+.2f} %", fill)


def _table(lines: Sequence[Sequence[Box]], widths: Sequence[int]) -> go.Table:
    boxes = list(zip(*lines, strict=True))
    return go.Table(
        columnwidth=list(widths),
        header={
            "values": [f"<b>{title}</b>" for title in HEADER],
            "fill_color": theme.HEADER,
            "font": {"color": theme.ink_on(theme.HEADER), "size": 14, "family": theme.FONT},
            "align": ["left", "left", *["right"] * (len(HEADER) - 3), "left"],
            "height": 46,
        },
        cells={
            "values": [[box.text for box in column] for column in boxes],
            "fill_color": [[box.fill for box in column] for column in boxes],
            "font": {
                "color": [[theme.ink_on(box.fill) for box in column] for column in boxes],
                "size": 14,
                "family": theme.FONT,
            },
            "align": ["left", "left", *["right"] * (len(HEADER) - 3), "left"],
            "height": 32,
            "line_color": theme.GRID,
        },
    )
