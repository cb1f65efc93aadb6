"""The terminal's table: it fits 100 columns, shows every cell, and lists failures with their reason."""

import io

from rich.console import Console

from farm.present.terminal import print_table
from farm.records import Status
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build
from tests.unit import rich_records as rich


def printed(rows: list[CellRow], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(rows, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_it_fits_100_columns_without_cutting_a_figure() -> None:
    records = build.with_failures(build.sweep()) + build.sweep(build.SMOL, ("fp32", "nf4"), (2048,), "cpu")
    text = printed(cell_rows(records))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text
    assert "29.7" in text and "6.501" in text and "+6.1%" in text and "0.71x" in text


def test_failures_are_listed_with_their_reason() -> None:
    text = " ".join(printed(cell_rows(build.with_failures(build.sweep()))).split())
    assert "3 cell(s) failed:" in text
    assert "INT8 cache off, 2048 tokens, batch 1: CUDA out of memory: tried to allocate 2.00 GiB" in text


def test_the_longest_status_still_fits() -> None:
    rows = cell_rows([build.failed(build.speed_cell(build.load()), Status.PREDICTED_OOM, "needs [90] GB")])
    text = printed(rows)
    assert "predicted_oom" in text and "…" not in text
    assert "needs [90] GB" in text  # square brackets are text here and no markup


def test_a_sweep_of_perplexities_alone_has_a_table() -> None:
    rows = cell_rows([r for r in build.sweep() if r.quality is not None])
    text = printed(rows)
    assert "6.129" in text and "base" in text


def test_a_row_that_is_not_valid_is_marked_and_counted() -> None:
    text = printed(cell_rows(rich.rich_sweep()))
    assert "○ 25.3" in text and "○ 0.79x" in text and text.count("○ ") == 3
    assert "○ 1 cell(s) not valid by their own verdict: 1 noisy" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_nothing_prints_nothing() -> None:
    assert printed([]) == ""
