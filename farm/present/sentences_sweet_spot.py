"""Where is the sweet spot? In sentences, by a rule that can be read.

Of the configurations that no other one beats in speed, memory and quality at once, and that stay within the 5 % line of
perplexity, the one with the most tokens a second for each gigabyte.

    sweet_spot_sentences(rows, "en")[0].text    # 'INT4, turbo: 298 tokens/s in 5.9 GB, ...'
"""

from collections.abc import Sequence

from farm.formulas import PPL_LIMIT_PERCENT
from farm.present.answers import memory_of, speed_of
from farm.present.figures.fronts import Front, fronts
from farm.present.figures.pareto import label
from farm.present.sentence_parts import Sentence, begin
from farm.present.words import number, say
from farm.rows import CellRow


def sweet_spot_sentences(rows: Sequence[CellRow], language: str) -> tuple[Sentence, ...]:
    """For each model and device at its smallest batch: the spot, the ends of the front, what is beaten."""
    found = fronts(rows)
    places = list(dict.fromkeys(_place(front) for front in found))
    sentences: list[Sentence] = []
    for place in places:
        own = sorted(
            (front for front in found if _place(front) == place), key=lambda front: front.rows[0].batch_size or 0
        )
        sentences += _of_place(own, language, several=len(places) > 1)
    return tuple(sentences) or (Sentence(say(language, "spot_nothing")),)


def sweet_spot(front: Front) -> CellRow | None:
    """The row itself; None when everything on the front is beyond the 5 % line."""
    within = [row for row in front.best if (row.quality.perplexity_delta_percent or 0.0) <= PPL_LIMIT_PERCENT]
    return max(within, key=lambda row: speed_of(row) / memory_of(row), default=None)


def _place(front: Front) -> tuple[object, ...]:
    row = front.rows[0]
    return row.model_id, row.device, row.device_name


def _of_place(found: Sequence[Front], language: str, several: bool) -> list[Sentence]:
    front = found[0]
    parts = [_lead(front, language, several), _ends(front, language), _beaten(front, language)]
    no_quality = None if front.with_quality else Sentence(say(language, "spot_no_quality"))
    return [part for part in (*parts, no_quality, _batch(found, language)) if part is not None]


def _lead(front: Front, language: str, several: bool) -> Sentence:
    row = sweet_spot(front)
    if row is None:
        return Sentence(say(language, "spot_outside"), tuple(row.key for row in front.best), is_lead=True)
    where = f"{row.model}, {row.device_name or row.device}: " if several else ""
    text = say(
        language,
        "spot_lead" if len(front.rows) > 1 else "spot_alone",
        where=where,
        name=label(row, front),
        speed=number(speed_of(row)),
        memory=gigabytes(row),
        quality=quality_words(row, language),
        context=number(front.context),
        batch=row.batch_size,
        within=say(language, "spot_within") if front.with_quality else "",
    )
    return Sentence(begin(text), (row.key,), is_lead=True)


def quality_words(row: CellRow, language: str) -> str:
    """`, perplexity +1.2 %`; empty where nothing was measured."""
    percent = row.quality.perplexity_delta_percent
    if percent is not None:
        return say(language, "spot_quality", percent=f"{percent:+.2f}")
    is_base = row.quality.perplexity is not None and row.quantization == row.baseline_quantization
    return say(language, "spot_base_quality") if is_base else ""


def _ends(front: Front, language: str) -> Sentence | None:
    if len(front.rows) < 2:
        return None
    fastest, smallest = max(front.best, key=speed_of), min(front.best, key=memory_of)
    text = say(
        language,
        "spot_fastest",
        name=label(fastest, front),
        speed=number(speed_of(fastest)),
        small=label(smallest, front),
        memory=gigabytes(smallest),
    )
    return Sentence(text, (fastest.key, smallest.key), of_speed=True)


def _beaten(front: Front, language: str) -> Sentence | None:
    beaten = [row for row in front.rows if row not in front.best]
    if not beaten:
        return None
    text = say(language, "spot_beaten", names="; ".join(label(row, front) for row in beaten))
    return Sentence(text, tuple(row.key for row in beaten), of_speed=True)


def _batch(found: Sequence[Front], language: str) -> Sentence | None:
    """The highest throughput of all batches, where it is at a larger one."""
    best = max((row for front in found for row in front.rows), key=speed_of)
    if best.batch_size == found[0].rows[0].batch_size:
        return None
    front = next(front for front in found if best in front.rows)
    text = say(language, "spot_batch", name=label(best, front), speed=number(speed_of(best)), batch=best.batch_size)
    return Sentence(text, (best.key,), of_speed=True)


def gigabytes(row: CellRow) -> str:
    """`5.91`, by the row's own measure of memory."""
    return f"{memory_of(row) / 1e9:.3g}"
