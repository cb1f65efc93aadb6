"""The results in the terminal: one coloured line a speed cell, then what failed and why.

Why so few columns: it must read at 100 columns over ssh; cells.csv has the rest. Colours repeat what the text says.

    print_table(cell_rows(records), Console())
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farm.present.figures.panels import Panel, quality_panels, speed_panels
from farm.present.figures.points import is_trusted, mark_of
from farm.present.theme import color_of, short_title_of
from farm.rows import CellRow
from farm.stats import Summary

EMPTY = Text("–", style="dim")
COLUMNS = ("cache", "context", "tok/s", "95% interval", "TTFT ms", "prefill ms", "peak GB", "PPL", "change", "vs base")


def print_table(rows: Sequence[CellRow], console: Console) -> None:
    """Print every panel's table, then perplexities without a speed row, then failures."""
    panels = speed_panels(rows)
    for panel in panels:
        console.print(_speed_table(panel))
    if not panels:
        for panel in quality_panels(rows):
            console.print(_quality_table(panel))
    _print_suspects(rows, console)
    _print_failures(rows, console)


def _speed_table(panel: Panel) -> Table:
    table = Table(title=panel.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0)
    table.add_column("precision", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    previous = panel.rows[0].quantization
    for row in panel.rows:
        if row.quantization != previous:
            table.add_section()
        previous = row.quantization
        table.add_row(_precision(row), *(_measured(row) if row.is_ok else _failed(row)))
    return table


def _quality_table(panel: Panel) -> Table:
    table = Table("precision", "PPL", "change", title=panel.title, title_justify="left", title_style="bold")
    for row in panel.rows:
        shown = (_number(row.quality.perplexity, 3), _change(row)) if row.is_ok else (_status(row), EMPTY)
        table.add_row(_precision(row), *shown)
    return table


def _measured(row: CellRow) -> list[Text]:
    return [
        *_task(row),
        _speed(row),
        _interval(row.decode_tok_s),
        _number(_median(row.ttft_s, 1000), 1),
        _number(_median(row.prefill_s, 1000), 1),
        _number(None if row.memory.peak_allocated_bytes is None else row.memory.peak_allocated_bytes / 1e9, 2),
        _number(row.quality.perplexity, 3),
        _change(row),
        Text(mark_of(row.speedup_verdict)) + _number(row.speedup_vs_baseline, 2, "x"),
    ]


def _speed(row: CellRow) -> Text:
    """Hollow like a figure's marker when the row is not valid by its verdict."""
    text = _number(_median(row.decode_tok_s), 1)
    return text if is_trusted(row) else Text(f"○ {text.plain}", style="yellow")


def _failed(row: CellRow) -> list[Text]:
    return [*_task(row), _status(row), *[EMPTY] * (len(COLUMNS) - 3)]


def _task(row: CellRow) -> list[Text]:
    return [Text(row.cache_mode or ""), Text(f"{row.context_tokens:,}" if row.context_tokens else "")]


def _precision(row: CellRow) -> Text:
    return Text(short_title_of(row.quantization), style=f"bold {color_of(row.quantization)}")


def _status(row: CellRow) -> Text:
    return Text(row.status.value, style="bold red")


def _median(summary: Summary | None, scale: float = 1.0) -> float | None:
    return None if summary is None else summary.median * scale


def _number(value: float | None, digits: int, unit: str = "") -> Text:
    if value is None:
        return EMPTY
    return Text(f"{value:,.{digits if value < 1000 else 0}f}{unit}")


def _interval(summary: Summary | None) -> Text:
    if summary is None or summary.ci_low is None or summary.ci_high is None:
        return EMPTY
    return Text(f"{summary.ci_low:.1f}-{summary.ci_high:.1f}", style="dim")


def _change(row: CellRow) -> Text:
    """Perplexity against the baseline: green up to 1 %, yellow up to 5 %, red above."""
    percent = row.quality.perplexity_delta_percent
    if percent is None:
        is_baseline = row.quality.perplexity is not None and row.quantization == row.baseline_quantization
        return Text("base", style="dim") if is_baseline else EMPTY
    style = "green" if percent <= 1 else "yellow" if percent <= 5 else "red"
    return Text(f"{percent:+.1f}%", style=style)


def _print_suspects(rows: Iterable[CellRow], console: Console) -> None:
    counts = Counter(row.trust.distrust for row in rows if row.is_ok and not is_trusted(row))
    if counts:
        words = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        console.print(Text(f"○ {counts.total()} cell(s) not valid by their own verdict: {words}", style="yellow"))


def _print_failures(rows: Iterable[CellRow], console: Console) -> None:
    failures = [row for row in rows if not row.is_ok]
    if failures:
        console.print(Text(f"{len(failures)} cell(s) failed:", style="bold red"))
    for row in failures:
        head = Text(f"  {row.status.value} ", style="red")
        console.print(head + Text(f"{_name(row)}: {row.reason or 'no message'}", style="default"))


def _name(row: CellRow) -> str:
    if row.kind == "quality":
        return f"{row.model} {short_title_of(row.quantization)} perplexity {row.protocol}"
    task = f"cache {row.cache_mode}, {row.context_tokens} tokens, batch {row.batch_size}"
    return f"{row.model} {short_title_of(row.quantization)} {task}"
