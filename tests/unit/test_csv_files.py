"""The CSV files: a header from the fields, every digit, empty for missing, and the same bytes every time."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import FarmError
from farm.present.csv_files import to_csv, write_cells_csv, write_results_csv
from farm.reduce import cell_rows, trial_rows
from farm.rows import CellRow, Identity, TrialRow, columns, values
from tests.unit import record_builder as build

RUN = build.with_failures(build.sweep(contexts=(128, 2048)))
TRIALS = trial_rows(RUN)


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_identity_comes_first_and_columns_carry_units() -> None:
    names = columns(TrialRow)
    assert names[:7] == ("key", "kind", "model", "model_id", "quantization", "engine", "device")
    for name in ("ttft_s", "prefill_s", "decode_tok_s", "peak_allocated_bytes", "perplexity_delta_percent"):
        assert name in names
    assert "ttft_s_median" in columns(CellRow) and "ttft_s_ci_low" in columns(CellRow)
    assert len(set(columns(CellRow))) == len(columns(CellRow))
    assert len(set(names)) == len(names)


def test_flat_values_stand_under_their_names() -> None:
    row = cell_rows(RUN)[0]
    flat = dict(zip(columns(CellRow), values(row), strict=True))
    assert row.ttft_s is not None
    assert flat["ttft_s_median"] == row.ttft_s.median
    assert flat["tpot_s_n"] == 10
    assert flat["weights_bytes"] == row.memory.weights_bytes
    assert flat["perplexity"] == row.quality.perplexity
    assert flat["attention"] == "sdpa"


def test_a_trial_reads_back_with_every_digit() -> None:
    rows = trial_rows(RUN)
    for row, line in zip(rows, parsed(to_csv(TrialRow, rows)), strict=True):
        if row.trial is not None:
            assert float(line["ttft_s"]) == row.ttft_s
            assert int(line["trial"]) == row.trial
            assert float(line["decode_tok_s"]) == row.decode_tok_s


def test_missing_is_empty_and_a_failure_has_its_row() -> None:
    lines = parsed(to_csv(TrialRow, trial_rows(RUN)))
    (failed,) = [line for line in lines if line["status"] == "oom"]
    assert (failed["quantization"], failed["context_tokens"], failed["cache_mode"]) == ("int8", "2048", "off")
    assert "out of memory" in failed["reason"]
    assert all(failed[name] == "" for name in columns(TrialRow)[len(columns(Identity)) :])


def test_cpu_memory_is_empty_and_not_zero() -> None:
    lines = parsed(to_csv(CellRow, cell_rows(build.sweep(build.SMOL, ("fp32",), (128,), "cpu"))))
    assert lines[0]["peak_allocated_bytes"] == ""
    assert lines[0]["memory_reason"] == build.CPU_REASON
    assert lines[1]["kv_bytes"] == "0"  # cache off: measured, and nothing was kept


def test_rules_of_the_format() -> None:
    text = to_csv(CellRow, cell_rows(RUN))
    assert "\r" not in text and text.endswith("\n")
    assert "np.float" not in text and "None" not in text and "Status" not in text
    assert parsed(text)[0]["compiled"] == "false"
    assert parsed(text)[0]["tpot_s_outliers"] == "9"


def test_a_message_with_commas_and_quotes_stays_one_field() -> None:
    row = replace(cell_rows(RUN)[0], reason='he said "no", twice')
    assert parsed(to_csv(CellRow, [row]))[0]["reason"] == 'he said "no", twice'


def test_no_rows_still_give_the_header() -> None:
    assert to_csv(CellRow, []) == ",".join(columns(CellRow)) + "\n"


def test_files_are_byte_identical_whatever_the_order_of_the_records(tmp_path: Path) -> None:
    names = ("one", "two")
    for name, records in zip(names, (RUN, RUN[::-1]), strict=True):
        write_results_csv(tmp_path / name / "results.csv", trial_rows(records))
        write_cells_csv(tmp_path / name / "cells.csv", cell_rows(records))
    for file in ("results.csv", "cells.csv"):
        one, two = ((tmp_path / name / file).read_bytes() for name in names)
        assert one == two and one.count(b"\n") > 10


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_cells_csv(tmp_path / "cells.csv", cell_rows(RUN))
    before = file.read_bytes()

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(FarmError, match=r"cells.csv: cannot be written \(No space left on device\)"):
        write_cells_csv(file, [])
    assert file.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["cells.csv"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_reads_back_exactly(value: float) -> None:
    row = replace(TRIALS[0], ttft_s=value)
    assert float(parsed(to_csv(TrialRow, [row]))[0]["ttft_s"]) == value
