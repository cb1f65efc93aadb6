"""Two configurations side by side: from the form to a sweep, from the folder to the two lanes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.errors import FarmError
from farm.expand import expand
from farm.present.dashboard.choices import Choice, Side, choice_of, sides_of, sweep_of
from farm.present.dashboard.form import FIELDS, first_values
from farm.present.dashboard.lanes import Figure, Lane, lanes
from farm.present.dashboard.launching import Busy, Launcher, last_words
from farm.present.dashboard.library import Library
from farm.present.dashboard.processes import launched, remember
from farm.present.dashboard.reading import RunReader
from farm.present.dashboard.token_times import token_times
from farm.present.dashboard.trying import streams_of
from farm.present.theme import color_of
from farm.store import Manifest, RunFolder
from farm.sweep import parse_sweep

MODEL = "fake:steady"
TOKENS = 16


def values(**changed: object) -> dict[str, object]:
    return dict(first_values((MODEL,), None)) | {"new_tokens": TOKENS, "context": 32} | changed


def choice(**changed: object) -> Choice:
    return choice_of(values(**changed), (MODEL,))


@pytest.fixture
def tried(tmp_path: Path) -> Path:
    """A finished try: FP32 without the cache, NF4 with it."""
    folder = RunFolder(tmp_path / "run")
    sweep = sweep_of(choice(a_quantization="fp32"), "cpu")
    run_sweep(sweep, folder, InlinePool("cpu"), show=True)
    return tmp_path / "run"


def lanes_of(path: Path) -> tuple[Lane, ...]:
    reader = RunReader(path)
    snapshot = reader.look()
    assert snapshot.manifest is not None
    return lanes(snapshot.manifest.sweep, snapshot, reader.rows(snapshot))


def test_a_choice_becomes_a_sweep_of_exactly_its_sides() -> None:
    sweep = sweep_of(choice(a_quantization="fp16"), "cpu")
    cells = expand(parse_sweep(sweep.to_yaml()), "cpu")
    told = [(cell.load.quantization, cell.task.cache_mode, cell.task.context_tokens) for cell in cells]  # type: ignore[union-attr]
    assert told == [("fp16", "off", 32), ("nf4", "on", 32)]
    assert sides_of(sweep) == (Side("fp16", "off"), Side("nf4", "on"))


def test_one_side_alone_is_one_cell() -> None:
    sweep = sweep_of(choice(both="off"), "cpu")
    assert len(expand(sweep, "cpu")) == 1
    assert len(sides_of(sweep)) == 1


def test_perplexity_is_scored_when_it_is_asked_for() -> None:
    cells = expand(sweep_of(choice(quality="on"), "cpu"), "cpu")
    assert sorted(cell.task.kind for cell in cells) == ["quality", "quality", "speed", "speed"]


def test_the_form_shows_the_choice_of_the_run_that_is_shown() -> None:
    chosen = values(a_quantization="bf16", b_quantization="int8", quality="on", runs=10)
    chosen["engine"] = "eager"
    assert first_values((MODEL,), sweep_of(choice_of(chosen, (MODEL,)), "cpu")) == {
        name: chosen[name] for name in FIELDS
    }


def test_a_lane_ends_with_the_figures_of_its_record(tried: Path) -> None:
    without, cached = lanes_of(tried)
    assert (without.phase, cached.phase) == ("done", "done")
    assert cached.row is not None
    assert cached.row.decode_tok_s is not None
    assert cached.speed == Figure(cached.row.decode_tok_s.median, "record")
    assert cached.row.ttft_s is not None
    assert cached.ttft == Figure(cached.row.ttft_s.median, "record")
    assert cached.memory == (Figure(float(cached.row.memory.peak_allocated_bytes or 0), "record"), "peak_allocated")
    assert without.speed is not None
    assert without.speed.value < cached.speed.value


def cut(tried: Path, until: Callable[[dict[str, object]], bool]) -> None:
    """The folder as it was at some moment: no records, and the log up to there. Its driver is this process."""
    for record in (tried / "records").glob("*/*.json"):
        record.unlink()
    lines = (tried / "events.jsonl").read_text().splitlines(keepends=True)
    last = next(place for place, line in enumerate(lines) if until(json.loads(line)))
    (tried / "events.jsonl").write_text("".join(lines[: last + 1]))


def test_while_it_generates_a_lane_is_live(tried: Path) -> None:
    cut(tried, lambda event: event["what"] == "shown" and event["first_token"] == 1)
    at_work = [lane for lane in lanes_of(tried) if lane.phase in ("showing", "measuring")]
    (lane,) = at_work
    assert lane.stream is not None
    gaps = lane.stream.gaps_s
    assert lane.speed == Figure((len(gaps) - 1) / sum(gaps[1:]), "live")
    assert lane.ttft == Figure(gaps[0], "live")
    assert lane.memory is not None
    assert lane.memory[0].source == "live"
    (other,) = (one for one in lanes_of(tried) if one is not lane and one.phase not in ("showing", "measuring"))
    assert (other.phase, other.speed, other.memory) == ("waiting", None, None)


def test_a_killed_try_says_so(tried: Path) -> None:
    cut(tried, lambda event: event["what"] == "group_started")
    lines = (
        (tried / "events.jsonl").read_text().replace(f'"pid": {json.loads(first_line(tried))["pid"]}', '"pid": 4194305')
    )
    (tried / "events.jsonl").write_text(lines)
    assert [lane.phase for lane in lanes_of(tried)] == ["ended", "ended"]


def first_line(tried: Path) -> str:
    return (tried / "events.jsonl").read_text().splitlines()[0]


def test_a_failed_side_tells_why(tmp_path: Path) -> None:
    sweep = sweep_of(choice_of(values(model="fake:oom"), ("fake:oom",)), "cpu")
    run_sweep(sweep, RunFolder(tmp_path), InlinePool("cpu"), show=True)
    assert {lane.phase for lane in lanes_of(tmp_path)} == {"failed"}
    assert all(lane.row is not None and "out of memory" in (lane.row.reason or "") for lane in lanes_of(tmp_path))


def test_the_token_figure_draws_what_was_shown(tried: Path) -> None:
    shown = lanes_of(tried)
    figure = token_times(shown, "en")
    for trace, lane in zip(figure.data, shown, strict=True):
        assert lane.stream is not None
        assert list(trace.y) == [1000 * gap for gap in lane.stream.gaps_s[1:]]
        assert list(trace.x) == list(range(2, TOKENS + 1))
        assert trace.line.color == color_of(lane.side.quantization)
    assert figure.data[0].line.dash != figure.data[1].line.dash


def test_what_is_played_again_is_the_text_at_its_times(tried: Path) -> None:
    shown = lanes_of(tried)
    for stream, lane in zip(streams_of(shown), shown, strict=True):
        pieces: list[tuple[float, str]] = stream["pieces"]  # type: ignore[assignment]
        assert lane.stream is not None
        assert "".join(text for _, text in pieces) == lane.stream.text
        assert pieces[-1][0] == pytest.approx(sum(lane.stream.gaps_s))


def test_a_started_try_runs_in_its_own_process_and_folder(tmp_path: Path) -> None:
    launcher = Launcher(Library(tmp_path), "inline", "cpu")
    name = launcher.start(choice())
    folder = tmp_path / name
    launch = launched(folder)
    assert launch is not None
    (child,) = launcher._children
    assert child.pid == launch.pid
    with pytest.raises(Busy, match="two at once would measure each other"):
        launcher.start(choice())
    assert child.wait(timeout=120) == 0, (folder / "driver.log").read_text()
    assert [record.status.value for record in RunFolder(folder).results()] == ["ok", "ok"]
    assert {lane.phase for lane in lanes_of(folder)} == {"done"}
    assert launcher.library.sweeps() == ()
    assert launcher.library.names() == (name,)


def test_a_driver_that_left_at_once_tells_why(tmp_path: Path) -> None:
    (tmp_path / "driver.log").write_text("starting\nfarm: no node has a GPU; run with device: cpu\n\n")
    assert last_words(tmp_path) == "farm: no node has a GPU; run with device: cpu"
    assert last_words(tmp_path / "nothing") is None


def test_a_run_by_somebody_else_keeps_the_device(tmp_path: Path) -> None:
    import os

    sweep = sweep_of(choice(), "cpu")
    folder = RunFolder(tmp_path / "night")
    folder.pin(Manifest(sweep, "cpu", ()))
    remember(tmp_path / "night", os.getpid())
    with pytest.raises(FarmError, match="the run night is at work"):
        Launcher(Library(tmp_path), "inline", "cpu").start(choice())
    assert not (tmp_path / "try").exists()
