"""The bench of attention's cuts: which it tries, and how it tells. The times need a GPU."""

from jobs.turbo.kernels.configs import Attention
from tests.perf.turbo_attention import CASES, FILLED, cuts, in_turn, lines


def test_every_case_tries_its_shipped_cut_first_and_no_cut_twice() -> None:
    first = list(in_turn())[: len(CASES)]
    assert first == [(case, case.shipped) for case in CASES]
    for case in CASES:
        tried = cuts(case.shipped)
        assert len(set(tried)) == len(tried) > 3
        assert all((cut.splits - 1) * cut.block < FILLED for cut in tried), "a program without a row"


def test_the_bytes_of_a_layer_by_hand() -> None:
    assert {case.name: case.bytes_read for case in CASES} == {
        "batch 16, 8 bit": 67_108_864,
        "batch 16, 16 bit": 134_217_728,
        "batch  1, 8 bit": 4_194_304,
        "batch  1, 16 bit": 8_388_608,
        "batch  4, 8 bit": 16_777_216,
        "batch  4, 16 bit": 33_554_432,
    }


def test_the_fastest_stands_first_and_a_failure_last() -> None:
    case = CASES[0]
    other = Attention(128, 2)
    found = {each.name: {} for each in CASES} | {
        case.name: {"bad": "ValueError: wrong", str(case.shipped): 44.0, str(other): 33.5}
    }
    told = lines(found, read_gb_s=3000)
    assert told[0] == "batch 16, 8 bit: 22.4 us at 3000 GB/s"
    assert told[1] == f"      33.5 us   67%  {other}"
    assert told[2] == f" *    44.0 us   51%  {case.shipped}"
    assert told[3] == "   ValueError: wrong  bad"
