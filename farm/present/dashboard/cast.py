"""The rows that the demo is about: one task without the KV cache, with it, and with it in 4 bits. Pure.

cast = cast_of(rows)
cast.off, cast.on, cast.four_bit    # of one model, engine and prompt; None where a run has no such row
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farm.present.answers import speed_of
from farm.present.figures.points import is_trusted
from farm.quantization import parse_quantization
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Cast:
    """The rows that the film is about: one task without cache, with it, and with it in 4 bits."""

    off: CellRow | None = None
    on: CellRow | None = None
    four_bit: CellRow | None = None

    @property
    def is_suspect(self) -> bool:
        return not all(is_trusted(row) for row in (self.off, self.on, self.four_bit) if row is not None)


def cast_of(rows: Sequence[CellRow]) -> Cast:
    """The longest prompt at which the most of the three are measured; the plainest precision without cache."""
    speed = [row for row in rows if row.kind == "speed" and row.is_ok and row.decode_tok_s is not None]
    casts = [_cast(row, speed) for row in speed]
    return max(casts, key=_worth, default=Cast())


def _cast(row: CellRow, speed: Sequence[CellRow]) -> Cast:
    """Around one row: those of the same task on the same model, engine and device."""
    mates = [other for other in speed if _task(other) == _task(row)]
    cached = [other for other in mates if other.cache_mode == "on"]
    four_bit = [other for other in cached if parse_quantization(other.quantization).report_key == "4bit"]
    own = row if row.cache_mode == "off" else None
    return Cast(
        off=own,
        on=next((other for other in cached if other.quantization == row.quantization), None),
        four_bit=max(four_bit, key=speed_of, default=None),
    )


def _worth(cast: Cast) -> tuple[int, bool, int, int]:
    """How much of the story it can tell; a baseline beats a quantized row, then the longer prompt."""
    known = [row for row in (cast.off, cast.on, cast.four_bit) if row is not None]
    first = cast.off or cast.on
    plain = first is not None and not parse_quantization(first.quantization).precision.is_quantized
    is_baseline = first is not None and first.quantization == first.baseline_quantization
    return len(known), plain, first.context_tokens or 0 if first else 0, int(is_baseline)


def _task(row: CellRow) -> tuple[object, ...]:
    return *row.subject, row.context_tokens, row.batch_size, row.new_tokens
