"""The mission's three questions answered in sentences, each number read off a row.

Why generated: a conclusion typed by hand outlives the run that it was true of. Every sentence says which rows it rests
on, so a reader (and a test) can check it.

    for answer in answer_questions(cell_rows(records), "en"): print(answer.question, answer.lead.text)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from farm.present.figures.points import is_trusted
from farm.present.sentence_parts import Sentence
from farm.present.sentences_cache import cache_sentences
from farm.present.sentences_four_bit import four_bit_sentences
from farm.present.sentences_sweet_spot import sweet_spot_sentences
from farm.present.words import say
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, its answers (the first of each subject is the verdict in one line), and the figures beside them."""

    name: str
    question: str
    sentences: tuple[Sentence, ...]
    figures: tuple[str, ...]

    @property
    def lead(self) -> Sentence:
        return self.sentences[0]


def answer_questions(rows: Sequence[CellRow], language: str) -> tuple[Answer, ...]:
    """Cache, 4-bit, sweet spot: always three, also when the answer is that this run cannot say."""
    parts = (
        ("cache", cache_sentences(rows, language), ("kv_cache_gain", "latency_vs_context")),
        ("four_bit", four_bit_sentences(rows, language), ("tokens_s_vs_length", "ppl_degradation")),
        ("sweet_spot", sweet_spot_sentences(rows, language), ("pareto", "memory_footprint")),
    )
    return tuple(
        Answer(name, say(language, f"question_{name}"), tuple(_warned(one, rows, language) for one in found), figures)
        for name, found, figures in parts
    )


def _warned(sentence: Sentence, rows: Sequence[CellRow], language: str) -> Sentence:
    """A line that people will quote says itself when a row that it rests on is not valid."""
    matters = sentence.is_lead or sentence.of_speed
    suspect = [row for row in rows if matters and row.key in sentence.keys and not is_trusted(row)]
    if not suspect:
        return sentence
    named = [row.trust.distrust.split("+") for row in suspect]
    reasons = "+".join(dict.fromkeys(reason for reasons in named for reason in reasons))
    name = "lead_suspect" if sentence.is_lead else "line_suspect"
    return replace(sentence, text=sentence.text + say(language, name, reasons=reasons))
