"""The mission's expectations beside the rows: which row answers which, the outcome, and the reason it gives."""

from dataclasses import replace

import pytest

from farm.present.expected import EXPECTED, Compared, compare, quality_rows, why
from farm.present.ladder import headline_rows
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build
from tests.unit import rich_records as rich

ROWS = cell_rows(rich.rich_sweep())
FOUND = compare(ROWS)


def one(name: str, quantization: str, engine: str = "eager") -> Compared:
    (found,) = [c for c in FOUND if (c.name, c.row.quantization, c.row.engine) == (name, quantization, engine)]
    return found


def changed(row: CellRow, **trust: object) -> CellRow:
    return replace(row, trust=replace(row.trust, **trust))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "outcome"),
    [
        ("fp16", 39.9, "below"),
        ("fp16", 40, "within"),
        ("fp16", 50, "within"),
        ("fp16", 50.1, "above"),
        ("no_cache", 0.1, "within"),
        ("no_cache", 5.1, "above"),
        ("ppl", -1, "within"),
        ("ppl", 5.01, "above"),
        ("compile", 14, "below"),
    ],
)
def test_an_outcome_is_where_the_value_lies(name: str, value: float, outcome: str) -> None:
    assert EXPECTED[name].outcome(value) == outcome


def test_speed_is_that_of_the_longest_prompt_of_the_first_model() -> None:
    shown = headline_rows(ROWS)
    assert {row.context_tokens for row in shown} == {2048}
    assert {row.batch_size for row in shown} == {1}
    assert any(not row.is_ok for row in shown)
    other = cell_rows(rich.rich_sweep() + build.sweep(build.MISTRAL))
    assert {row.model_id for row in headline_rows(other)} == {ROWS[0].model_id}


def test_every_value_is_the_rows_own() -> None:
    fp16 = one("fp16", "fp16")
    assert fp16.row.decode_tok_s is not None
    assert fp16.value == fp16.row.decode_tok_s.median == pytest.approx(29.7, rel=0.01)
    assert (fp16.outcome, one("fp16", "fp16", "turbo").outcome) == ("below", "above")
    assert one("4bit", "nf4").value == pytest.approx(21.1, rel=0.01)
    assert one("no_cache", "fp16").row.cache_mode == "off"
    assert one("ppl", "nf4").value == one("ppl", "nf4").row.quality.perplexity_delta_percent
    assert not [c for c in FOUND if c.name == "ppl" and c.row.quantization == "bf16"]  # 16 bit is no quantization


def test_the_order_is_the_missions() -> None:
    names = list(dict.fromkeys(c.name for c in FOUND))
    assert names == [name for name in EXPECTED if name in names]


def test_compiling_is_compared_with_the_eager_row_of_the_same_precision() -> None:
    eager = headline_rows(ROWS)[0]
    assert eager.decode_tok_s is not None
    faster = replace(eager.decode_tok_s, median=1.5 * eager.decode_tok_s.median)
    found = compare([*ROWS, replace(eager, engine="compiled", decode_tok_s=faster)])
    (compiled,) = [c for c in found if c.name == "compile"]
    assert (compiled.value, compiled.outcome) == (pytest.approx(50), "above")


def test_the_reason_is_read_off_the_row() -> None:
    fp16 = one("fp16", "fp16")
    assert "at 15 % of the measured bandwidth; at 100 % it would be 198 tokens/s" in why(fp16, "en")
    bound = replace(fp16, row=changed(fp16.row, launch_share=0.97))
    assert why(bound, "en").startswith("the host takes 97 % of a token's time")
    noisy = replace(fp16, row=changed(fp16.row, verdict="noisy"))
    assert why(noisy, "en").startswith("**not valid by its own verdict (noisy)**; reads at 15 %")
    assert "2,048 and more tokens" in why(one("no_cache", "fp16"), "en")
    assert "2\u202f048" in why(one("no_cache", "fp16"), "es")


def test_only_the_headline_protocol_counts_as_quality() -> None:
    other = build.quality(build.quality_cell(build.load(), "lm-eval"))
    rows = cell_rows([*rich.rich_sweep(), other])
    assert {row.protocol for row in quality_rows(rows)} == {"gptq-2048"}
