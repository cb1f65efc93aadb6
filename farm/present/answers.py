"""The questions a sweep is run for, answered from its rows: the KV cache, 4-bit weights, and the sweet spot.

Why in the report: a reader of final_report.json should not have to divide columns by hand, and two readers should not
divide different ones. Every ratio is of medians of equal tasks on one device.

    answers_of(cell_rows(records)).kv_cache[0].decode_speedup    # 3.5
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farm import formulas
from farm.present.answers_cache_modes import CacheModeAnswer, cache_mode_answers
from farm.quantization import parse_quantization
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class CacheAnswer:
    """What the KV cache buys at one context. `verdict`: of the ratio (farm.rows)."""

    model: str
    engine: str
    device: str
    quantization: str
    batch_size: int | None
    context_tokens: int | None
    tokens_s_on: float
    tokens_s_off: float
    decode_speedup: float
    verdict: str | None


@dataclass(frozen=True, slots=True)
class FourBitAnswer:
    """Is 4-bit worth it: against the baseline precision on the same task. `speed_verdict`: of the ratio (farm.rows)."""

    model: str
    engine: str
    device: str
    quantization: str
    baseline: str
    batch_size: int | None
    context_tokens: int | None
    speed_ratio: float | None
    speed_verdict: str | None
    memory_ratio: float | None
    memory_measure: str
    perplexity_delta_percent: float | None
    in_words: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A precision on the front, with the figures it stands there for."""

    quantization: str
    key: str
    tokens_s: float
    memory_gb: float
    perplexity: float | None


@dataclass(frozen=True, slots=True)
class SweetSpot:
    """The precisions that no other one beats in every criterion at once."""

    model: str
    engine: str
    device: str
    batch_size: int | None
    context_tokens: int
    criteria: tuple[str, ...]
    front: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers; an empty tuple where the sweep holds no pair to compare."""

    kv_cache: tuple[CacheAnswer, ...]
    kv_cache_modes: tuple[CacheModeAnswer, ...]
    four_bit: tuple[FourBitAnswer, ...]
    sweet_spot: tuple[SweetSpot, ...]


def answers_of(rows: Sequence[CellRow]) -> Answers:
    """Answer everything from the rows of one run."""
    speed = [row for row in rows if row.kind == "speed" and row.is_ok and row.decode_tok_s is not None]
    return Answers(
        kv_cache=tuple(_cache_answer(row, row.cache_speedup) for row in speed if row.cache_speedup is not None),
        kv_cache_modes=cache_mode_answers(rows),
        four_bit=tuple(_four_bit_answer(row, base) for row, base in _four_bit_pairs(speed)),
        sweet_spot=tuple(_sweet_spot(group) for group in _comparable(speed)),
    )


def memory_bytes(row: CellRow) -> tuple[float | None, str]:
    """The device's peak, or weights and KV cache where no allocator tells it; and which of the two it is."""
    memory = row.memory
    if memory.peak_allocated_bytes is not None:
        return memory.peak_allocated_bytes, "peak_allocated"
    parts = [part for part in (memory.weights_bytes, memory.kv_bytes) if part is not None]  # no device, no host share
    return (sum(parts) if parts else None), "weights_and_kv"


def _cache_answer(row: CellRow, speedup: float) -> CacheAnswer:
    on = speed_of(row)
    return CacheAnswer(
        model=row.model_id,
        engine=row.engine,
        device=row.device,
        quantization=row.quantization,
        batch_size=row.batch_size,
        context_tokens=row.context_tokens,
        tokens_s_on=on,
        tokens_s_off=on / speedup,
        decode_speedup=speedup,
        verdict=row.cache_speedup_verdict,
    )


def _four_bit_pairs(speed: Sequence[CellRow]) -> list[tuple[CellRow, CellRow]]:
    """Each cached 4-bit row with the baseline row of the same task."""
    four_bit = [row for row in speed if parse_quantization(row.quantization).report_key == "4bit"]
    pairs = [(row, _baseline_row(row, speed)) for row in four_bit if row.cache_mode == "on"]
    return [(row, base) for row, base in pairs if base is not None]


