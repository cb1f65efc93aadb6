"""Which configuration should I run? The fastest one that keeps the limits, in sentences that name their rows.

Why the fastest and not a score: the reader says what may be lost (quality) and what there is (memory); what is left is
speed. A row without a perplexity is not within a limit on it: unmeasured is not harmless.

    for sentence in advice(cell_rows(records), Limits(max_ppl_loss=5.0), "en").sentences: print(sentence.text)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farm.present.answers import memory_of, speed_of
from farm.present.figures.fronts import Front, fronts
from farm.present.figures.pareto import label
from farm.present.figures.points import is_trusted
from farm.present.sentence_parts import Sentence, begin
from farm.present.sentences_sweet_spot import gigabytes, quality_words
from farm.present.words import number, say
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Limits:
    """What a configuration may cost, and the task it is chosen for; None: no limit, or the run's own choice."""

    max_ppl_loss: float | None = None
    max_vram_gb: float | None = None
    context: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """One choice for each model and device, the runner-up, and why the others are out."""

    sentences: tuple[Sentence, ...]
    has_choice: bool


def advice(rows: Sequence[CellRow], limits: Limits, language: str) -> Advice:
    """Judge every configuration measured with a KV cache at the asked (or longest) context and (smallest) batch."""
    found = _at_smallest_batch(fronts([row for row in rows if _is_asked(row, limits)]))
    if not found:
        return Advice((_nothing(rows, limits, language),), has_choice=False)
    parts = [_of_front(front, limits, language, several=len(found) > 1) for front in found]
    sentences = tuple(sentence for part in parts for sentence in part.sentences)
    return Advice(sentences, all(part.has_choice for part in parts))


def _nothing(rows: Sequence[CellRow], limits: Limits, language: str) -> Sentence:
    """Why there is nothing to judge; where only the asked length or batch is missing, which there are."""
    known = [row for front in fronts(rows) for row in front.rows]
    if not known:
        return Sentence(say(language, "spot_nothing"))
    shown = [row for row in rows if row.kind == "speed" and row.is_ok]
    contexts = ", ".join(number(size) for size in sorted({row.context_tokens or 0 for row in shown}))
    batches = ", ".join(number(size) for size in sorted({row.batch_size or 0 for row in shown}))
    return Sentence(say(language, "advise_not_measured", contexts=contexts, batches=batches))


def _is_asked(row: CellRow, limits: Limits) -> bool:
    return limits.context in (None, row.context_tokens) and limits.batch in (None, row.batch_size)


def _at_smallest_batch(found: Sequence[Front]) -> list[Front]:
    """One front a model and device."""
    smallest: dict[tuple[object, ...], Front] = {}
    for front in sorted(found, key=lambda front: front.rows[0].batch_size or 0):
        row = front.rows[0]
        smallest.setdefault((row.model_id, row.device, row.device_name), front)
    return list(smallest.values())


def _of_front(front: Front, limits: Limits, language: str, several: bool) -> Advice:
    judged = {row.key: objections(row, limits, language) for row in front.rows}
    fit = sorted((row for row in front.rows if not judged[row.key]), key=speed_of, reverse=True)
    first = front.rows[0]
    where = f"{first.model}, {first.device_name or first.device}: " if several else ""
    shared: dict[str, object] = {"where": where, "context": number(front.context), "batch": first.batch_size}
    lead = _choice(fit, front, language, shared) if fit else _none(front, language, shared)
    after = [_next(fit[1], front, language)] if len(fit) > 1 else []
    out = [_out(row, front, judged[row.key], language) for row in front.rows if judged[row.key]]
    return Advice((lead, *after, *out), bool(fit))


def objections(row: CellRow, limits: Limits, language: str) -> tuple[str, ...]:
    """Each limit that the row breaks, in words."""
    found = []
    if limits.max_vram_gb is not None and memory_of(row) / 1e9 > limits.max_vram_gb:
        found.append(say(language, "advise_memory", memory=gigabytes(row), limit=number(limits.max_vram_gb)))
    loss = _loss(row)
    if limits.max_ppl_loss is not None and row.has_true_weights:
        if loss is None:
            found.append(say(language, "advise_unknown"))
        elif loss > limits.max_ppl_loss:
            limit = number(limits.max_ppl_loss)
            found.append(say(language, "advise_loss", percent=f"{loss:.2f}", limit=limit))
    return tuple(found)


def _loss(row: CellRow) -> float | None:
    """Percent of perplexity against the baseline, which itself loses nothing."""
    return 0.0 if row.quantization == row.baseline_quantization else row.quality.perplexity_delta_percent


def _choice(fit: Sequence[CellRow], front: Front, language: str, shared: dict[str, object]) -> Sentence:
    row = fit[0]
    counts = {"fit": len(fit), "count": len(front.rows)}
    text = begin(say(language, "advise_choice", **_figures(row, front, language), **shared, **counts))
    if not is_trusted(row):
        reasons = row.trust.distrust
        text += say(language, "lead_suspect", reasons=reasons)
    return Sentence(text, (row.key,), is_lead=True)


def _none(front: Front, language: str, shared: dict[str, object]) -> Sentence:
    text = begin(say(language, "advise_none", **shared))
    return Sentence(text, tuple(row.key for row in front.rows), is_lead=True)


def _next(row: CellRow, front: Front, language: str) -> Sentence:
    return Sentence(say(language, "advise_next", **_figures(row, front, language)), (row.key,))


def _out(row: CellRow, front: Front, reasons: Sequence[str], language: str) -> Sentence:
    return Sentence(say(language, "advise_out", name=label(row, front), reasons=", ".join(reasons)), (row.key,))


def _figures(row: CellRow, front: Front, language: str) -> dict[str, object]:
    return {
        "name": label(row, front),
        "speed": number(speed_of(row)),
        "memory": gigabytes(row),
        "quality": quality_words(row, language),
    }
