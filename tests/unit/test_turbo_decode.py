"""The tool that times the turbo engine beside its peers: what it asks by default, and what it watches."""

from functools import partial
from pathlib import Path

import pytest

from farm.telemetry import Sample
from jobs.engines.fake import DECODE_S, FakeEngine, FakeStopwatch, Script
from tests.perf import turbo_decode
from tests.perf.turbo_decode import TARGET, arguments
from tests.perf.turbo_watch import FIRST_STEPS, Clocks, clocks, phase_lines, watch_phases


class SlowAtFirst(FakeStopwatch):
    """A step takes twice as long while the clock has not risen."""

    def advance(self, seconds: float) -> None:
        self.steps = getattr(self, "steps", 0) + (seconds == DECODE_S)
        slow = seconds == DECODE_S and self.steps <= FIRST_STEPS
        super().advance(2 * seconds if slow else seconds)


class Ticks:
    """Two readings a phase, the clock of the second phase higher."""

    def __init__(self) -> None:
        self.phase = 0

    def start(self) -> None:
        self.phase += 1

    def stop(self) -> list[Sample]:
        return [Sample(sm_clock_hz=(1600 + 100 * self.phase) * 1e6, power_w=watts) for watts in (600.0, 650.0)]


def test_by_default_it_measures_what_the_targets_are_stated_for(tmp_path: Path) -> None:
    given = arguments(["--out", str(tmp_path)])
    assert (given.model, given.context, given.new_tokens, given.batch) == ("random:llama-3-8b", 1920, 128, 1)
    assert given.only == list(TARGET)
    assert [name for name in TARGET if name.startswith("turbo")] == ["turbo-fp16", "turbo-int8wo", "turbo-int4wo"]


def test_each_phase_is_watched_and_the_first_steps_are_told_apart() -> None:
    engine = FakeEngine(Script("steady"))
    engine.clock = engine.stopwatch = SlowAtFirst()
    begin = partial(engine.begin, [[1, 2, 3]], "on", FIRST_STEPS + 6)
    phases = watch_phases(engine, begin, FIRST_STEPS + 6, runs=1, ticks=Ticks())
    assert phases.prefill == Clocks(2, 1700, 1700, 625)
    assert phases.decode == Clocks(2, 1800, 1800, 625)
    assert phases.first_s == pytest.approx(2 * DECODE_S)
    assert phases.later_s == pytest.approx(DECODE_S)
    assert "1800 MHz at least, median 1800, 625 W (2 readings); the first 11 steps" in phase_lines(phases)[1]


def test_what_is_not_told_is_missing() -> None:
    engine = FakeEngine(Script("steady"))
    phases = watch_phases(engine, partial(engine.begin, [[1]], "on", 4), 4, runs=1, ticks=None)
    assert phases.decode == clocks([]) == Clocks(0, None, None, None)
    assert (phases.first_s, phases.later_s) == (pytest.approx(DECODE_S), None)
    assert phase_lines(phases)[0] == "    prefill: clock not told"


def test_what_is_not_begun_in_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["turbo_decode", "--out", str(tmp_path), "--device", "cpu", "--within", "-1", "--only", "eager"]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(turbo_decode, "measure_limits", lambda device: None)
    turbo_decode.main()
    assert "not begun: --within was over" in capsys.readouterr().out
    assert "not begun" in (tmp_path / "turbo_decode.json").read_text()
