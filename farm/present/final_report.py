"""metrics/final_report.json: the mission's keys on top, and beside them what a reader needs to believe them.

Why this shape: `fp16`, `bf16`, `int8` and `4bit` hold exactly the four figures the mission names, so a strict reader
can take them as they are; `reasons`, `ci`, `quality` and `source_cells` lie beside them under the same names, and
`quantizations` holds the same for every entry of the axis (a key stands for the first). The file holds no moment but
those of the records, sorted keys and no NaN: the same records give the same bytes.

    write_final_report(Path("metrics/final_report.json"), records, sweep="demo")
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from farm.interference import Interference, interference
from farm.present.answers import answers_of
from farm.present.atomic import write_atomically
from farm.present.figures.gantt_bars import LoggedEvent, chart_of
from farm.present.figures.schedule import schedule_of
from farm.present.headline import REPORT_KEYS, Headline, headline_of, headline_of_quantization
from farm.records import Environment, Record, Status
from farm.reduce import SHORT_KEY, cell_rows, final_records
from farm.rows import CellRow

Json = dict[str, Any]
Subject = tuple[str, str, str]


def write_final_report(
    file: Path,
    records: Sequence[Record],
    sweep: str | None = None,
    events: Sequence[LoggedEvent] = (),
    found: Interference | None = None,
    asked: int | None = None,
) -> Path:
    """Write atomically. `sweep` is the sweep's name, `events` its log, `found` what its canary says, `asked` how many
    cells it was to measure: records carry none of them."""
    return write_atomically(file, to_json(records, sweep, events, found, asked))


def to_json(
    records: Sequence[Record],
    sweep: str | None = None,
    events: Sequence[LoggedEvent] = (),
    found: Interference | None = None,
    asked: int | None = None,
) -> bytes:
    """The file's bytes."""
    report = _report(records, sweep, asked) | _whole_run(records, events, found)
    return (json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _report(records: Sequence[Record], sweep: str | None, asked: int | None) -> Json:
    final = list(final_records(records).values())
    rows = cell_rows(final)
    subjects = list(dict.fromkeys(_subject(row) for row in rows))
    first = subjects[0] if subjects else ("", "", "")
    return {
        **_precisions(rows, first),
        "run": {**_run(final, rows, first, sweep), "cells_asked": asked},
        "models": {", ".join(subject): _precisions(rows, subject) for subject in subjects[1:]},
        "answers": asdict(answers_of(rows)),
        "failures": _failures(final),
        "environment": _environments(final),
    }


def _whole_run(records: Sequence[Record], events: Sequence[LoggedEvent], found: Interference | None) -> Json:
    """Did running side by side disturb, and were the devices busy?"""
    found = found or interference(None, None, asked=False)
    return {
        "interference": {**asdict(found), "is_disturbing": found.is_disturbing},
        "schedule": asdict(schedule_of(chart_of(events, records))),
    }


def _subject(row: CellRow) -> Subject:
    """What the mission's keys are about: their figures compare only within one of these."""
    return row.model_id, row.engine, row.device


def _precisions(rows: Sequence[CellRow], subject: Subject) -> Json:
    own = [row for row in rows if _subject(row) == subject]
    headlines = {name: headline_of(own, name) for name in REPORT_KEYS}
    every = {name: headline_of_quantization(own, name) for name in dict.fromkeys(row.quantization for row in own)}
    return {
        **{name: asdict(headline.figures) for name, headline in headlines.items()},
        **_beside(headlines),
        "quantizations": {name: _one(headline) for name, headline in every.items()},
    }


def _one(headline: Headline) -> Json:
    plain = asdict(headline)
    return {**plain.pop("figures"), **plain, "reasons": _present(plain["reasons"])}


def _beside(headlines: dict[str, Headline]) -> Json:
    """What a reader needs to believe the figures, under the same names."""
    return {
        "reasons": {name: _present(asdict(headline.reasons)) for name, headline in headlines.items()},
        "ci": {name: asdict(headline.ci) for name, headline in headlines.items()},
        "quality": {name: asdict(headline.quality) for name, headline in headlines.items()},
        "source_cells": {name: asdict(headline.sources) for name, headline in headlines.items()},
    }


def _present(reasons: Json) -> Json:
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _run(final: Sequence[Record], rows: Sequence[CellRow], first: Subject, sweep: str | None) -> Json:
    model, engine, device = (part or None for part in first)
    return {
        "sweep": sweep,
        "models": list(dict.fromkeys(row.model_id for row in rows)),
        "headline_model": model,
        "headline_engine": engine,
        "headline_device": device,
        "cells": len(rows),
        "counts_by_status": dict(Counter(row.status.value for row in rows)),
        "first_started_at": min((record.started_at for record in final), default=None),
        "last_ended_at": max((record.ended_at for record in final), default=None),
    }


def _failures(final: Sequence[Record]) -> list[Json]:
    return [
        {
            "key": record.key[:SHORT_KEY],
            "label": record.cell.label,
            "status": record.status.value,
            "message": record.failure.message if record.failure else None,
            "attempt": record.attempt,
        }
        for record in final
        if record.status is not Status.OK
    ]


def _environments(final: Sequence[Record]) -> list[Json]:
    """Each place that anything ran in, with the number of its cells: one entry when all rows compare."""
    counts: dict[str, int] = {}
    for record in final:
        if record.environment is not None:
            text = json.dumps(_shared(record.environment), sort_keys=True)
            counts[text] = counts.get(text, 0) + 1
    return [{**json.loads(text), "cells": count} for text, count in sorted(counts.items())]


def _shared(environment: Environment) -> Json:
    """Without the worker's own notes (its process, its logs), which differ between two cells of one place."""
    plain = asdict(replace(environment, worker={}))
    return {name: value for name, value in plain.items() if name != "worker"}
