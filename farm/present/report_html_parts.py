"""The page's smaller parts: the lead, what failed, the methods, the places where it was measured.

failures(rows)[0].reason    # 'CUDA out of memory: tried to allocate 2.00 GiB, ...'
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from farm.cells import SpeedTask
from farm.interference import Interference, Shift, interference
from farm.present.figures.panels import devices
from farm.present.figures.schedule import Schedule
from farm.present.theme import short_title_of
from farm.present.words import number, numbers_in, say
from farm.records import Environment, Record
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Failed:
    """One cell without a figure."""

    key: str
    label: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """One environment, as pairs of a name and its value, and how many cells were measured in it."""

    title: str
    cells: str
    facts: tuple[tuple[str, str], ...]


def report_rows(rows: Sequence[CellRow]) -> list[CellRow]:
    """What the page's figures show: of every model, engine and device the smallest batch; perplexities all.

    Twenty batches are twenty panels a figure: too long to read on one page, and all are in figures/.
    """
    least: dict[tuple[object, ...], int] = {}
    for row in rows:
        if row.kind == "speed":
            least[row.subject] = min(row.batch_size or 0, least.get(row.subject, row.batch_size or 0))
    return [row for row in rows if row.kind != "speed" or row.batch_size == least[row.subject]]


def shows_all_batches(rows: Sequence[CellRow]) -> bool:
    """True when the page's figures leave no row out."""
    return len(report_rows(rows)) == len(rows)


def lead(rows: Sequence[CellRow], language: str, asked: int | None = None) -> str:
    """How many cells, of what, where; of a run that has not come to all of the `asked` ones, that first."""
    models = ", ".join(dict.fromkeys(row.model for row in rows)) or "-"
    ok, cells = number(sum(row.is_ok for row in rows)), number(len(rows))
    part = say(language, "lead_part", cells=cells, asked=number(asked)) if asked and asked > len(rows) else ""
    return part + say(language, "lead", ok=ok, cells=cells, devices=devices(rows), models=models)


def failures(rows: Iterable[CellRow]) -> tuple[Failed, ...]:
    """Every row that is not ok, in the order of the rows."""
    return tuple(Failed(row.key, _label(row), row.status.value, row.reason or "-") for row in rows if not row.is_ok)


def _label(row: CellRow) -> str:
    head = f"{row.model} {short_title_of(row.quantization)} {row.engine}"
    if row.kind == "quality":
        return f"{head}, {row.protocol}"
    return f"{head}, cache {row.cache_mode}, {row.context_tokens} + {row.new_tokens} tokens, batch {row.batch_size}"


def methods(rows: Sequence[CellRow], records: Sequence[Record], language: str) -> tuple[str, ...]:
    """How the figures came about; of tasks that differ, the ranges."""
    tasks = [record.cell.task for record in records if isinstance(record.cell.task, SpeedTask)]
    runs = say(
        language,
        "method_runs",
        warmups=_span(task.warmups for task in tasks),
        runs=_span(task.runs for task in tasks),
        max_runs=_span(task.max_runs for task in tasks),
        new_tokens=_span(task.new_tokens for task in tasks),
    )
    others = ("times", "stats", "memory", "verdict", "limit", "front")
    protocols = _protocols(rows)
    quality = [say(language, "method_quality", protocols=protocols)] if protocols else []
    return (*([runs] if tasks else []), *(say(language, f"method_{name}") for name in others), *quality)


def run_methods(found: Interference | None, schedule: Schedule, language: str) -> tuple[str, ...]:
    """How the run went as a whole: were the devices busy, and did the groups disturb each other?"""
    found = found or interference(None, None, asked=False)
    busy = [] if schedule.busy_share is None else [_busy(schedule, schedule.busy_share, language)]
    if found.decode is None or found.prefill is None:
        return (*busy, say(language, "method_no_canary", reason=found.reason or "-"))
    shifts = {name: _shift(shift) for name, shift in (("decode", found.decode), ("prefill", found.prefill))}
    verdict = "method_disturbed" if found.is_disturbing else "method_undisturbed"
    beside = f"{found.neighbours.fewest}–{found.neighbours.most}" if found.neighbours else "-"
    canary = say(language, "method_canary", cell=found.cell or "-", beside=beside, **shifts)
    return (*busy, canary + " " + say(language, verdict, limit=number(found.limit_percent)))


def _busy(schedule: Schedule, share: float, language: str) -> str:
    groups, slots = number(schedule.groups), number(schedule.slots)
    return say(language, "method_busy", share=number(100 * share), slots=slots, groups=groups)


def _shift(shift: Shift) -> str:
    return f"{shift.percent:+.1f} % [{shift.ci_low:+.1f}, {shift.ci_high:+.1f}]"


def _protocols(rows: Sequence[CellRow]) -> str:
    figures = [row.quality for row in rows if row.kind == "quality" and row.quality.perplexity is not None]
    return "; ".join(
        dict.fromkeys(
            f"{one.perplexity_protocol}, {one.perplexity_text}, {one.perplexity_tokens:,} tokens" for one in figures
        )
    )


def _span(values: Iterable[int]) -> str:
    present = sorted(set(values))
    if not present:
        return "-"
    return number(present[0]) if len(present) == 1 else f"{number(present[0])}–{number(present[-1])}"


def places(records: Sequence[Record], language: str) -> tuple[Place, ...]:
    """Each environment without its worker's own notes, the most used one first."""
    counts: dict[str, int] = {}
    known: dict[str, Environment] = {}
    for record in records:
        if record.environment is not None:
            facts = json.dumps(_facts(record.environment))
            counts[facts] = counts.get(facts, 0) + 1
            known.setdefault(facts, record.environment)
    ordered = sorted(counts, key=lambda facts: (-counts[facts], facts))
    return tuple(_place(known[facts], counts[facts], language) for facts in ordered)


def _place(environment: Environment, cells: int, language: str) -> Place:
    words = numbers_in(language, say(language, "environment_cells", cells=number(cells)))
    return Place(environment.device_name, words, tuple(_facts(environment)))


def _facts(environment: Environment) -> list[tuple[str, str]]:
    plain = asdict(environment)
    packages = " ".join(f"{name} {version}" for name, version in sorted(environment.packages.items()))
    shown = {name: value for name, value in plain.items() if name not in ("worker", "packages") and value is not None}
    return [*((name, str(value)) for name, value in shown.items()), ("packages", packages)]
