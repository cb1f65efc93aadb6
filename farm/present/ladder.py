"""Which rows come first: of each engine and bit width the fastest, from no cache to the fastest engine.

Why so few: a newcomer reads eight lines, not thirty. What is left out is the slower precision of two with as many bits;
the results page has all of them.

    [row.quantization for row in ladder(rows) if row.engine == "turbo"]    # ['fp16', 'int8wo', 'int4wo']
"""

from collections.abc import Sequence

from farm import catalog
from farm.present.sentence_parts import smallest_batch
from farm.quantization import parse_quantization
from farm.rows import CellRow


def headline_rows(rows: Sequence[CellRow]) -> list[CellRow]:
    """Speed rows of the first model at its smallest batch, failed ones included: each engine's longest prompt.

    With and without a cache apart: what is measured without one is often shorter.
    """
    speed = [row for row in rows if row.kind == "speed" and row.context_tokens]
    own = smallest_batch([row for row in speed if row.model_id == speed[0].model_id])
    longest: dict[tuple[str, str | None], int] = {}
    for row in own:
        longest[_mode(row)] = max(row.context_tokens or 0, longest.get(_mode(row), 0))
    return [row for row in own if row.context_tokens == longest[_mode(row)]]


def ladder(rows: Sequence[CellRow]) -> list[CellRow]:
    """Of the headline rows that gave a figure, the fastest of each step."""
    fastest: dict[tuple[int, bool, float], CellRow] = {}
    for row in headline_rows(rows):
        if row.is_ok and row.decode_tok_s and row.cache_mode in catalog.DEFAULT_CACHE_MODES:
            step = _step(row)
            if step not in fastest or _speed(row) > _speed(fastest[step]):
                fastest[step] = row
    return [fastest[step] for step in sorted(fastest)]


def _mode(row: CellRow) -> tuple[str, str | None]:
    return row.engine, row.cache_mode


def _step(row: CellRow) -> tuple[int, bool, float]:
    """Engines as the catalog orders them, no cache before cache, wide weights before narrow ones."""
    engine = catalog.ENGINES.index(row.engine) if row.engine in catalog.ENGINES else len(catalog.ENGINES)
    return engine, row.cache_mode == "on", -parse_quantization(row.quantization).precision.code_bits


def _speed(row: CellRow) -> float:
    return row.decode_tok_s.median if row.decode_tok_s else 0.0
