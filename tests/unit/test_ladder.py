"""The few rows and the one picture that come first: the fastest of each engine and bit width, drawn as measured."""

from dataclasses import replace

from farm.present.figures.decode_ladder import decode_ladder
from farm.present.ladder import ladder
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import rich_records as rich

ROWS = cell_rows(rich.rich_sweep())


def steps(rows: list[CellRow]) -> list[tuple[str, str | None, str]]:
    return [(row.engine, row.cache_mode, row.quantization) for row in ladder(rows)]


def test_a_step_is_an_engine_a_cache_mode_and_a_bit_width() -> None:
    assert steps(ROWS) == [
        ("eager", "off", "fp16"),
        ("eager", "on", "fp16"),
        ("eager", "on", "int8"),
        ("eager", "on", "nf4"),
        ("turbo", "on", "fp16"),
        ("turbo", "on", "int8"),
        ("turbo", "on", "nf4"),
    ]


def test_of_two_precisions_with_as_many_bits_the_faster_is_shown() -> None:
    nf4 = next(row for row in ladder(ROWS) if (row.engine, row.quantization) == ("eager", "nf4"))
    assert nf4.decode_tok_s is not None
    faster, slower = (
        replace(
            nf4, quantization="hqq", decode_tok_s=replace(nf4.decode_tok_s, median=factor * nf4.decode_tok_s.median)
        )
        for factor in (1.1, 0.9)
    )
    assert ("eager", "on", "hqq") in steps([*ROWS, faster]) and ("eager", "on", "nf4") not in steps([*ROWS, faster])
    assert steps([*ROWS, slower]) == steps(ROWS)


def test_every_bar_is_a_row_with_its_interval_its_limit_and_its_words() -> None:
    shown = ladder(ROWS)
    bars, limits, words = decode_ladder(ROWS).data
    for place, row in enumerate(shown):
        assert row.decode_tok_s is not None and row.decode_tok_s.ci_high is not None
        assert bars.x[place] == row.decode_tok_s.median
        assert bars.error_x.array[place] == row.decode_tok_s.ci_high - row.decode_tok_s.median
        assert limits.x[place] == row.roofline.decode_limit_tok_s
        assert words.text[place] in bars.hovertext[place]
    assert words.x[0] > max(*bars.x, *limits.x)


def test_a_bar_is_hollow_where_the_verdict_is_not_valid() -> None:
    def fills(rows: list[CellRow]) -> tuple[str, ...]:
        return decode_ladder(rows).data[0].marker.color

    doubted = [replace(row, trust=replace(row.trust, verdict="noisy")) for row in ladder(ROWS)]
    assert set(fills(doubted)) == {"#FFFFFF"} and "#FFFFFF" not in fills(ladder(ROWS))
    assert "hollow" in decode_ladder(doubted).layout.title.text


def test_without_a_measured_row_the_figure_says_so() -> None:
    failed = [row for row in ROWS if not row.is_ok]
    assert "Nothing to draw" in decode_ladder(failed).layout.annotations[0].text
