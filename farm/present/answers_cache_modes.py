"""What does another cache cost or buy against the usual one: bytes, speed and quality, from rows of equal tasks.

Why apart from the answer on cache or no cache: there the question is recomputing, here it is how keys and values are
kept. Ratios are of medians; the perplexity is that of the text scored through the cache, against the exact cache.

    cache_mode_answers(rows)[0].kv_ratio      # 0.28: INT4 in groups of 64 against 16 bit
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from farm import formulas
from farm.rows import CellRow

USUAL, NONE = "on", "off"


@dataclass(frozen=True, slots=True)
class CacheModeAnswer:
    """One cache mode beside `on`, for one model, engine, device, precision and task."""

    model: str
    engine: str
    device: str
    quantization: str
    batch_size: int | None
    context_tokens: int | None
    cache_mode: str
    cache_class: str | None
    kv_bytes: int | None
    kv_predicted_bytes: float | None
    kv_bytes_per_token: float | None
    kv_ratio: float | None
    speed_ratio: float | None
    perplexity: float | None
    perplexity_protocol: str | None
    perplexity_delta_percent: float | None


def cache_mode_answers(rows: Sequence[CellRow]) -> tuple[CacheModeAnswer, ...]:
    """Every measured row of another mode than on and off; ratios are None where `on` was not measured."""
    speed = [row for row in rows if row.kind == "speed" and row.is_ok]
    return tuple(_answer(row, _usual(row, speed)) for row in speed if row.cache_mode not in (USUAL, NONE))


def _usual(row: CellRow, speed: Sequence[CellRow]) -> CellRow | None:
    """The row of the same task with the usual cache."""
    return next((other for other in speed if _task(other) == _task(replace(row, cache_mode=USUAL))), None)


def _task(row: CellRow) -> tuple[object, ...]:
    return *row.subject, row.quantization, row.cache_mode, row.batch_size, row.context_tokens, row.new_tokens


def _answer(row: CellRow, usual: CellRow | None) -> CacheModeAnswer:
    return CacheModeAnswer(
        model=row.model_id,
        engine=row.engine,
        device=row.device,
        quantization=row.quantization,
        batch_size=row.batch_size,
        context_tokens=row.context_tokens,
        cache_mode=row.cache_mode or "",
        cache_class=row.evidence.cache_class,
        kv_bytes=row.memory.kv_bytes,
        kv_predicted_bytes=row.memory.kv_predicted_bytes,
        kv_bytes_per_token=row.memory.kv_bytes_per_token,
        kv_ratio=formulas.ratio(row.memory.kv_bytes, usual.memory.kv_bytes if usual else None),
        speed_ratio=formulas.ratio(_speed(row), _speed(usual)),
        perplexity=row.quality.perplexity,
        perplexity_protocol=row.quality.perplexity_protocol,
        perplexity_delta_percent=row.quality.perplexity_delta_percent,
    )


def _speed(row: CellRow | None) -> float | None:
    return row.decode_tok_s.median if row is not None and row.decode_tok_s is not None else None
