"""Quality in the rows: two protocols and the agreement with the 16-bit model, each in columns of its own."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from farm.baseline import quality_rank
from farm.cells import Load, QualityTask, TextRef
from farm.present.figures.panels import quality_panels
from farm.present.final_report import to_json
from farm.records import Record, Status
from farm.reduce import cell_rows, trial_rows
from farm.rows import CellRow, QualityFigures, columns
from tests.unit import record_builder as build

AGREEMENT: dict[str, Any] = {"kl_mean": 0.02, "top1_agreement": 0.93, "agreement_tokens": 4096, "reference": "fp16"}
NOT_ASKED = {"kl_mean": "quality.agreement_tokens is 0"}


def run(name: str, **agreement: Any) -> list[Record]:
    """One speed cell and both protocols; a page-level token costs a tenth more."""
    of = build.load(quantization=name)
    return [
        build.speed(build.speed_cell(of, 128)),
        build.quality(build.quality_cell(of, "lm-eval"), nll_sum=1.1 * build.NLL[name] * 300_000, reasons=NOT_ASKED),
        build.quality(build.quality_cell(of), **agreement),
    ]


RUN = [*run("fp16", reasons={"kl_mean": "this is the reference"}), *run("int8", **AGREEMENT), *run("nf4", **AGREEMENT)]
ROWS = cell_rows(RUN)


def row(name: str, protocol: str | None = None, rows: list[CellRow] = ROWS) -> CellRow:
    return next(r for r in rows if (r.quantization, r.protocol) == (name, protocol))


def test_a_speed_row_has_the_token_perplexity_of_gptq() -> None:
    figures = row("nf4").quality
    assert figures.perplexity == pytest.approx(math.exp(build.NLL["nf4"]))
    assert (figures.perplexity_protocol, figures.perplexity_tokens) == ("gptq-2048", 280_000)
    assert figures.perplexity == row("nf4", "gptq-2048").quality.perplexity


def test_and_the_word_perplexity_of_lm_eval_in_columns_of_its_own() -> None:
    document, base = row("nf4").quality.document, row("fp16").quality.document
    nll = 1.1 * build.NLL["nf4"] * 300_000
    assert document.lm_eval_word_perplexity == pytest.approx(math.exp(nll / 245_000))
    assert document.lm_eval_bits_per_byte == pytest.approx(nll / math.log(2) / 1_290_000)
    assert (document.lm_eval_protocol, document.lm_eval_text) == ("lm-eval-2048", "wikitext-2")
    assert document.lm_eval_word_perplexity and base.lm_eval_word_perplexity
    change = 100 * (document.lm_eval_word_perplexity / base.lm_eval_word_perplexity - 1)
    assert document.lm_eval_word_perplexity_delta_percent == pytest.approx(change)
    assert base.lm_eval_word_perplexity_delta_percent is None


def test_a_quality_row_has_its_own_figures_only() -> None:
    gptq, pages = row("nf4", "gptq-2048").quality, row("nf4", "lm-eval-2048").quality
    assert gptq.document.lm_eval_word_perplexity is None
    assert pages.document == row("nf4").quality.document
    assert pages.perplexity_protocol == "lm-eval-2048"
    assert pages.agreement.agreement_reason == NOT_ASKED["kl_mean"]


def test_less_than_five_percent_passes() -> None:
    assert row("int8").quality.perplexity_delta_percent == pytest.approx(0.8, abs=0.01)
    assert row("int8").quality.ppl_within_5_percent is True
    assert row("nf4").quality.perplexity_delta_percent == pytest.approx(6.08, abs=0.01)
    assert row("nf4").quality.ppl_within_5_percent is False
    assert row("fp16").quality.ppl_within_5_percent is None


def test_the_agreement_reaches_the_speed_row_with_its_reason() -> None:
    agreement = row("int8").quality.agreement
    assert (agreement.kl_mean, agreement.top1_agreement, agreement.agreement_tokens) == (0.02, 0.93, 4096)
    assert (agreement.agreement_reference, agreement.agreement_reason) == ("fp16", None)
    assert row("fp16").quality.agreement.agreement_reason == "this is the reference"


def test_an_agreement_measured_by_the_other_protocol_counts_too() -> None:
    of = build.load(quantization="int8")
    records = [
        build.speed(build.speed_cell(of, 128)),
        build.quality(build.quality_cell(of), reasons=NOT_ASKED),
        build.quality(build.quality_cell(of, "lm-eval"), **AGREEMENT),
    ]
    assert row("int8", rows=cell_rows(records)).quality.agreement.kl_mean == 0.02


def test_without_gptq_the_headline_is_lm_evals_token_perplexity() -> None:
    rows = cell_rows([r for r in RUN if r.quality is None or r.quality.protocol != "gptq-2048"])
    figures = row("nf4", rows=rows).quality
    assert figures.perplexity_protocol == "lm-eval-2048"
    assert figures.document.lm_eval_protocol == "lm-eval-2048"


def test_a_failed_headline_is_not_replaced_by_another_protocol() -> None:
    records = [build.failed(r.cell) if _is_gptq_of(r, "int8") else r for r in RUN]
    figures = row("int8", rows=cell_rows(records)).quality
    assert (figures.perplexity, figures.perplexity_protocol) == (None, None)
    assert figures.document.lm_eval_word_perplexity is not None
    got = json.loads(to_json(records))
    assert got["int8"]["ppl"] is None and "out of memory" in got["reasons"]["int8"]["ppl"]


def _is_gptq_of(record: Record, name: str) -> bool:
    return record.quality is not None and record.quality.protocol == "gptq-2048" and record.cell.load == _load(name)


def _load(name: str) -> Load:
    return build.load(quantization=name)


def test_the_report_takes_the_token_perplexity_of_gptq() -> None:
    got = json.loads(to_json(RUN))
    assert got["4bit"]["ppl"] == pytest.approx(math.exp(build.NLL["nf4"]))
    assert got["source_cells"]["4bit"]["protocol"] == "gptq-2048"


def test_each_protocol_has_a_panel() -> None:
    titles = [panel.title.rpartition(", ")[2] for panel in quality_panels(ROWS)]
    assert titles == ["gptq-2048", "lm-eval-2048"]
    assert all(len(panel.rows) == 3 for panel in quality_panels(ROWS))


def test_a_failed_quality_row_names_its_protocol() -> None:
    (failed,) = cell_rows([build.failed(build.quality_cell(_load("fp16"), "lm-eval"))])
    assert (failed.protocol, failed.status, failed.quality) == ("lm-eval-2048", Status.OOM, QualityFigures())


def test_trial_rows_carry_the_same() -> None:
    trial = next(r for r in trial_rows(RUN) if r.quantization == "int8" and r.kind == "speed")
    assert trial.quality == row("int8").quality
    assert {"kl_mean", "top1_agreement", "ppl_within_5_percent", "lm_eval_bits_per_byte"} <= set(columns(CellRow))


def test_the_order_of_the_records_changes_nothing() -> None:
    assert cell_rows(RUN[::-1]) == ROWS


def test_the_headline_is_the_token_level_then_the_smaller_window() -> None:
    tasks = [QualityTask(p, TextRef("t", None), w, None) for p in ("lm-eval", "gptq") for w in (4096, 2048)]
    assert [task.protocol_id for task in sorted(tasks, key=quality_rank)] == [
        "gptq-2048",
        "gptq-4096",
        "lm-eval-2048",
        "lm-eval-4096",
    ]
    assert quality_rank(replace(tasks[0], max_tokens=10)) < quality_rank(tasks[0])
