"""The bench of the kernels' cuts at several sequences: which it tries, and how it tells. The times need a GPU."""

import importlib.util

import pytest
import torch

from jobs.turbo.cache import FP8
from jobs.turbo.kernels.configs import Attention, Skinny
from tests.perf import turbo_cuts
from tests.perf.turbo_cuts import CASES, FILLED, Attending, Multiplying, in_turn, lines


def test_every_case_tries_its_shipped_cut_first_and_no_cut_twice() -> None:
    assert list(in_turn())[: len(CASES)] == [(case, case.shipped) for case in CASES]
    for case in CASES:
        tried = case.cuts()
        assert len(set(tried)) == len(tried) > 3
        if isinstance(case, Attending):
            assert all((cut.splits - 1) * cut.block < FILLED for cut in case.cuts()), "a program without a row"


def test_bytes_by_hand() -> None:
    assert Attending(16, FP8).bytes_read == 67_108_864
    assert Attending(4, torch.float16).bytes_read == 33_554_432
    assert Multiplying("int8", "down").bytes_read == 58_720_256
    assert Multiplying("int4", "down").bytes_read == 58_720_256 * 4.125 / 8  # and a scale of 16 bit for 128


def test_the_fastest_stands_first_and_a_failure_last() -> None:
    case, other = CASES[0], Attention(128, 2)
    found = {each.name: {} for each in CASES}
    found[case.name] = {"bad": "ValueError: wrong", str(case.shipped): 44.0, str(other): 33.5}
    told = lines(found, read_gb_s=3000)
    assert told[:4] == [
        "attention, batch 16, 8 bit: 22.4 us at 3000 GB/s",
        f"      33.5 us   67%  {other}",
        f" *    44.0 us   51%  {case.shipped}",
        "   ValueError: wrong  bad",
    ]


@pytest.mark.skipif(
    torch.cuda.is_available() or importlib.util.find_spec("triton") is None, reason="needs Triton's interpreter"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning:triton")
def test_answers_are_checked_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FILLED": 96, "MAX_LEN": 128, "ROTATED_BYTES": 1e4, "SHAPES": {"o": (64, 256)}}.items():
        monkeypatch.setattr(turbo_cuts, name, value)
    monkeypatch.setattr(turbo_cuts, "graph_us", lambda work: 7.0 * len(work()))
    cases = [(Attending(2, FP8), Attention(32, 2)), (Multiplying("int8", "o"), Skinny(64, 2, 2, 2))]
    for case, cut in [*cases, (Multiplying("int4", "o"), Skinny(32, 1, 2, 1))]:
        bench = case.bench("cpu")
        assert bench.microseconds(cut) == 7.0
        bench.expected.mul_(1.1)
        with pytest.raises(ValueError, match="wrong by"):
            bench.microseconds(cut)
