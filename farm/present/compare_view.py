"""`farm compare` on the terminal: one table, then one line that says whether anything got worse.

print_comparison(compare(old, new))
"""

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farm.compare import Change, Comparison, Pair
from farm.present.theme import short_title_of
from farm.rows import CellRow

STYLES = {"worse": "bold red", "broken": "bold red", "better": "green", "mended": "green", "not comparable": "yellow"}


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """The table of all pairs, what has no partner, and the verdict."""
    console = console or Console(width=max(120, Console().width))
    console.print(_table(comparison.pairs))
    _print_devices(comparison, console)
    for rows, where in ((comparison.only_old, "first"), (comparison.only_new, "second")):
        if rows:
            console.print(f"[dim]{len(rows)} configuration(s) only in the {where} run, such as {_title(rows[0])}[/]")
    counts = Counter(pair.word for pair in comparison.pairs)
    console.print(Text(", ".join(f"{count} {word}" for word, count in sorted(counts.items())), style="bold"))
    for pair in comparison.regressions:
        console.print(Text("  regression: ", style="bold red") + Text(_regression(pair)))


def _table(pairs: Sequence[Pair]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("configuration")
    for name in ("tok/s", "ratio [95 %]", "TTFT ms", "ratio [95 %]"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for pair in pairs:
        figures = (*_figure(pair.decode_tok_s, 1.0), *_figure(pair.ttft_s, 1000.0))
        table.add_row(_title(pair.new), *figures, Text(_word(pair), style=STYLES.get(pair.word, "")))
    return table


def _figure(change: Change | None, scale: float) -> tuple[str, str]:
    if change is None:
        return "–", "–"
    interval = "" if change.low is None else f" [{change.low:.2f}, {change.high:.2f}]"
    return f"{change.old * scale:.1f} > {change.new * scale:.1f}", f"{change.ratio:.2f}{interval}"


def _word(pair: Pair) -> str:
    return f"{pair.word}: {', '.join(pair.not_comparable)}" if pair.not_comparable else pair.word


def _regression(pair: Pair) -> str:
    if pair.word == "broken":
        return f"{_title(pair.new)}: was ok, now {pair.new.status.value}: {pair.new.reason or 'no message'}"
    worse = [
        f"{name} {change.ratio:.2f}x [{change.low:.2f}, {change.high:.2f}]"
        for name, change in (("tok/s", pair.decode_tok_s), ("TTFT", pair.ttft_s))
        if change is not None and change.word == "worse"
    ]
    return f"{_title(pair.new)}: {', '.join(worse)}"


def _print_devices(comparison: Comparison, console: Console) -> None:
    old, new = (", ".join(str(name) for name in names) for names in comparison.devices)
    if old != new:
        console.print(f"[yellow]the runs are of different devices: {old} and {new}[/]")


def _title(row: CellRow) -> str:
    task = f"cache {row.cache_mode}, {row.context_tokens} tokens, batch {row.batch_size}"
    return f"{row.model} {short_title_of(row.quantization)} {row.engine}, {task}"
