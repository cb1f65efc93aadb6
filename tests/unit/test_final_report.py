"""final_report.json: the mission's keys to the letter, a reason for every null, and answers that can be checked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import FarmError
from farm.model_ref import ModelRef
from farm.present.final_report import to_json
from farm.present.report import write_outputs
from farm.records import Record, Status
from farm.reduce import cell_rows
from tests.unit import record_builder as build

RUN = build.with_failures(build.sweep())
FOUR = {"tokens_s_2048", "vram_gb", "prefill_ms", "ppl"}
PRECISIONS = ("fp16", "bf16", "int8", "4bit")


def report(records: list[Record], sweep: str | None = None) -> Any:
    return json.loads(to_json(records, sweep))


def test_every_precision_has_exactly_the_missions_keys() -> None:
    got = report(RUN)
    for name in PRECISIONS:
        assert set(got[name]) == FOUR
        assert all(isinstance(value, float) for value in got[name].values())
    assert got["reasons"] == {name: {} for name in PRECISIONS}


def test_the_figures_are_those_of_the_cell_with_2048_tokens() -> None:
    got = report(RUN)
    row = next(r for r in cell_rows(RUN) if (r.quantization, r.context_tokens, r.cache_mode) == ("nf4", 2048, "on"))
    assert row.decode_tok_s and row.prefill_s and row.memory.peak_allocated_bytes
    assert got["4bit"] == {
        "tokens_s_2048": row.decode_tok_s.median,
        "vram_gb": row.memory.peak_allocated_bytes / 1e9,
        "prefill_ms": row.prefill_s.median * 1000,
        "ppl": row.quality.perplexity,
    }
    assert got["source_cells"]["4bit"]["speed"] == row.key
    assert got["source_cells"]["4bit"]["text"] == "wikitext-2"
    low, high = got["ci"]["4bit"]["tokens_s_2048"]
    assert low <= row.decode_tok_s.median <= high


def test_the_quality_beside_the_figures_is_that_of_the_quality_row() -> None:
    got, rows = report(RUN), cell_rows(RUN)
    row = next(r for r in rows if (r.quantization, r.kind) == ("nf4", "quality"))
    assert got["quality"]["4bit"]["ppl_delta_percent"] == row.quality.perplexity_delta_percent
    assert got["quality"]["4bit"]["ppl_within_5_percent"] == row.quality.ppl_within_5_percent is not None
    assert got["quality"]["4bit"]["kl_mean"] == row.quality.agreement.kl_mean
    assert got["quality"]["fp16"]["ppl_delta_percent"] is None


def test_every_entry_of_the_axis_has_its_own_figures() -> None:
    got = report(RUN)
    assert set(got["quantizations"]) == {r.quantization for r in cell_rows(RUN)}
    for name, key in (("fp16", "fp16"), ("nf4", "4bit")):
        assert {figure: got["quantizations"][name][figure] for figure in FOUR} == got[key]
        assert got["quantizations"][name]["sources"] == got["source_cells"][key]


def test_a_precision_outside_the_sweep_is_null_with_that_reason() -> None:
    got = report(build.sweep(quantizations=("fp16",)))
    assert got["int8"] == dict.fromkeys(FOUR)
    assert got["reasons"]["int8"] == dict.fromkeys(FOUR, "not in the sweep")


def test_a_sweep_without_2048_tokens_says_so() -> None:
    got = report(build.sweep(contexts=(128,)))
    assert got["fp16"]["tokens_s_2048"] is None
    assert got["fp16"]["ppl"] is not None
    assert set(got["reasons"]["fp16"]) == {"tokens_s_2048", "vram_gb", "prefill_ms"}
    assert "no 2048-token cell" in got["reasons"]["fp16"]["vram_gb"]


@pytest.mark.parametrize("other", [{"batch": 2}, {"cache": "off"}, {"context": 4096}])
def test_only_batch_1_with_cache_counts(other: dict[str, Any]) -> None:
    got = report([build.speed(build.speed_cell(build.load(), **other))])
    assert got["fp16"]["tokens_s_2048"] is None


def test_the_cpu_has_speed_but_no_vram() -> None:
    got = report(build.sweep(build.SMOL, ("bf16",), (2048,), "cpu"))
    assert got["bf16"]["tokens_s_2048"] is not None
    assert got["bf16"]["vram_gb"] is None
    assert got["reasons"]["bf16"] == {"vram_gb": build.CPU_REASON}


def test_random_weights_have_speed_but_no_perplexity() -> None:
    got = report(build.sweep(build.RANDOM))
    assert got["fp16"]["tokens_s_2048"] is not None and got["fp16"]["ppl"] is None
    assert got["reasons"]["fp16"] == {"ppl": "perplexity of random weights means nothing"}


def test_even_a_measured_perplexity_of_random_weights_is_not_reported() -> None:
    got = report([build.quality(build.quality_cell(build.load(build.RANDOM)))])
    assert got["fp16"]["ppl"] is None
    assert got["reasons"]["fp16"]["ppl"] == "perplexity of random weights means nothing"


def test_a_failed_cell_gives_its_message() -> None:
    records = [build.failed(r.cell) if r.cell.load.quantization == "int8" else r for r in build.sweep()]
    got = report(records)
    assert got["int8"] == dict.fromkeys(FOUR)
    assert all(reason.startswith("oom: CUDA out of memory") for reason in got["reasons"]["int8"].values())
    assert set(got["reasons"]["int8"]) == FOUR


def test_a_model_without_a_quality_cell_says_so() -> None:
    got = report([r for r in RUN if r.quality is None])
    assert got["reasons"]["bf16"] == {"ppl": "no perplexity cell in this sweep"}


def test_the_first_model_of_the_records_is_the_headline_and_the_others_lie_under_models() -> None:
    mistral = build.sweep(build.MISTRAL, ("fp16",), (2048,))
    got = report(mistral + build.sweep())
    assert got["run"]["headline_model"] == "hf:mistralai/Mistral-7B-Instruct-v0.3@e0bc86c"
    assert got["int8"] == dict.fromkeys(FOUR)
    (other,) = got["models"]
    assert other == "hf:meta-llama/Meta-Llama-3-8B-Instruct@5f0b02c, eager, cuda"
    assert set(got["models"][other]["4bit"]) == FOUR and got["models"][other]["4bit"]["ppl"] is not None


def test_the_run_counts_every_cell_by_status() -> None:
    run = report(RUN, "night")["run"]
    assert run["counts_by_status"] == {"ok": len(RUN) - 3, "oom": 1, "timeout": 2}
    assert (run["sweep"], run["cells"]) == ("night", len(RUN))
    assert run["first_started_at"] == RUN[0].started_at


def test_every_failure_is_listed_with_its_message() -> None:
    failures = report(RUN)["failures"]
    assert [item["status"] for item in failures] == ["oom", "timeout", "timeout"]
    assert failures[0]["label"].endswith("cache off, 2048 in + 128 out, batch 1")
    assert "1.10 GiB free" in failures[0]["message"]


def test_what_the_cache_buys_at_each_context() -> None:
    answers = [a for a in report(RUN)["answers"]["kv_cache"] if a["quantization"] == "fp16"]
    assert [a["context_tokens"] for a in answers] == [128, 256, 512, 1024, 2048]
    for answer in answers:
        assert answer["decode_speedup"] == pytest.approx(answer["tokens_s_on"] / answer["tokens_s_off"])
    assert answers[0]["decode_speedup"] < answers[-1]["decode_speedup"]


def test_is_4_bit_worth_it() -> None:
    answer = report(RUN)["answers"]["four_bit"][-1]
    assert (answer["baseline"], answer["context_tokens"]) == ("fp16", 2048)
    assert answer["speed_ratio"] == pytest.approx(23.2 / 32.7)
    assert answer["memory_ratio"] == pytest.approx(0.3883, abs=1e-4)  # 6.664 GB against 17.165 GB
    assert answer["in_words"] == "0.71x the decode speed, 0.39x the memory, +6.08 % perplexity"


def test_the_sweet_spot_is_the_pareto_front() -> None:
    (spot,) = report(RUN)["answers"]["sweet_spot"]
    assert spot["criteria"] == ["decode_tok_s", "peak_allocated", "perplexity"]
    # BF16 is slower than FP16 at the same memory and a worse perplexity; INT8 is slower than NF4 but more exact.
    assert [item["quantization"] for item in spot["front"]] == ["fp16", "int8", "nf4"]


def test_without_perplexity_the_front_has_two_criteria() -> None:
    (spot,) = report(build.sweep(build.RANDOM))["answers"]["sweet_spot"]
    assert spot["criteria"] == ["decode_tok_s", "peak_allocated"]
    assert [item["quantization"] for item in spot["front"]] == ["fp16", "nf4"]


def test_one_environment_is_one_entry_whatever_the_workers_note() -> None:
    assert RUN[0].environment is not None
    noted = replace(RUN[0], environment=replace(RUN[0].environment, worker={"pid": "1"}))
    (place,) = report([noted, *RUN[1:]])["environment"]
    assert (place["cells"], place["device_name"]) == (len(RUN), "NVIDIA H100 80GB HBM3")
    assert "worker" not in place


@settings(max_examples=10, deadline=None)  # a whole report takes long on a busy machine
@given(st.permutations(range(len(RUN))))
def test_the_bytes_do_not_depend_on_the_order_of_one_models_records(order: list[int]) -> None:
    assert to_json([RUN[index] for index in order], "night") == BYTES


BYTES = to_json(RUN, "night")


def test_a_part_of_a_run_says_how_many_cells_were_asked_for() -> None:
    run = json.loads(to_json(RUN, asked=len(RUN) + 3))["run"]
    assert run["cells_asked"] - run["cells"] == 3


def test_the_file_has_sorted_keys_and_no_nan() -> None:
    text = BYTES.decode()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    assert "NaN" not in text and "Infinity" not in text


def test_no_records_still_give_a_whole_report() -> None:
    got = report([])
    assert got["run"]["headline_model"] is None
    assert got["fp16"] == dict.fromkeys(FOUR)
    assert got["failures"] == got["environment"] == []


def test_all_outputs_are_written_and_byte_identical_on_rerun(tmp_path: Path) -> None:
    outputs = write_outputs(RUN, tmp_path, images=False)
    names = {str(file.relative_to(tmp_path)) for file in outputs.files}
    assert {"benchmarks/results.csv", "benchmarks/cells.csv", "metrics/final_report.json"} <= names
    assert {"benchmarks/summary_table.html", "figures/ppl_degradation.html", "figures/plotly.min.js"} <= names
    assert names == {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert outputs.warnings == ()
    before = {file: file.read_bytes() for file in outputs.files}
    write_outputs(RUN, tmp_path, images=False)
    assert {file: file.read_bytes() for file in outputs.files} == before


def test_fakes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    fake = build.speed(build.speed_cell(build.load(ModelRef("fake", "steady"), engine="fake")))
    with pytest.raises(FarmError, match="fake engine"):
        write_outputs([fake], tmp_path / "out", images=False)
    assert not (tmp_path / "out").exists()
    assert write_outputs([fake], tmp_path / "out", images=False, allow_fake=True).files


def test_a_result_without_decode_is_explained() -> None:
    record = build.speed(build.speed_cell(build.load()))
    assert record.speed is not None
    single = tuple(replace(trial, output_tokens=1) for trial in record.speed.trials)
    got = report([replace(record, speed=replace(record.speed, trials=single))])
    assert got["fp16"]["tokens_s_2048"] is None and got["fp16"]["prefill_ms"] is not None
    assert got["reasons"]["fp16"]["tokens_s_2048"] == "no token after the first one was timed"


def test_an_unsupported_precision_is_a_finding_with_its_sentence() -> None:
    failed = build.failed(build.speed_cell(build.load(quantization="int8")), Status.UNSUPPORTED, "needs a GPU")
    assert report([failed])["reasons"]["int8"]["tokens_s_2048"] == "unsupported: needs a GPU"
