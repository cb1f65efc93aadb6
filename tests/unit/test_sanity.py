"""What the gate calls insane, by hand; and that a group whose model does not pass measures nothing."""

from dataclasses import replace

import pytest

from farm.cells import Cell, Load, PromptSet, SpeedTask
from farm.events import CellEnded, Ended, GroupRequest
from farm.model_ref import parse_model
from farm.records import Status
from farm.sanity import Sanity, in_one_sentence, problems
from jobs import gate, group
from jobs.engines.fake import FakeEngine, Script

GOOD = Sanity(
    logits_finite=True,
    perplexity=14.0,
    reference_perplexity=11.7,
    reference="fp16",
    vocabulary=49152,
    text=" Paris.",
    distinct_tokens=9,
    layer_error=0.012,
    layers_checked=14,
    decode_gap=0.01,
    decode_checked=16,
)


def test_a_good_model_passes() -> None:
    assert problems(GOOD) == ()
    assert GOOD.ppl_ratio == pytest.approx(14.0 / 11.7)


def test_unknown_is_no_problem() -> None:
    assert problems(Sanity()) == ()
    assert Sanity(perplexity=3.0).ppl_ratio is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"logits_finite": False}, "its logits are not finite"),
        ({"perplexity": 24.0}, "its perplexity is 24 where fp16 has 11.7 (2.05 times; max_ppl_ratio is 2)"),
        (
            {"perplexity": 49152.0, "reference_perplexity": None},
            "its perplexity is 4.915e+04, that of guessing among 49152 tokens",
        ),
        ({"distinct_tokens": 1, "text": "!!!!"}, "its greedy text has 1 different token(s): '!!!!'"),
        (
            {"decode_gap": 0.9},
            "its decoding chose tokens whose logits are 90% below the best ones of a forward over the same 16 tokens",
        ),
        ({"layer_error": 0.97}, "a linear layer is 97% off the product with its own de-quantized weights"),
    ],
)
def test_each_problem_is_told_with_its_figures(change: dict[str, object], told: str) -> None:
    assert problems(replace(GOOD, **change)) == (told,)


def test_the_bound_is_the_sweeps() -> None:
    assert problems(replace(GOOD, perplexity=24.0), max_ppl_ratio=3.0) == ()


def test_the_sentence_says_what_to_do() -> None:
    sentence = in_one_sentence(problems(replace(GOOD, logits_finite=False, distinct_tokens=2)))
    assert sentence.startswith("failed the sanity gate, not measured: its logits are not finite; its greedy text")
    assert "prepare the checkpoint again" in sentence


def test_a_model_that_does_not_pass_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(parse_model("random:smollm2-135m"), "nf4", "eager", "cpu")
    task = SpeedTask("on", 8, 1, 2, 0, 1, 42, PromptSet(("chat",), ("en",), 1))
    monkeypatch.setattr(group, "open_engine", lambda request: FakeEngine(Script("steady")))
    monkeypatch.setattr(group, "_device_limits", lambda load: None)
    monkeypatch.setattr(gate, "look_at", lambda engine, load: Sanity(layer_error=0.5))
    events = list(group.run_group(GroupRequest(load, (Cell(load, task),) * 2, ("a", "b"), (1, 1), 42)))
    records = [event.record for event in events if isinstance(event, CellEnded)]
    assert [record.status for record in records] == [Status.INVALID] * 2
    for record in records:
        assert record.speed is None
        assert record.failure is not None and "50% off" in record.failure.message
        assert record.sanity == Sanity(layer_error=0.5)
    assert events[-1] == Ended(False)
