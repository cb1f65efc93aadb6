"""The roof on this machine's CPU, and the sizes it is measured with everywhere."""

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import device_limits
from jobs.device_limits import MIB, Sizes, choose_sizes, measure_limits, repeat_timed
from jobs.engines.fake import FakeStopwatch

GIB = 1024 * MIB


def _sizes(free: int, cache: int | None = 50 * MIB) -> Sizes | None:
    return choose_sizes(copy_bytes=2 * GIB, gemm_side=8192, free_bytes=free, cache=cache, item_bytes=2)


def test_with_room_the_sizes_are_those_asked_for() -> None:
    assert _sizes(70 * GIB) == Sizes(2 * GIB, 8192)


def test_with_less_room_both_shrink() -> None:
    """Half of 600 MiB: 150 MiB twice; three matrices of 8192 in 16 bit are 384 MiB, of 4096 they are 96."""
    assert _sizes(600 * MIB) == Sizes(150 * MIB, 4096)


def test_a_copy_that_fits_the_cache_is_no_bandwidth() -> None:
    assert _sizes(390 * MIB) is None
    assert _sizes(390 * MIB, cache=None) == Sizes(97 * MIB, 4096)
    assert _sizes(40 * MIB, cache=None) is None


def _timed(seconds: list[float], repeats: int, budget_s: float) -> list[float]:
    watch, left = FakeStopwatch(), iter(seconds)
    return repeat_timed(lambda: watch.advance(next(left)), watch, repeats, budget_s)


def test_each_repetition_is_timed_alone_and_the_first_is_dropped() -> None:
    assert _timed([9.0, 1.0, 2.0, 4.0], 3, 100.0) == [1.0, 2.0, 4.0]


def test_the_budget_ends_the_repetitions_but_one_is_always_there() -> None:
    assert _timed([9.0, 1.0, 2.0, 4.0], 3, 1.5) == [1.0, 2.0]
    assert _timed([9.0, 5.0], 3, 0.1) == [5.0]


def test_bytes_count_twice_and_a_product_is_two_side_cubed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_limits, "repeat_timed", lambda *_: [0.5, 0.25, 1.0])
    setup = device_limits._SETUPS["cpu"]
    assert device_limits._copy_rate("cpu", 1000, setup) == 2 * 1000 / 0.25
    assert device_limits._gemm_rate("cpu", 10, torch.float32, setup) == 2 * 10**3 / 0.5


def test_the_data_is_random_and_the_pattern_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_limits, "_PATTERN_BYTES", 1000)
    data = device_limits._random_bytes(2500, "cpu")
    assert len(data) == 2500
    assert torch.equal(data[:1000], data[1000:2000]) and torch.equal(data[:500], data[2000:])
    assert len(data[:1000].unique()) > 200


def test_this_cpu() -> None:
    limits = measure_limits("cpu")
    assert limits is not None
    assert 5e8 < limits.copy_bytes_per_s < 2e12
    assert 1e9 < limits.gemm_flops < 1e14
    assert limits.gemm_dtype == "float32"


def test_no_memory_to_measure_with_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_limits, "_free_bytes", lambda _: 8 * MIB)
    assert measure_limits("cpu") is None


def test_a_neighbour_that_takes_the_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> float:
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(device_limits, "_copy_rate", full)
    assert measure_limits("cpu") is None


def test_the_highest_cache_level_counts(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "32K", "2048K", "32768K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert device_limits._cpu_cache(tmp_path) == 32768 * 1024
    assert device_limits._cpu_cache(tmp_path / "nowhere") is None
