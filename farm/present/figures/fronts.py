"""The front: which configurations no other one beats in speed, memory and quality at once.

Why a front and not a score: how much a gigabyte is worth in tokens a second is the reader's to say; that a slower,
larger and worse model is never the choice is not.

    fronts(cell_rows(records))[0].best    # the rows on the front, fastest first
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from farm.present.answers import front_of, memory_bytes, speed_of
from farm.rows import CellRow

WITHOUT_CACHE = "off"


@dataclass(frozen=True, slots=True)
class Front:
    """Rows of one task that compete: one model, device, batch and context; engines and cache modes together.

    `measure` says which memory they are compared by, `with_quality` whether perplexity counts.
    """

    rows: tuple[CellRow, ...]
    best: tuple[CellRow, ...]
    measure: str
    with_quality: bool

    @property
    def context(self) -> int:
        return self.rows[0].context_tokens or 0


def fronts(rows: Iterable[CellRow]) -> tuple[Front, ...]:
    """One front for each model, device and batch, at the longest context measured with a cache."""
    groups: dict[Hashable, list[CellRow]] = {}
    for row in rows:
        if _competes(row):
            key = (row.model_id, row.device, row.device_name, row.batch_size, row.new_tokens)
            groups.setdefault(key, []).append(row)
    return tuple(_front(_at_longest(group)) for group in groups.values())


def _competes(row: CellRow) -> bool:
    if row.kind != "speed" or not row.is_ok or row.cache_mode == WITHOUT_CACHE:
        return False
    return row.decode_tok_s is not None and memory_bytes(row)[0] is not None


def _at_longest(group: Sequence[CellRow]) -> list[CellRow]:
    """Those at the longest context whose memory is measured like the first one's."""
    longest = max(row.context_tokens or 0 for row in group)
    there = [row for row in group if row.context_tokens == longest]
    return [row for row in there if memory_bytes(row)[1] == memory_bytes(there[0])[1]]


def _front(group: Sequence[CellRow]) -> Front:
    best, with_quality = front_of(group)
    return Front(tuple(group), tuple(sorted(best, key=speed_of, reverse=True)), memory_bytes(group[0])[1], with_quality)
