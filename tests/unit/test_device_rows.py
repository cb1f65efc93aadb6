"""The device's columns of a cell row: right figures, empty where unknown, and always the reason."""

from dataclasses import replace
from typing import Any

import pytest

from farm.architectures import KNOWN
from farm.present.csv_files import to_csv
from farm.records import DeviceLimits, Energy, Record, Status, Telemetry, from_json, to_json
from farm.reduce import cell_rows
from farm.rows import CellRow, columns, values
from tests.unit import record_builder as build

H100 = DeviceLimits(3030e9, 770e12, "bfloat16", 50 << 20)
TELEMETRY = Telemetry(12, 1.98e9, 1.7e9, 61.0, 512.0, {"sw_power_cap": 0.25, "hw_slowdown": 1.0}, 0, 0.0, 0)
ENERGY = Energy(118.0, 0.02, 1.5, 0.015, 1.1, 0.021, 1.4, 1.0, 1.2)


def _record(model: Any = build.RANDOM, cache: str = "on", **parts: Any) -> Record:
    record = build.speed(build.speed_cell(build.load(model), cache=cache))
    assert record.speed is not None
    speed = {name: parts.pop(name) for name in ("telemetry", "energy") if name in parts}
    return replace(record, **({"limits": H100} | parts), speed=replace(record.speed, **speed))


def _row(record: Record) -> CellRow:
    return cell_rows([record])[0]


def test_the_roof_of_a_cell() -> None:
    """2,048 prompt tokens and 128 new ones: mean length 2,112; the builder's median step is 30 ms or so."""
    row = _row(_record())
    step_bytes = build.WEIGHTS["fp16"] - 2 * 525_336_576 + 8192 + 131_072 * 2112
    assert row.tpot_s is not None and row.prefill_s is not None
    assert row.roofline.mbu_decode == pytest.approx(step_bytes / row.tpot_s.median / 3030e9)
    assert row.roofline.decode_limit_tok_s == pytest.approx(3030e9 / step_bytes)
    assert row.roofline.decode_times_limit == pytest.approx(1 / row.roofline.mbu_decode)  # bound by memory
    assert row.roofline.prefill_times_limit == pytest.approx(1 / row.roofline.mfu_prefill)  # bound by compute
    assert (row.roofline.bound_decode, row.roofline.bound_prefill) == ("memory", "compute")
    assert (row.roofline.copy_bytes_per_s, row.roofline.gemm_dtype) == (3030e9, "bfloat16")
    assert row.roofline.roofline_reason is None


def test_without_the_cache_decode_is_bound_by_compute() -> None:
    assert _row(_record(cache="off")).roofline.bound_decode == "compute"


def test_a_hub_model_needs_the_records_architecture() -> None:
    without = _row(_record(build.LLAMA)).roofline
    assert without.mbu_decode is None and without.copy_bytes_per_s == 3030e9
    assert "shape is not known" in (without.roofline_reason or "")
    given = _row(_record(build.LLAMA, architecture=KNOWN["llama-3-8b"])).roofline
    assert given.mbu_decode == _row(_record()).roofline.mbu_decode


def test_no_limits_no_fractions() -> None:
    roofline = _row(_record(limits=None)).roofline
    assert roofline.mbu_decode is roofline.decode_limit_tok_s is roofline.gemm_flops is None
    assert roofline.roofline_reason == "the device's limits were not measured"


def test_telemetry_and_energy_become_columns() -> None:
    row = _row(_record(telemetry=TELEMETRY, energy=ENERGY))
    flat = dict(zip(columns(CellRow), values(row), strict=True))
    assert (flat["telemetry_samples"], flat["sm_clock_min_hz"], flat["temperature_max_c"]) == (12, 1.7e9, 61.0)
    assert flat["slowdown_reasons"] == "hw_slowdown:1 sw_power_cap:0.25"
    assert (flat["other_processes"], flat["other_utilization"]) == (0, 0.0)
    assert (flat["j_per_prompt_token"], flat["j_per_generated_token"]) == (0.02, 1.5)
    assert (flat["j_per_generated_token_above_idle"], flat["polled_j_per_generated_token"]) == (1.1, 1.4)
    assert flat["telemetry_reason"] is flat["energy_reason"] is None


def test_watched_and_nothing_seen_differs_from_not_watched() -> None:
    calm = replace(TELEMETRY, slowdown_reasons={})
    assert _row(_record(telemetry=calm)).telemetry.slowdown_reasons == "none"
    blind = replace(calm, reasons={"slowdown_reasons": "not told"})
    assert _row(_record(telemetry=blind)).telemetry.slowdown_reasons is None
    absent = Telemetry(samples=0, reasons={"telemetry": "no NVML on the CPU"})
    figures = _row(_record(telemetry=absent, energy=Energy(reasons={"energy": "no NVML on the CPU"})))
    assert figures.telemetry.slowdown_reasons is None
    assert figures.telemetry.telemetry_reason == "telemetry: no NVML on the CPU"
    assert figures.energy.energy_reason == "energy: no NVML on the CPU"


def test_a_failed_cell_has_no_device_figures() -> None:
    failed = build.record(build.speed_cell(build.load(build.RANDOM)), Status.OOM, limits=H100)
    row = _row(failed)
    assert values(row)[columns(CellRow).index("mbu_decode") :] == (None,) * 30
    header, line = to_csv(CellRow, [row]).splitlines()
    assert line.split(",")[header.split(",").index("mbu_decode")] == ""


def test_a_record_with_all_of_it_survives_the_disk() -> None:
    record = _record(telemetry=TELEMETRY, energy=ENERGY, architecture=KNOWN["llama-3-8b"])
    assert from_json(to_json(record)) == record
