"""What the report's sentences are made of: the sentence with its rows, the subjects, and how a row is named.

for subject in subjects(rows, "en"): subject.where    # '' for a single model, engine and device
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farm.present import theme
from farm.present.words import say
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and the short keys of the rows it is about. `is_lead`: a subject's answer in one line.

    `of_speed`: it compares speeds, so it is worth no more than the verdicts of those rows. (Memory and quality are.)
    """

    text: str
    keys: tuple[str, ...] = ()
    is_lead: bool = False
    of_speed: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What figures compare within: rows of one model, engine and device, and how to name it among others."""

    rows: tuple[CellRow, ...]
    where: str


def subjects(rows: Sequence[CellRow], language: str) -> list[Subject]:
    """Speed rows by model, engine and device; the words name only what several of them need to be told apart."""
    groups: dict[tuple[object, ...], list[CellRow]] = {}
    for row in rows:
        if row.kind == "speed":
            groups.setdefault(row.subject, []).append(row)
    several = len(groups) > 1
    return [Subject(tuple(group), _where(group[0], language) if several else "") for group in groups.values()]


def begin(text: str) -> str:
    """With a capital letter: the same sentence stands alone or behind a subject."""
    return text[:1].upper() + text[1:]


def _where(row: CellRow, language: str) -> str:
    return say(language, "where", model=row.model, engine=row.engine, device=row.device_name or row.device)


def smallest_batch(rows: Sequence[CellRow]) -> list[CellRow]:
    """The rows of the smallest batch there is: the figures that people compare first."""
    least = min((row.batch_size or 0 for row in rows), default=0)
    return [row for row in rows if (row.batch_size or 0) == least]


def mate(row: CellRow, rows: Sequence[CellRow], **changes: object) -> CellRow | None:
    """The measured row that differs from this one in these fields alone."""
    fields = ("quantization", "cache_mode", "batch_size", "context_tokens", "new_tokens", "device_name")
    wanted = {name: changes.get(name, getattr(row, name)) for name in fields}
    found = (other for other in rows if all(getattr(other, name) == value for name, value in wanted.items()))
    return next((other for other in found if other.is_ok), None)


def title(row: CellRow) -> str:
    """The precision's short name."""
    return theme.short_title_of(row.quantization)
