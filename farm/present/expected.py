"""What the mission expected, beside what was measured, and why the two differ as far as the rows can tell.

Why in code: an expectation is a bracket of numbers, the measured value is a row; whether it is below or above, and
what limited it, is read off the row's own evidence (launch share, share of the bandwidth) and typed by nobody.

    for one in compare(cell_rows(records)): print(one.name, one.value, one.outcome)    # fp16 32.7 below

Speed is that of the longest prompt of each engine and cache mode, batch 1 (the smallest), as the mission has it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farm import catalog
from farm.formulas import PPL_LIMIT_PERCENT
from farm.present.figures.points import is_trusted
from farm.present.ladder import headline_rows
from farm.present.sentence_parts import mate
from farm.present.words import number, say
from farm.quantization import parse_quantization
from farm.rows import CellRow
from farm.verdict import is_launch_bound


@dataclass(frozen=True, slots=True)
class Expectation:
    """A closed bracket; `low` None has no lower end."""

    low: float | None
    high: float

    def outcome(self, value: float) -> str:
        """`below`, `within` or `above`."""
        if self.low is not None and value < self.low:
            return "below"
        return "within" if value <= self.high else "above"


# The mission's own figures: tokens a second, then percent.
EXPECTED = {
    "fp16": Expectation(40, 50),
    "int8": Expectation(75, 90),
    "4bit": Expectation(110, 130),
    "no_cache": Expectation(None, 5),
    "ppl": Expectation(None, PPL_LIMIT_PERCENT),
    "compile": Expectation(15, 15),
}
IN_PERCENT = frozenset({"ppl", "compile"})


@dataclass(frozen=True, slots=True)
class Compared:
    """One expectation beside one row."""

    name: str
    row: CellRow
    value: float

    @property
    def outcome(self) -> str:
        return EXPECTED[self.name].outcome(self.value)


def compare(rows: Sequence[CellRow]) -> tuple[Compared, ...]:
    """Every expectation with every row that answers it, in the order of the mission."""
    shown = headline_rows(rows)
    found = [*_speeds(shown), *_changes(rows), *_compiled(shown)]
    return tuple(one for name in EXPECTED for one in found if one.name == name)


def quality_rows(rows: Sequence[CellRow]) -> list[CellRow]:
    """Of the headline protocol, the first of each model: what a precision costs in answers."""
    quality = [row for row in rows if row.kind == "quality"]
    ranked = [
        row.protocol for name in catalog.QUALITY_PROTOCOLS for row in quality if (row.protocol or "").startswith(name)
    ]
    return [row for row in quality if row.protocol == ranked[0]] if ranked else quality


def _speeds(rows: Sequence[CellRow]) -> Iterator[Compared]:
    for row in rows:
        if row.decode_tok_s is not None:
            key = parse_quantization(row.quantization).report_key
            name = "no_cache" if row.cache_mode == "off" else key
            if name in EXPECTED:
                yield Compared(name, row, row.decode_tok_s.median)


def _changes(rows: Sequence[CellRow]) -> Iterator[Compared]:
    for row in quality_rows(rows):
        percent = row.quality.perplexity_delta_percent
        if percent is not None and parse_quantization(row.quantization).precision.is_quantized:
            yield Compared("ppl", row, percent)


def _compiled(rows: Sequence[CellRow]) -> Iterator[Compared]:
    """What `torch.compile` gains over the eager engine in the same precision."""
    for row in rows:
        eager = mate(row, [other for other in rows if other.engine == "eager"]) if row.engine == "compiled" else None
        if eager is not None and eager.decode_tok_s is not None and row.decode_tok_s is not None:
            yield Compared("compile", row, 100 * (row.decode_tok_s.median / eager.decode_tok_s.median - 1))


def why(one: Compared, language: str) -> str:
    """What limited it, by the row's own evidence; before it a warning where the row is not valid."""
    parts = [_limit(one, language)]
    if not is_trusted(one.row):
        parts.insert(0, say(language, "why_suspect", verdict=one.row.trust.verdict))
    return "; ".join(part for part in parts if part)


def _limit(one: Compared, language: str) -> str:
    row = one.row
    if one.name == "ppl":
        return _agreement(row, language)
    if one.name == "no_cache":
        return say(language, "why_recompute", context=number(row.context_tokens or 0))
    if is_launch_bound(share := row.trust.launch_share):
        return say(language, "why_host", share=f"{100 * share:.0f}")
    if (mbu := row.roofline.mbu_decode) is None or (limit := row.roofline.decode_limit_tok_s) is None:
        return say(language, "why_unknown")
    return say(language, "why_bytes", mbu=f"{100 * mbu:.0f}", limit=number(limit))


def _agreement(row: CellRow, language: str) -> str:
    found = row.quality.agreement
    if found.kl_mean is None or found.top1_agreement is None:
        return ""
    return say(language, "why_agreement", kl=f"{found.kl_mean:.3g}", top1=f"{100 * found.top1_agreement:.1f}")
