"""What does the KV cache buy in decode? In sentences.

cache_sentences(rows, "en")[0].text    # 'With the KV cache, decoding at 2,048 tokens is 3.50× as fast: ...'
"""

from collections import Counter
from collections.abc import Sequence

from farm.present.figures.cache_gain import crossover, gain_curve
from farm.present.figures.points import points
from farm.present.sentence_parts import Sentence, Subject, begin, mate, smallest_batch, subjects, title
from farm.present.words import number, say
from farm.rows import CellRow

SAME = 0.05  # a gain nearer to 1 than this is no difference to speak of


def cache_sentences(rows: Sequence[CellRow], language: str) -> tuple[Sentence, ...]:
    """For each subject the gain at the longest context, its growth, where it begins to pay, and what it costs."""
    found = [sentence for subject in subjects(rows, language) for sentence in _of_subject(subject, language)]
    return tuple(found) or (Sentence(say(language, "cache_nothing")),)


def _of_subject(subject: Subject, language: str) -> list[Sentence]:
    line = headline_line(subject.rows)
    if not line:
        return []
    last = line[-1]
    parts: list[Sentence | None] = [_lead(last, subject, language)]
    if any(_differs(row, mate(row, subject.rows, cache_mode="off")) for row in line):
        parts += [_growth(line, subject, language), _crossover(line, subject, language)]
    parts += [_memory(last, language), _failures(subject.rows, language)]
    return [part for part in parts if part is not None]


def headline_line(rows: Sequence[CellRow]) -> list[CellRow]:
    """The cached rows of one precision with a partner without the cache, by context: the baseline's if it has any."""
    paired = [row for row in rows if row.is_ok and row.cache_mode == "on" and row.cache_speedup is not None]
    least = smallest_batch(paired)
    names = [row.quantization for row in least if row.quantization == row.baseline_quantization]
    name = next(iter(names), least[0].quantization if least else None)
    return sorted((row for row in least if row.quantization == name), key=lambda row: row.context_tokens or 0)


def _lead(row: CellRow, subject: Subject, language: str) -> Sentence | None:
    off = mate(row, subject.rows, cache_mode="off")
    if off is None or off.decode_tok_s is None or row.decode_tok_s is None or row.cache_speedup is None:
        return None
    gain = row.cache_speedup
    name = "cache_faster" if gain > 1 + SAME else "cache_slower" if gain < 1 - SAME else "cache_same"
    if name != "cache_same" and not _differs(row, off):
        name = "cache_unsure"
    text = say(
        language,
        name,
        where=subject.where,
        context=number(row.context_tokens or 0),
        gain=number(gain),
        on=number(row.decode_tok_s.median),
        off=number(off.decode_tok_s.median),
        precision=title(row),
        batch=row.batch_size,
    )
    return Sentence(begin(text), (row.key, off.key), is_lead=True)


def _differs(row: CellRow, off: CellRow | None) -> bool:
    """Whether the two 95 % intervals lie apart; what has none is taken by its median."""
    if off is None or row.decode_tok_s is None or off.decode_tok_s is None:
        return False
    slow, fast = sorted((row.decode_tok_s, off.decode_tok_s), key=lambda speed: speed.median)
    return slow.ci_high is None or fast.ci_low is None or slow.ci_high < fast.ci_low


def _growth(line: Sequence[CellRow], subject: Subject, language: str) -> Sentence | None:
    first, last = line[0], line[-1]
    if len(line) < 2 or first.cache_speedup is None or last.cache_speedup is None:
        return None
    name = "cache_grows" if last.cache_speedup > first.cache_speedup * (1 + SAME) else "cache_flat"
    text = say(
        language,
        name,
        first=number(first.cache_speedup),
        last=number(last.cache_speedup),
        from_context=number(first.context_tokens or 0),
        to_context=number(last.context_tokens or 0),
    )
    return Sentence(text, _keys_of_pairs((first, last), subject), of_speed=True)


def _crossover(line: Sequence[CellRow], subject: Subject, language: str) -> Sentence:
    drawn = points(line, gain_curve("on"), line[0].quantization)
    keys = _keys_of_pairs(line, subject)
    context = crossover(drawn)
    if context is not None:
        return Sentence(say(language, "cache_from", context=number(round(context))), keys, of_speed=True)
    return Sentence(say(language, "cache_always" if drawn[0].value >= 1 else "cache_never"), keys, of_speed=True)


def _keys_of_pairs(line: Sequence[CellRow], subject: Subject) -> tuple[str, ...]:
    """Of the rows with the cache and of those without it."""
    off = [mate(row, subject.rows, cache_mode="off") for row in line]
    return tuple(row.key for row in (*line, *off) if row is not None)


def _memory(row: CellRow, language: str) -> Sentence | None:
    kv, weights = row.memory.kv_bytes, row.memory.weights_bytes
    if not kv or not weights:
        return None
    text = say(
        language,
        "cache_memory",
        context=number(row.context_tokens or 0),
        kv=f"{kv / 1e9:.3g}",
        weights=f"{weights / 1e9:.3g}",
        share=number(100 * kv / weights),
    )
    return Sentence(text, (row.key,))


def _failures(rows: Sequence[CellRow], language: str) -> Sentence | None:
    off = [row for row in rows if row.cache_mode == "off"]
    failed = [row for row in off if not row.is_ok]
    if not failed:
        return None
    counts = Counter(row.status.value for row in failed)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    text = say(language, "cache_failed", failed=len(failed), cells=len(off), statuses=statuses)
    return Sentence(text, tuple(row.key for row in failed))
