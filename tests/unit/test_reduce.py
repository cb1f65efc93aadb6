"""Records to rows: which attempt counts, what is joined, what stays empty, and always in the same order."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import FarmError
from farm.model_ref import ModelRef
from farm.records import Record, SpeedResult, Status
from farm.reduce import cell_rows, final_records, refuse_fake, trial_rows
from farm.rows import CellRow, Identity, TrialRow, columns, values
from tests.unit import record_builder as build

RUN = build.with_failures(build.sweep())
ROWS = cell_rows(RUN)


def row(quantization: str, context: int | None = 2048, cache: str | None = "on", rows: list[CellRow] = ROWS) -> CellRow:
    wanted = (quantization, context, cache)
    return next(r for r in rows if (r.quantization, r.context_tokens, r.cache_mode) == wanted)


def measured(of: TrialRow | CellRow) -> list[object]:
    """Values of every column that is not identity."""
    named = zip(columns(type(of)), values(of), strict=True)
    return [value for name, value in named if name not in (*columns(Identity), "attempt", "baseline_quantization")]


def test_the_latest_attempt_wins_whatever_the_order() -> None:
    cell = build.speed_cell(build.load())
    first, second = build.failed(cell, Status.CRASH, attempt=1), build.speed(cell, attempt=2)
    for records in ([first, second], [second, first]):
        assert final_records(records) == {second.key: second}
    assert cell_rows([first, second])[0].attempt == 2


def test_a_later_failure_replaces_an_earlier_result() -> None:
    cell = build.speed_cell(build.load())
    records = [build.speed(cell, attempt=1), build.failed(cell, Status.OOM, attempt=2)]
    assert [r.status for r in cell_rows(records)] == [Status.OOM]


def test_one_row_a_trial_and_one_for_each_cell_without() -> None:
    rows = trial_rows(RUN)
    trials = sum(len(record.speed.trials) if record.speed else 1 for record in RUN)
    assert len(rows) == trials == 4 * 10 * 10 - 3 * 10 + 3 + 4
    assert len(ROWS) == len(RUN)


def test_a_failed_cell_is_one_row_with_every_figure_empty() -> None:
    key = row("int8", 2048, "off").key
    (trial,) = [r for r in trial_rows(RUN) if r.key == key]
    assert trial.status is Status.OOM and trial.reason and "out of memory" in trial.reason
    assert (trial.context_tokens, trial.cache_mode, trial.device_name) == (2048, "off", "NVIDIA H100 80GB HBM3")
    assert set(measured(trial)) == {None}
    assert set(measured(row("int8", 2048, "off"))) == {None}


def test_a_failure_without_an_environment_has_no_device_name() -> None:
    lost = replace(build.failed(build.speed_cell(build.load()), Status.CRASH), environment=None)
    assert cell_rows([lost])[0].device_name is None


def test_a_message_of_several_lines_becomes_one() -> None:
    record = build.failed(build.speed_cell(build.load()), message="first line\n   second\tline")
    assert cell_rows([record])[0].reason == "first line second line"


def test_figures_of_a_trial_by_hand() -> None:
    cell = build.speed_cell(build.load(), context=512, batch=4)
    trial = replace(build.trial(0, 0.25, 0.02, tokens=101), ttft_s=0.3, e2e_s=2.3)
    record = _with_trials(build.speed(cell), (trial,))
    (got,) = trial_rows([record])
    assert got.tpot_s == pytest.approx(0.02)
    assert got.decode_tok_s == pytest.approx(200.0)
    assert got.prefill_tok_s == pytest.approx(8192.0)
    assert got.memory.weights_bytes == build.WEIGHTS["fp16"]
    assert cell_rows([record])[0].decode_tok_s.ci_low is None  # type: ignore[union-attr]


def test_statistics_are_of_the_trials() -> None:
    record = next(r for r in RUN if r.key.startswith(row("nf4").key))
    assert record.speed is not None
    prefills = sorted(trial.prefill_s for trial in record.speed.trials)
    summary = row("nf4").prefill_s
    assert summary is not None
    assert summary.median == pytest.approx((prefills[4] + prefills[5]) / 2)
    assert (summary.n, summary.outliers) == (10, (9,))
    assert row("nf4").itl_p99_s is not None  # 127 gaps


def test_speedups_are_ratios_of_medians_of_the_same_task() -> None:
    nf4, base = row("nf4"), row("fp16")
    assert nf4.decode_tok_s and base.decode_tok_s
    assert nf4.baseline_quantization == "fp16"
    assert nf4.speedup_vs_baseline == pytest.approx(nf4.decode_tok_s.median / base.decode_tok_s.median)
    assert nf4.speedup_vs_baseline == pytest.approx(23.2 / 32.7)
    assert base.speedup_vs_baseline is None


def test_a_ratio_is_worth_no_more_than_the_worse_of_its_two_rows() -> None:
    assert {r.speedup_verdict for r in ROWS} == {r.cache_speedup_verdict for r in ROWS} == {None, "valid"}
    doubtful = [replace(r, disturbed="beside") if r.key.startswith(row("fp16").key) else r for r in RUN]
    rows = cell_rows(doubtful)
    assert row("fp16", rows=rows).trust.distrust == row("fp16", rows=rows).cache_speedup_verdict == "contended"
    assert row("nf4", rows=rows).trust.distrust == "valid" != row("nf4", rows=rows).speedup_verdict == "contended"
    assert row("nf4", 512, rows=rows).cache_speedup_verdict == "valid"
    assert (row("fp16", rows=rows).speedup_verdict, row("int8", rows=rows).cache_speedup_verdict) == (None, None)


def test_the_cache_speedup_compares_with_the_same_cell_without_cache() -> None:
    on, off = row("fp16", 512), row("fp16", 512, "off")
    assert on.decode_tok_s and off.decode_tok_s
    assert on.cache_speedup == pytest.approx(on.decode_tok_s.median / off.decode_tok_s.median)
    assert off.cache_speedup is None
    assert row("int8").cache_speedup is None  # its uncached partner ran out of memory


@pytest.mark.parametrize(
    ("present", "expected"),
    [(("fp32", "bf16", "nf4"), "bf16"), (("fp32", "nf4"), "fp32"), (("int8", "nf4"), None)],
)
def test_the_baseline_is_the_first_one_present(present: tuple[str, ...], expected: str | None) -> None:
    rows = cell_rows(build.sweep(quantizations=present, contexts=(128,)))
    assert {r.baseline_quantization for r in rows} == {expected}
    speedup = row("nf4", 128, rows=rows).speedup_vs_baseline
    assert (speedup is None) == (expected is None)


def test_a_baseline_that_failed_everywhere_is_none() -> None:
    records = [
        build.failed(r.cell) if r.cell.load.quantization == "fp16" else r
        for r in build.sweep(quantizations=("fp16", "bf16", "nf4"), contexts=(128,))
    ]
    assert {r.baseline_quantization for r in cell_rows(records)} == {"bf16"}


def test_models_engines_and_devices_have_baselines_of_their_own() -> None:
    other = build.sweep(build.MISTRAL, ("nf4",), (128,)) + build.sweep(quantizations=("nf4",), device="cpu")
    rows = cell_rows(build.sweep(quantizations=("fp16",), contexts=(128,)) + other)
    assert all(r.baseline_quantization is None for r in rows if r.quantization == "nf4")


def test_two_kinds_of_gpu_are_not_compared() -> None:
    fp16, nf4 = (build.speed(build.speed_cell(build.load(quantization=name))) for name in ("fp16", "nf4"))
    assert nf4.environment is not None
    elsewhere = replace(nf4, environment=replace(nf4.environment, device_name="NVIDIA H200"))
    assert cell_rows([fp16, nf4])[1].speedup_vs_baseline is not None
    assert cell_rows([fp16, elsewhere])[1].speedup_vs_baseline is None


def test_quality_is_joined_by_load_and_has_a_row_of_its_own() -> None:
    own, joined = row("nf4", None, None), row("nf4", 128)
    assert own.kind == "quality"
    assert own.quality == joined.quality
    assert joined.quality.perplexity == pytest.approx(6.5013, abs=1e-4)  # exp(1.872)
    expected = 100 * (joined.quality.perplexity / row("fp16").quality.perplexity - 1)  # type: ignore[operator]
    assert joined.quality.perplexity_delta_percent == pytest.approx(expected)
    assert row("fp16").quality.perplexity_delta_percent is None
    trial = next(r for r in trial_rows(RUN) if r.quantization == "nf4" and r.trial == 3)
    assert trial.quality == joined.quality


def test_perplexities_of_two_texts_are_not_compared() -> None:
    records = build.sweep(quantizations=("fp16", "nf4"), contexts=(128,))
    edited = [
        replace(r, quality=replace(r.quality, text_sha256="0" * 64)) if r.quality and "nf4" in r.cell.label else r
        for r in records
    ]
    nf4 = row("nf4", 128, rows=cell_rows(edited)).quality
    assert nf4.perplexity is not None
    assert (nf4.perplexity_delta, nf4.perplexity_delta_percent) == (None, None)


def test_missing_memory_stays_none_and_keeps_its_reason() -> None:
    cpu = cell_rows(build.sweep(build.SMOL, ("fp32",), (128,), "cpu"))[0]
    assert cpu.memory.peak_allocated_bytes is None
    assert cpu.memory.memory_reason == build.CPU_REASON
    assert cpu.memory.weights_bytes == build.WEIGHTS["fp32"]
    assert cpu.memory.kv_bytes == build.KV_PER_TOKEN * (128 + build.NEW_TOKENS)


def test_a_measured_zero_is_not_missing() -> None:
    assert row("fp16", 128, "off").memory.kv_bytes == 0


def test_what_really_ran_is_read_off_the_record() -> None:
    evidence = row("int8").evidence
    assert evidence.linear_classes == "Linear:1 Linear8bitLt:224"
    assert (evidence.attention, evidence.cache_class, evidence.compiled) == ("sdpa", "DynamicCache", False)


def test_a_local_model_is_named_without_its_folder() -> None:
    local = ModelRef("local", "my-model", "abcdef", "/secret/place/my-model")
    got = cell_rows([build.speed(build.speed_cell(build.load(local)))])[0]
    assert (got.model, got.model_id) == ("my-model", "local:my-model@abcdef")
    assert not any("secret" in str(value) for value in values(got))


def test_fakes_are_refused_for_publication() -> None:
    fake = build.speed(build.speed_cell(build.load(ModelRef("fake", "steady"), engine="fake")))
    refuse_fake(RUN)
    with pytest.raises(FarmError, match=r"1 record.* fake engine"):
        refuse_fake([*RUN, fake])


def test_models_stand_in_the_order_of_the_records_and_precisions_in_the_catalogs() -> None:
    records = build.sweep(build.MISTRAL, ("nf4", "fp16"), (256, 128)) + build.sweep(contexts=(128,))
    rows = cell_rows(records)
    assert list(dict.fromkeys(r.model_id for r in rows)) == [
        "hf:mistralai/Mistral-7B-Instruct-v0.3@e0bc86c",
        "hf:meta-llama/Meta-Llama-3-8B-Instruct@5f0b02c",
    ]
    mistral = [(r.quantization, r.context_tokens, r.cache_mode) for r in rows if "Mistral" in r.model]
    sizes = [(128, "on"), (128, "off"), (256, "on"), (256, "off"), (None, None)]
    assert mistral == [(name, *size) for name in ("fp16", "nf4") for size in sizes]


def test_the_cached_cell_stands_before_the_uncached_one() -> None:
    modes = [r.cache_mode for r in ROWS if r.kind == "speed"]
    assert modes == ["on", "off"] * 20


@settings(max_examples=15)
@given(st.permutations(range(len(RUN))))
def test_the_order_of_one_models_records_changes_nothing(order: list[int]) -> None:
    assert list(final_records(RUN[index] for index in order)) == list(final_records(RUN))


def test_rows_of_shuffled_records_are_equal() -> None:
    assert cell_rows(RUN[::-1]) == ROWS
    assert trial_rows(RUN[::-1]) == trial_rows(RUN)


def test_no_records_no_rows() -> None:
    assert cell_rows([]) == trial_rows([]) == []


def _with_trials(record: Record, trials: tuple[object, ...]) -> Record:
    speed = record.speed
    assert isinstance(speed, SpeedResult)
    return replace(record, speed=replace(speed, trials=trials))  # type: ignore[arg-type]