def _four_bit_answer(row: CellRow, base: CellRow) -> FourBitAnswer:
    own_memory, measure = memory_bytes(row)
    memory_ratio = formulas.ratio(own_memory, memory_bytes(base)[0])
    delta = row.quality.perplexity_delta_percent
    return FourBitAnswer(
        model=row.model_id,
        engine=row.engine,
        device=row.device,
        quantization=row.quantization,
        baseline=base.quantization,
        batch_size=row.batch_size,
        context_tokens=row.context_tokens,
        speed_ratio=row.speedup_vs_baseline,
        speed_verdict=row.speedup_verdict,
        memory_ratio=memory_ratio,
        memory_measure=measure,
        perplexity_delta_percent=delta,
        in_words=_in_words(row.speedup_vs_baseline, memory_ratio, delta),
    )


def _baseline_row(row: CellRow, speed: Sequence[CellRow]) -> CellRow | None:
    mates = (other for other in speed if _task(other) == _task(row))
    return next((other for other in mates if other.quantization == row.baseline_quantization), None)


def _task(row: CellRow) -> tuple[object, ...]:
    """Equal for two rows that did the same task on the same model, engine and kind of device."""
    return *row.subject, row.cache_mode, row.batch_size, row.context_tokens, row.new_tokens


def _in_words(speed: float | None, memory: float | None, delta: float | None) -> str:
    parts = [
        "speed unknown" if speed is None else f"{speed:.2f}x the decode speed",
        "memory unknown" if memory is None else f"{memory:.2f}x the memory",
        "perplexity unknown" if delta is None else f"{delta:+.2f} % perplexity",
    ]
    return ", ".join(parts)


def _comparable(speed: Sequence[CellRow]) -> list[list[CellRow]]:
    """Cached rows of one model, engine, device and batch size, each at the longest context they were measured at."""
    groups: dict[tuple[object, ...], list[CellRow]] = {}
    for row in speed:
        if row.cache_mode == "on" and memory_bytes(row)[0] is not None:
            groups.setdefault((*row.subject, row.batch_size, row.new_tokens), []).append(row)
    return [[row for row in group if row.context_tokens == _longest(group)] for group in groups.values()]


def _longest(group: Sequence[CellRow]) -> int:
    return max(row.context_tokens or 0 for row in group)


def _sweet_spot(group: Sequence[CellRow]) -> SweetSpot:
    front, with_quality = front_of(group)
    measure = memory_bytes(group[0])[1]
    return SweetSpot(
        model=group[0].model_id,
        engine=group[0].engine,
        device=group[0].device,
        batch_size=group[0].batch_size,
        context_tokens=_longest(group),
        criteria=("decode_tok_s", measure, *(("perplexity",) if with_quality else ())),
        front=tuple(_candidate(row) for row in front),
    )


def front_of(group: Sequence[CellRow]) -> tuple[list[CellRow], bool]:
    """The rows that no other one beats in speed, memory and quality at once, and whether quality counted.

    Perplexity counts only when every row has one: a missing figure neither wins nor loses.
    """
    with_quality = all(row.quality.perplexity is not None for row in group)
    indexes = formulas.pareto_front([_costs(row, with_quality) for row in group])
    return [group[index] for index in indexes], with_quality


def _costs(row: CellRow, with_quality: bool) -> tuple[float, ...]:
    costs = (-speed_of(row), memory_of(row))
    return (*costs, row.quality.perplexity or 0.0) if with_quality else costs


def _candidate(row: CellRow) -> Candidate:
    return Candidate(
        quantization=row.quantization,
        key=row.key,
        tokens_s=speed_of(row),
        memory_gb=memory_of(row) / 1e9,
        perplexity=row.quality.perplexity,
    )


def speed_of(row: CellRow) -> float:
    """Median decode tokens a second of a row that has one."""
    assert row.decode_tok_s is not None
    return row.decode_tok_s.median


def memory_of(row: CellRow) -> float:
    """Bytes by the row's measure, of a row that has one."""
    return memory_bytes(row)[0] or 0.0
