"""The two-GPU comparison's arithmetic; its run on fake GPUs is part of nothing but a rehearsal (`--fake`)."""

import pytest

from farm.interference import Interference, Shift
from farm.present.figures.schedule import Schedule
from scripts.two_gpus import Turn, print_table, summary

BUSY = Schedule(6, 2, 100.0, 0.95, 0.3)


def turn(name: str, wall_s: float, tpot_s: float = 0.03, verdict: str = "valid", status: str = "ok") -> Turn:
    tpots = {"fp16": [tpot_s * factor for factor in (0.99, 1.0, 1.01)]}
    return Turn(f"1-{name}", name, wall_s, {status: 1}, {"fp16": verdict}, tpots, ["H100"], BUSY)


def test_the_speed_up_is_that_of_the_wall_times_and_each_precision_has_its_shift(capsys) -> None:
    told = summary([turn("1", 300), turn("1", 320), turn("2", 155, 0.0303)], Interference(decode=Shift(1, 0, 2)))
    assert told["ok"]
    assert told["speedup"] == pytest.approx(310 / 155)
    assert told["solo_to_packed"]["fp16"]["percent"] == pytest.approx(1)
    print_table(told)
    printed = capsys.readouterr().out
    assert "two GPUs are 2.00x as fast" in printed and "+1.00 % [" in printed and "contended: none" in printed


@pytest.mark.parametrize(
    ("turns", "canary"),
    [
        ([turn("1", 300), turn("2", 310)], None),  # it did not help
        ([turn("1", 300), turn("2", 150, verdict="contended")], None),
        ([turn("1", 300), turn("2", 150, status="crash")], None),
        ([turn("1", 300), turn("2", 150)], Interference(decode=Shift(20, 15, 25), prefill=Shift(0, 0, 0))),
    ],
)
def test_what_is_not_ok(turns: list[Turn], canary: Interference | None) -> None:
    assert not summary(turns, canary)["ok"]


def test_turns_may_come_one_at_a_time(capsys) -> None:
    told = summary([turn("1", 300)], None)
    assert told["ok"] and told["speedup"] is None and told["solo_to_packed"] == {}
    print_table(told)
