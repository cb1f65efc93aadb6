"""Is 4-bit worth it in production? In sentences, by a rule that can be read.

Yes needs all three: no slower, smaller, within the 5 % line of perplexity. Smaller alone is worth it where memory is
the limit; a loss above the line is not worth it at any speed.

    four_bit_sentences(rows, "en")[0].text    # 'Not as it is. NF4 loses more than 5 % ...'
"""

from collections.abc import Sequence
from dataclasses import replace

from farm.formulas import PPL_LIMIT_PERCENT, ratio
from farm.present import theme
from farm.present.answers import memory_bytes
from farm.present.sentence_parts import Sentence, Subject, begin, mate, smallest_batch, subjects, title
from farm.present.words import number, say
from farm.quantization import parse_quantization
from farm.rows import CellRow
from farm.stats import scaled_median


def four_bit_sentences(rows: Sequence[CellRow], language: str) -> tuple[Sentence, ...]:
    """For each subject and each 4-bit precision the verdict, the figures behind it, and what they are figures of.

    Several precisions of one verdict share its sentence.
    """
    found = [sentence for subject in subjects(rows, language) for sentence in _of_subject(subject, language)]
    return merged(found) or (Sentence(say(language, "four_nothing")),)


def is_four_bit(quantization: str) -> bool:
    return parse_quantization(quantization).report_key == "4bit"


def _of_subject(subject: Subject, language: str) -> list[Sentence]:
    rows = [row for row in subject.rows if row.cache_mode == "on"]
    four_bit = smallest_batch([row for row in rows if is_four_bit(row.quantization)])
    sentences: list[Sentence] = []
    for name in dict.fromkeys(row.quantization for row in four_bit):
        own = [row for row in four_bit if row.quantization == name]
        sentences += _of_precision(own, Subject(tuple(rows), subject.where), language)
    told = {key for sentence in sentences for key in sentence.keys}
    bound = [row.key for row in four_bit if row.key in told and "launch_bound" in (row.trust.verdict or "")]
    return sentences + [Sentence(say(language, "four_launch"), tuple(bound))] * bool(bound)


def merged(sentences: Sequence[Sentence]) -> tuple[Sentence, ...]:
    """Each text once, at its first place, about the rows of all that said it."""
    keys: dict[str, tuple[str, ...]] = {}
    for one in sentences:
        keys[one.text] = tuple(dict.fromkeys((*keys.get(one.text, ()), *one.keys)))
    first = {one.text: one for one in reversed(sentences)}
    return tuple(replace(first[text], keys=about) for text, about in keys.items())


def _of_precision(own: Sequence[CellRow], subject: Subject, language: str) -> list[Sentence]:
    """At the longest context where both it and its baseline were measured."""
    pairs = [(row, _baseline(row, subject.rows)) for row in own if row.is_ok and row.decode_tok_s is not None]
    both = [(row, base) for row, base in pairs if base is not None]
    if not both:
        return [_failure(row, language) for row in own[-1:] if not row.is_ok]
    row, base = max(both, key=lambda pair: pair[0].context_tokens or 0)
    return [_verdict(row, base, subject, language), _figures(row, base, language)]


def _baseline(row: CellRow, rows: Sequence[CellRow]) -> CellRow | None:
    if row.baseline_quantization in (None, row.quantization):
        return None
    return mate(row, rows, quantization=row.baseline_quantization)


def verdict_of(speed: float | None, memory: float | None, percent: float | None) -> str:
    """`quality`, `no`, `yes` or `memory`; before it `open_` where no perplexity was compared."""
    if percent is not None and percent > PPL_LIMIT_PERCENT:
        return "quality"
    if memory is None or memory >= 1:
        return "no"
    verdict = "yes" if speed is not None and speed >= 1 else "memory"
    return f"open_{verdict}" if percent is None else verdict


def _verdict(row: CellRow, base: CellRow, subject: Subject, language: str) -> Sentence:
    memory = ratio(memory_bytes(row)[0], memory_bytes(base)[0])
    verdict = verdict_of(row.speedup_vs_baseline, memory, row.quality.perplexity_delta_percent)
    values = {"where": subject.where, "precision": title(row), "baseline": title(base)}
    if verdict.startswith("open_"):
        text = say(language, "four_open", verdict=say(language, f"four_{verdict}"), **values)
    else:
        text = say(language, f"four_{verdict}", **values)
    return Sentence(begin(text), (row.key, base.key), is_lead=True)


def _figures(row: CellRow, base: CellRow, language: str) -> Sentence:
    parts = [_speed(row, base, language), _prefill(row, base, language), _size(row, base, language)]
    parts += [_quality(row, base, language)]
    text = say(
        language,
        "four_figures",
        precision=theme.title_of(row.quantization),
        baseline=title(base),
        context=number(row.context_tokens or 0),
        batch=row.batch_size,
        parts="; ".join(part for part in parts if part),
    )
    return Sentence(text, (row.key, base.key), of_speed=True)


def _speed(row: CellRow, base: CellRow, language: str) -> str:
    return _compared(language, "four_speed", scaled_median(row.decode_tok_s), scaled_median(base.decode_tok_s))


def _prefill(row: CellRow, base: CellRow, language: str) -> str:
    return _compared(language, "four_prefill", scaled_median(row.prefill_s, 1000), scaled_median(base.prefill_s, 1000))


def _size(row: CellRow, base: CellRow, language: str) -> str:
    (own, measure), (other, other_measure) = memory_bytes(row), memory_bytes(base)
    if own is None or other is None or measure != other_measure:
        return ""
    return _compared(language, "four_size", own / 1e9, other / 1e9, measure=say(language, measure))


def _quality(row: CellRow, base: CellRow, language: str) -> str:
    percent, own, other = row.quality.perplexity_delta_percent, row.quality.perplexity, base.quality.perplexity
    if percent is None or own is None or other is None:
        return ""
    values = {"percent": f"{percent:+.2f}", "own": f"{own:.3f}", "base": f"{other:.3f}"}
    return say(language, "four_quality_part", **values)


def _compared(language: str, name: str, own: float | None, base: float | None, **more: str) -> str:
    times = ratio(own, base)
    if times is None or own is None or base is None:
        return ""
    return say(language, name, ratio=f"{times:.2f}", own=number(own), base=number(base), **more)


def _failure(row: CellRow, language: str) -> Sentence:
    values = {"precision": title(row), "status": row.status.value, "reason": row.reason or "-"}
    return Sentence(say(language, "four_failed", **values), (row.key,))
