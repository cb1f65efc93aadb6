"""Panels: the rows that share one set of axes.

Why: curves compare only within one model, engine, device and batch size; anything else on the same axes would invite
a comparison that means nothing. Each such group is a panel of its own in every figure.

    for panel in speed_panels(rows): panel.title    # 'Meta-Llama-3-8B-Instruct, batch 1'
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from farm import catalog
from farm.present import theme
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


def speed_panels(rows: Iterable[CellRow], join_engines: bool = False) -> tuple[Panel, ...]:
    """One panel for each model, engine, device, batch size and output length; `join_engines`: one for all engines."""
    speed = [row for row in rows if row.kind == "speed"]
    groups = _grouped(speed, lambda row: _axes_of(row, join_engines))
    return tuple(Panel(_title(group[0], speed, join_engines) + _load(group[0], speed), group) for group in groups)


def curve_panels(rows: Iterable[CellRow], join_engines: bool = False) -> tuple[Panel, ...]:
    """The panels with a curve in them: those of one context are left out where others have several."""
    panels = speed_panels(rows, join_engines)
    return tuple(panel for panel in panels if len(panel.contexts) > 1) or panels


def _axes_of(row: CellRow, join_engines: bool) -> Hashable:
    engine = None if join_engines else row.engine
    return row.model_id, engine, row.device, row.batch_size, row.new_tokens


def _load(row: CellRow, among: Sequence[CellRow]) -> str:
    several_lengths = len({other.new_tokens for other in among}) > 1
    return f", batch {row.batch_size}" + (f", {row.new_tokens} new tokens" if several_lengths else "")


def quality_panels(rows: Iterable[CellRow]) -> tuple[Panel, ...]:
    """One panel for each model, engine, device, protocol and cache that a perplexity was asked of."""
    quality = [row for row in rows if row.kind == "quality"]
    groups = _grouped(quality, lambda row: (row.model_id, row.engine, row.device, row.protocol, row.cache_mode))
    return tuple(Panel(_title(group[0], quality), group) for group in groups)


def in_catalog_order(quantizations: Iterable[str]) -> tuple[str, ...]:
    """Each precision once, as the catalog orders their families; unknown ones at the end."""
    names = list(catalog.PRECISIONS)
    families = {name: theme.family_of(name) for name in set(quantizations)}
    places = {name: names.index(family) if family in names else len(names) for name, family in families.items()}
    return tuple(sorted(places, key=lambda name: (places[name], name)))


def shown_cache_mode(rows: Iterable[CellRow]) -> str:
    """The cache mode that a figure of one mode shows: on, unless the rows know only off."""
    present = {row.cache_mode for row in rows}
    return next((mode for mode in catalog.CACHE_MODES if mode in present), catalog.CACHE_MODES[0])


def present_cache_modes(rows: Iterable[CellRow]) -> tuple[str, ...]:
    """The cache modes that rows have, in the catalog's order; unknown ones at the end."""
    names = list(catalog.CACHE_MODES)
    present = {row.cache_mode for row in rows if row.cache_mode is not None}
    return tuple(sorted(present, key=lambda mode: (names.index(mode) if mode in names else len(names), mode)))


def devices(rows: Iterable[CellRow]) -> str:
    """Where the rows were measured, for a subtitle."""
    return ", ".join(dict.fromkeys(row.device_name for row in rows if row.device_name)) or "device not recorded"


def grid(panels: Sequence[object]) -> tuple[int, int]:
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


def _title(row: CellRow, among: Sequence[CellRow], join_engines: bool = False) -> str:
    """The model, and what else tells this panel from the others."""
    several_engines = not join_engines and len({other.engine for other in among}) > 1
    several_devices = len({other.device for other in among}) > 1
    several_protocols = len({other.protocol for other in among}) > 1
    extra = [row.engine] * several_engines + [row.device] * several_devices
    protocol = [row.protocol or ""] * several_protocols
    cache = [f"cache {row.cache_mode}"] * (row.kind == "quality" and row.cache_mode is not None)
    return ", ".join([row.model, *extra, *protocol, *cache])
