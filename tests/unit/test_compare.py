"""Two runs side by side: what counts as worse, what does not, and what a CI is told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farm.cli import main
from farm.compare import Change, compare
from farm.errors import StoreError
from farm.keys import cell_key
from farm.records import Record, Status
from farm.stats import bootstrap_ratio_ci
from farm.store import Manifest, RunFolder
from tests.unit import record_builder as build
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep

OLD = build.sweep(quantizations=("fp16", "nf4"), contexts=(128, 2048))


def slower(records: Sequence[Record], by: float, only: str = "") -> list[Record]:
    """The same run, every time of the named precision `by` times as long."""
    return [_slower(one, by) if one.speed and only in one.cell.load.quantization else one for one in records]


def _slower(one: Record, by: float) -> Record:
    assert one.speed is not None
    trials = [replace(t, ttft_s=t.ttft_s * by, decode_s=t.decode_s * by, e2e_s=t.e2e_s * by) for t in one.speed.trials]
    return replace(one, speed=replace(one.speed, trials=tuple(trials)))


def words(old: Sequence[Record], new: Sequence[Record], tolerance: float = 0.05) -> set[str]:
    return {pair.word for pair in compare(old, new, tolerance).pairs}


def test_a_run_is_the_same_as_itself() -> None:
    comparison = compare(OLD, OLD)
    assert len(comparison.pairs) == 8
    assert {pair.word for pair in comparison.pairs} == {"same"}
    assert comparison.regressions == comparison.only_old == comparison.only_new == ()


def test_twenty_percent_slower_is_worse_in_both_figures_and_the_other_way_better() -> None:
    comparison = compare(OLD, slower(OLD, 1.2, "nf4"))
    worse = comparison.regressions
    assert {pair.new.quantization for pair in worse} == {"nf4"}
    assert len(worse) == 4
    assert worse[0].decode_tok_s.ratio == pytest.approx(1 / 1.2)
    assert worse[0].ttft_s.ratio == pytest.approx(1.2)
    assert words(slower(OLD, 1.2), OLD) == {"better"}


def test_the_tolerance_decides() -> None:
    assert words(OLD, slower(OLD, 1.03)) == {"same"}
    assert words(OLD, slower(OLD, 1.03), tolerance=0.01) == {"worse"}


def test_a_difference_within_the_noise_is_unclear_and_no_alarm() -> None:
    change = Change(100.0, 80.0, 0.6, 1.1, higher_is_better=True, tolerance=0.05)
    assert change.word == "unclear"
    assert Change(100.0, 80.0, None, None, higher_is_better=True, tolerance=0.05).word == "unclear"


def test_an_interval_that_only_touches_the_limit_is_no_alarm() -> None:
    assert Change(100.0, 90.0, 0.85, 0.95, higher_is_better=True, tolerance=0.05).word == "unclear"
    assert Change(100.0, 90.0, 0.85, 0.9499, higher_is_better=True, tolerance=0.05).word == "worse"
    assert Change(1.0, 1.2, 1.0501, 1.3, higher_is_better=False, tolerance=0.05).word == "worse"


def test_what_failed_is_broken_or_mended_and_not_divided() -> None:
    new = [build.failed(one.cell) if one.speed and one.cell.task.context_tokens == 2048 else one for one in OLD]
    assert [pair.word for pair in compare(OLD, new).regressions] == ["broken"] * 4
    assert words(new, OLD) == {"same", "mended"}


def test_a_fallback_kernel_forbids_to_compare() -> None:
    def fallen(one: Record) -> Record:
        effective = replace(one.speed.effective, mismatches=("int4 wanted, fp16 ran",))
        return replace(one, speed=replace(one.speed, effective=effective))

    new = [fallen(one) if one.speed else one for one in slower(OLD, 2.0)]
    comparison = compare(OLD, new)
    assert {pair.word for pair in comparison.pairs} == {"not comparable"}
    assert comparison.pairs[0].not_comparable == ("fallback_kernel",)
    assert comparison.regressions == ()


def test_another_number_of_runs_is_the_same_configuration() -> None:
    more = [build.speed(build.speed_cell(build.load(), 128, runs=30))]
    comparison = compare(OLD, more)
    assert [pair.word for pair in comparison.pairs] == ["same"]
    assert len(comparison.only_old) == 7


def test_runs_without_a_common_configuration_are_refused() -> None:
    with pytest.raises(StoreError, match="no configuration in common"):
        compare(OLD, build.sweep(build.MISTRAL))


def test_the_ratios_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_ratio_ci(random.lognormal(0.2, 0.1, 20), random.lognormal(0.0, 0.1, 20))
        covered += low <= np.exp(0.2) <= high
    assert 180 <= covered <= 200


def test_a_single_trial_has_no_interval() -> None:
    assert bootstrap_ratio_ci([1.0], [1.0, 2.0]) == (None, None)
    assert bootstrap_ratio_ci([1.0, 2.0], [0.0, 0.0]) == (None, None)


def _run(path: Path, by: float, status: Status = Status.OK) -> Path:
    folder, found = RunFolder(path), cells()
    folder.pin(Manifest(sweep(), "cpu", tuple(cell_key(cell) for cell in found)))
    for one in (record(found[0]), record(found[1], status)):
        folder.write(_slower(one, by) if one.speed else one)
    return path


def _farm(*parts: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(part) for part in parts])
    return int(left.value.code or 0)


def test_the_command_tells_a_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, same = _run(tmp_path / "old", 1.0), _run(tmp_path / "same", 1.0)
    slow, broken = _run(tmp_path / "slow", 1.5), _run(tmp_path / "broken", 1.0, Status.CRASH)
    assert _farm("compare", old, same) == 0
    assert "2 same" in capsys.readouterr().out
    assert _farm("compare", old, slow) == 1
    said = capsys.readouterr().out
    assert "0.67 [0.67, 0.67]" in said
    assert said.count("regression: ") == 2
    assert _farm("compare", old, slow, "--tolerance", "0.6") == 0
    assert _farm("compare", old, broken) == 1
    assert "was ok, now crash: it was crash" in capsys.readouterr().out
    assert _farm("compare", old, tmp_path / "nowhere") == 2
    assert "no run here" in capsys.readouterr().err
