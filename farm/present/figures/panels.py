"""Panels: the rows that share one set of axes.

Why: curves compare only within one model, engine, device and batch size; anything else on the same axes would invite
a comparison that means nothing. Each such group is a panel of its own in every figure.

    for panel in speed_panels(rows): panel.title    # 'Meta-Llama-3-8B-Instruct, batch 1'
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from farm import catalog
from farm.rows import CellRow

COLUMNS = 2


@dataclass(frozen=True, slots=True)
class Panel:
    """Rows for one pair of axes, with the words above them."""

    title: str
    rows: tuple[CellRow, ...]

    @property
    def quantizations(self) -> tuple[str, ...]:
        return in_catalog_order(row.quantization for row in self.rows)

    @property
    def contexts(self) -> tuple[int, ...]:
        return tuple(sorted({row.context_tokens for row in self.rows if row.context_tokens is not None}))


def speed_panels(rows: Iterable[CellRow]) -> tuple[Panel, ...]:
    """One panel for each model, engine, device, batch size and output length."""
    speed = [row for row in rows if row.kind == "speed"]
    groups = _grouped(speed, lambda row: (row.model_id, row.engine, row.device, row.batch_size, row.new_tokens))
    return tuple(Panel(_title(group[0], speed) + f", batch {group[0].batch_size}", group) for group in groups)


def quality_panels(rows: Iterable[CellRow]) -> tuple[Panel, ...]:
    """One panel for each model, engine, device and protocol that a perplexity was asked of."""
    quality = [row for row in rows if row.kind == "quality"]
    groups = _grouped(quality, lambda row: (row.model_id, row.engine, row.device, row.protocol))
    return tuple(Panel(_title(group[0], quality), group) for group in groups)


def in_catalog_order(quantizations: Iterable[str]) -> tuple[str, ...]:
    """Each precision once, as the catalog orders them; unknown ones at the end."""
    names = list(catalog.PRECISIONS)
    return tuple(
        sorted(set(quantizations), key=lambda name: (names.index(name) if name in names else len(names), name))
    )


def shown_cache_mode(rows: Iterable[CellRow]) -> str:
    """The cache mode that a figure of one mode shows: on, unless the rows know only off."""
    present = {row.cache_mode for row in rows}
    return next((mode for mode in catalog.CACHE_MODES if mode in present), catalog.CACHE_MODES[0])


def devices(rows: Iterable[CellRow]) -> str:
    """Where the rows were measured, for a subtitle."""
    return ", ".join(dict.fromkeys(row.device_name for row in rows if row.device_name)) or "device not recorded"


def grid(panels: Sequence[Panel]) -> tuple[int, int]:
    """Rows and columns of subplots for so many panels."""
    return -(-len(panels) // COLUMNS), min(len(panels), COLUMNS)


def place(index: int) -> tuple[int, int]:
    """Row and column of a panel, counted from 1."""
    return index // COLUMNS + 1, index % COLUMNS + 1


def _grouped(rows: Iterable[CellRow], by: Callable[[CellRow], Hashable]) -> list[tuple[CellRow, ...]]:
    groups: dict[Hashable, list[CellRow]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return [tuple(group) for group in groups.values()]


def _title(row: CellRow, among: Sequence[CellRow]) -> str:
    """The model, and what else tells this panel from the others."""
    several_engines = len({other.engine for other in among}) > 1
    several_devices = len({other.device for other in among}) > 1
    several_protocols = len({other.protocol for other in among}) > 1
    extra = [row.engine] * several_engines + [row.device] * several_devices
    protocol = [row.protocol or ""] * several_protocols
    return ", ".join([row.model, *extra, *protocol])
