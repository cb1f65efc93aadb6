"""A generation for people to watch: what it tells, that the clock stands still while it does, and that nobody pays."""

from dataclasses import replace

from farm.events import CellEnded, Event, GroupRequest, Running, Shown
from farm.keys import cell_key
from jobs.engines.fake import DECODE_S, KV_BYTES_PER_TOKEN, PREFILL_S_PER_TOKEN, WEIGHTS_BYTES, open_fake
from jobs.group import run_group
from jobs.prompts import Prompt
from jobs.show import show
from tests.unit.sweeps import cells

TOKENS = 24


def request(**changes: object) -> GroupRequest:
    wanted = cells(new_tokens=TOKENS, **changes)
    keys = tuple(map(cell_key, wanted))
    return GroupRequest(wanted[0].load, wanted, keys, (1,) * len(keys), 42)


def events(of: GroupRequest) -> list[Event]:
    return list(run_group(of))


def test_nothing_is_shown_unasked() -> None:
    assert not [event for event in events(request()) if isinstance(event, Shown)]


def test_every_cell_is_shown_once_before_its_record() -> None:
    asked = replace(request(), show=True)
    told = [event for event in events(asked) if isinstance(event, Shown | CellEnded | Running)]
    for key in asked.keys:
        own = [event for event in told if (event.record.key if isinstance(event, CellEnded) else event.key) == key]
        kinds = [type(event) for event in own if not isinstance(event, Running)]
        assert set(kinds[:-1]) == {Shown}
        assert kinds[-1] is CellEnded
        assert sum(len(event.gaps_s) for event in own if isinstance(event, Shown)) == TOKENS


def test_the_times_are_those_of_the_tokens_alone() -> None:
    engine, cell = open_fake("steady", 1), cells(new_tokens=TOKENS)[0]
    pieces = []
    for piece in show(engine, "k", cell.task, Prompt("chat", "en", 0, tuple(range(16)))):  # type: ignore[arg-type]
        pieces.append(piece)
        engine.clock.advance(5.0)  # the world is told
    gaps = [gap for piece in pieces for gap in piece.gaps_s]
    assert [round(gap, 9) for gap in gaps] == [PREFILL_S_PER_TOKEN * 16, *[DECODE_S] * (TOKENS - 1)]
    before = [sum(len(earlier.gaps_s) for earlier in pieces[:place]) for place in range(len(pieces))]
    assert [piece.first_token for piece in pieces] == before
    assert len(pieces) == 4  # the first token, then every 0.1 s, then the rest
    assert pieces[-1].kv_bytes == KV_BYTES_PER_TOKEN * (16 + TOKENS)
    assert pieces[-1].weights_bytes == WEIGHTS_BYTES


def test_the_text_comes_whole_and_in_order() -> None:
    engine, cell = open_fake("steady", 1), cells(new_tokens=TOKENS)[0]
    prompt = Prompt("chat", "en", 0, tuple(range(16)))
    told = "".join(piece.text for piece in show(engine, "k", cell.task, prompt))  # type: ignore[arg-type]
    generation = engine.begin([prompt.token_ids], "on", TOKENS)
    for _ in range(TOKENS):
        generation.decode_step()
    assert told == engine.tokenizer.decode(generation.tokens()[0])


def test_a_failure_while_showing_is_the_cells_own() -> None:
    ended = [e for e in events(replace(request(models=["fake:raise"]), show=True)) if isinstance(e, CellEnded)]
    assert {event.record.status.value for event in ended} == {"error"}
    assert len(ended) == 2


def test_the_record_is_the_same_with_and_without() -> None:
    plain = [e.record.speed for e in events(request()) if isinstance(e, CellEnded)]
    shown = [e.record.speed for e in events(replace(request(), show=True)) if isinstance(e, CellEnded)]
    assert [one.output_sha256 for one in plain if one] == [one.output_sha256 for one in shown if one]
    assert [[round(t.e2e_s, 9) for t in one.trials] for one in plain if one] == [
        [round(t.e2e_s, 9) for t in one.trials] for one in shown if one
    ]


def test_running_tells_the_last_timed_trial() -> None:
    latest = [event.latest for event in events(request(runs=5)) if isinstance(event, Running)]
    assert latest[0] is None
    assert any(trial is not None and trial.output_tokens == TOKENS for trial in latest)
