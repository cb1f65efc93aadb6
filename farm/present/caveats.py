"""What a reader must know before quoting a figure: read off the rows, each only where it applies.

caveats(cell_rows(records), "en")[0].text    # 'The perplexity text is the short demo text ...'
"""

from collections import Counter
from collections.abc import Callable, Sequence

from farm.present.figures.points import is_trusted
from farm.present.sentence_parts import Sentence
from farm.present.words import number, say
from farm.rows import CellRow
from farm.steady import SLOW_HOST
from farm.verdict import Reason

ENOUGH_RUNS = 10
DEMO_TEXT = "demo"


def caveats(rows: Sequence[CellRow], language: str) -> tuple[Sentence, ...]:
    """In the order of their weight; one sentence of relief when there is none."""
    found = [check(rows, language) for check in _CHECKS]
    return tuple(one for one in found if one is not None) or (Sentence(say(language, "caveat_none")),)


def _measured(rows: Sequence[CellRow]) -> list[CellRow]:
    return [row for row in rows if row.kind == "speed" and row.is_ok]


def _keys(rows: Sequence[CellRow]) -> tuple[str, ...]:
    return tuple(row.key for row in rows)


def _fake(rows: Sequence[CellRow], language: str) -> Sentence | None:
    fakes = [row for row in rows if row.engine == "fake"]
    return Sentence(say(language, "caveat_fake"), _keys(fakes)) if fakes else None


def _failed(rows: Sequence[CellRow], language: str) -> Sentence | None:
    failed = [row for row in rows if not row.is_ok]
    if not failed:
        return None
    text = say(language, "caveat_failed", count=number(len(failed)), cells=number(len(rows)))
    return Sentence(text, _keys(failed))


def _suspect(rows: Sequence[CellRow], language: str) -> Sentence | None:
    measured = _measured(rows)
    suspect = [row for row in measured if not is_trusted(row)]
    if not suspect:
        return None
    counts = Counter(row.trust.distrust for row in suspect)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    cells = number(len(measured))
    text = say(language, "caveat_suspect", count=number(len(suspect)), cells=cells, reasons=reasons)
    return Sentence(text, _keys(suspect))


def _launch(rows: Sequence[CellRow], language: str) -> Sentence | None:
    return _noted(rows, Reason.LAUNCH_BOUND, "caveat_launch", language)


def _power(rows: Sequence[CellRow], language: str) -> Sentence | None:
    return _noted(rows, Reason.POWER_BOUND, "caveat_power", language)


def _noted(rows: Sequence[CellRow], reason: Reason, words: str, language: str) -> Sentence | None:
    measured = _measured(rows)
    bound = [row for row in measured if reason in (row.trust.verdict or "")]
    if not bound:
        return None
    text = say(language, words, count=number(len(bound)), cells=number(len(measured)))
    return Sentence(text, _keys(bound))


def _set_aside(rows: Sequence[CellRow], language: str) -> Sentence | None:
    measured = _measured(rows)
    fewer = [row for row in measured if row.trust.trials_set_aside]
    if not fewer:
        return None
    trials = number(sum(row.trust.trials_set_aside or 0 for row in fewer))
    counts = {"count": number(len(fewer)), "cells": number(len(measured)), "trials": trials}
    text = say(language, "caveat_set_aside", **counts, limit=f"{SLOW_HOST:g}")
    return Sentence(text, _keys(fewer))


def _random(rows: Sequence[CellRow], language: str) -> Sentence | None:
    random = [row for row in rows if not row.has_true_weights and row.engine != "fake"]
    if not random:
        return None
    models = ", ".join(dict.fromkeys(row.model for row in random))
    return Sentence(say(language, "caveat_random", models=models), _keys(random))


def _demo(rows: Sequence[CellRow], language: str) -> Sentence | None:
    demo = [row for row in rows if row.kind == "quality" and row.quality.perplexity_text == DEMO_TEXT]
    if not demo:
        return None
    tokens = max(row.quality.perplexity_tokens or 0 for row in demo)
    return Sentence(say(language, "caveat_demo", tokens=number(tokens)), _keys(demo))


def _few(rows: Sequence[CellRow], language: str) -> Sentence | None:
    few = [row for row in _measured(rows) if row.ttft_s is not None and row.ttft_s.n < ENOUGH_RUNS]
    return Sentence(say(language, "caveat_few", count=number(len(few))), _keys(few)) if few else None


def _cpu(rows: Sequence[CellRow], language: str) -> Sentence | None:
    on_cpu = [row for row in rows if row.device == "cpu" and row.engine != "fake"]
    return Sentence(say(language, "caveat_cpu"), _keys(on_cpu)) if on_cpu else None


_CHECKS: tuple[Callable[[Sequence[CellRow], str], Sentence | None], ...] = (
    _fake,
    _failed,
    _suspect,
    _launch,
    _power,
    _set_aside,
    _random,
    _demo,
    _few,
    _cpu,
)
