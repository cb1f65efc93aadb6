"""The demo's five scenes: what is said and shown in each, every number read off a row of the run. Pure.

Why no script with numbers: a film outlives the run it was true of. Where a run lacks a figure, its scene says so.

    film = film_of(rows, now, sweep="demo", language="en")
    [scene.title for scene in film]; sum(scene.seconds for scene in film) <= LONGEST_S
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from farm.formulas import ratio
from farm.present.answers import memory_bytes, speed_of
from farm.present.dashboard.cast import Cast, cast_of
from farm.present.dashboard.live import Now, Stream
from farm.present.dashboard.parts import gigabytes, milliseconds
from farm.present.figures.panels import devices, in_catalog_order
from farm.present.sentences import answer_questions
from farm.present.theme import short_title_of
from farm.present.words import number, say
from farm.rows import CellRow

LONGEST_S = 170.0  # three minutes, less what a film needs to begin and to end
WORDS_A_SECOND = 2.2  # read aloud, calmly
SHORTEST_S = 10.0


@dataclass(frozen=True, slots=True)
class Number:
    """One figure, large: what it is and the row that it is from."""

    label: str
    value: str
    quantization: str
    key: str


@dataclass(frozen=True, slots=True)
class Shot:
    """A generation that is played at its true speed."""

    caption: str
    stream: Stream


@dataclass(frozen=True, slots=True)
class Scene:
    """`figures`: names of the report's figures."""

    name: str
    title: str
    sentences: tuple[str, ...]
    numbers: tuple[Number, ...] = ()
    figures: tuple[str, ...] = ()
    shot: Shot | None = None
    seconds: float = SHORTEST_S


def film_of(rows: Sequence[CellRow], now: Now, sweep: str, language: str) -> tuple[Scene, ...]:
    """Introduction, without cache, with cache and 4 bits, memory and quality, conclusions."""
    cast = cast_of(rows)
    scenes = (
        _intro(rows, sweep, language),
        _without(rows, cast, now, language),
        _with_both(cast, now, language),
        _memory_and_quality(cast, language),
        _conclusions(rows, cast, language),
    )
    return _timed(scenes)


def _intro(rows: Sequence[CellRow], sweep: str, language: str) -> Scene:
    models = ", ".join(dict.fromkeys(row.model for row in rows)) or "–"
    precisions = ", ".join(short_title_of(name) for name in in_catalog_order(row.quantization for row in rows))
    contexts = sorted({row.context_tokens for row in rows if row.context_tokens})
    span = "–".join(dict.fromkeys(number(context) for context in (*contexts[:1], *contexts[-1:])))
    ok, cells = number(sum(row.is_ok for row in rows)), number(len(rows))
    sentences = (
        say(language, "demo_intro_text", models=models, devices=devices(rows), ok=ok, cells=cells),
        say(language, "demo_intro_axes", precisions=precisions, contexts=span),
        say(language, "demo_source", sweep=sweep),
    )
    return Scene("intro", say(language, "demo_intro_title"), sentences, figures=("sweep_gantt",))


def _without(rows: Sequence[CellRow], cast: Cast, now: Now, language: str) -> Scene:
    title, row = say(language, "demo_off_title"), cast.off
    if row is None:
        return Scene("off", title, (say(language, "demo_off_nothing"),))
    precision, context = short_title_of(row.quantization), number(row.context_tokens or 0)
    told = say(language, "demo_off_text", precision=precision, context=context, speed=number(speed_of(row)))
    shot = _shot(row, now, say(language, "demo_stream_off"))
    return Scene(
        "off", title, (told, *_growth(rows, row, language)), _numbers(row, language), ("latency_vs_context",), shot
    )


def _growth(rows: Sequence[CellRow], row: CellRow, language: str) -> list[str]:
    """How the same configuration slows down, where shorter prompts were measured and it does."""
    same = [
        other
        for other in rows
        if other.is_ok
        and other.decode_tok_s
        and (*other.subject, other.quantization, other.cache_mode, other.batch_size)
        == (*row.subject, row.quantization, row.cache_mode, row.batch_size)
    ]
    first = min(same, key=lambda other: other.context_tokens or 0)
    if speed_of(first) <= speed_of(row):
        return []
    ends = {"from_context": number(first.context_tokens or 0), "to_context": number(row.context_tokens or 0)}
    return [say(language, "demo_off_grows", first=number(speed_of(first)), last=number(speed_of(row)), **ends)]


def _with_both(cast: Cast, now: Now, language: str) -> Scene:
    title, row, base = say(language, "demo_both_title"), cast.four_bit, cast.off
    if row is None or base is None:
        return Scene("both", title, (say(language, "demo_both_nothing"),))
    baseline = short_title_of(base.quantization)
    told = [
        say(
            language,
            "demo_both_text",
            precision=short_title_of(row.quantization),
            speed=number(speed_of(row)),
            gain=_times(row, base),
            baseline=baseline,
        )
    ]
    if cast.on is not None:
        alone = {"gain": _times(cast.on, base), "speed": number(speed_of(cast.on)), "baseline": baseline}
        told.append(say(language, "demo_both_cache", **alone))
    shot = _shot(row, now, say(language, "demo_stream_on"))
    return Scene("both", title, tuple(told), _numbers(row, language), ("tokens_s_vs_length",), shot)


def _times(row: CellRow, base: CellRow) -> str:
    found = ratio(speed_of(row), speed_of(base))
    return "–" if found is None else number(found)


def _memory_and_quality(cast: Cast, language: str) -> Scene:
    title, row, base = say(language, "demo_memory_title"), cast.four_bit, cast.on or cast.off
    figures = ("memory_footprint", "ppl_degradation")
    if row is None or base is None:
        told = (say(language, "demo_memory_nothing"), say(language, "demo_ppl_nothing"))
        return Scene("memory", title, told, figures=figures)
    names = {"precision": short_title_of(row.quantization), "baseline": short_title_of(base.quantization)}
    (own, measure), (other, _) = memory_bytes(row), memory_bytes(base)
    memory = say(language, "demo_memory_nothing")
    if own is not None and other is not None:
        sizes = {"own": gigabytes(own), "base": gigabytes(other), "measure": say(language, measure)}
        memory = say(language, "demo_memory_text", **names, **sizes)
    numbers = [*_size(base, other, language), *_size(row, own, language), *_ppl(base, language), *_ppl(row, language)]
    return Scene("memory", title, (memory, _quality(row, base, language)), tuple(numbers), figures)


def _quality(row: CellRow, base: CellRow, language: str) -> str:
    own, other = row.quality.perplexity, base.quality.perplexity
    if own is None or other is None or row.quality.perplexity_text != base.quality.perplexity_text:
        return say(language, "demo_ppl_nothing")
    percent = f"{100 * (own / other - 1):+.1f}"
    return say(language, "demo_ppl_text", own=number(own), base=number(other), percent=percent)


def _size(row: CellRow, size: float | None, language: str) -> list[Number]:
    if size is None:
        return []
    return [Number(say(language, "demo_number_memory"), gigabytes(size), row.quantization, row.key)]


def _ppl(row: CellRow, language: str) -> list[Number]:
    value = row.quality.perplexity
    return [] if value is None else [Number(say(language, "demo_number_ppl"), number(value), row.quantization, row.key)]


def _numbers(row: CellRow, language: str) -> tuple[Number, ...]:
    speed = Number(say(language, "demo_number_speed"), number(speed_of(row)), row.quantization, row.key)
    if row.ttft_s is None:
        return (speed,)
    waited = milliseconds(row.ttft_s.median)
    return speed, Number(say(language, "demo_number_ttft"), waited, row.quantization, row.key)


def _shot(row: CellRow, now: Now, caption: str) -> Shot | None:
    """Only a run that was watched (`farm run --show`) has one."""
    stream = next((stream for key, stream in now.streams if key.startswith(row.key)), None)
    return None if stream is None else Shot(caption, stream)


def _conclusions(rows: Sequence[CellRow], cast: Cast, language: str) -> Scene:
    told = [answer.lead.text for answer in answer_questions(rows, language)]
    if cast.is_suspect:
        told.append(say(language, "demo_suspect"))
    return Scene("end", say(language, "demo_end_title"), tuple(told), figures=("decode_ladder",))


def _timed(scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    """As long as its words take, or its generation; all of it within three minutes."""
    wanted = [max(SHORTEST_S, _words(scene) / WORDS_A_SECOND, _played(scene)) for scene in scenes]
    shrink = min(1.0, LONGEST_S / sum(wanted))
    return tuple(replace(scene, seconds=seconds * shrink) for scene, seconds in zip(scenes, wanted, strict=True))


def _words(scene: Scene) -> int:
    return len(scene.title.split()) + sum(len(sentence.split()) for sentence in scene.sentences)


def _played(scene: Scene) -> float:
    return min(40.0, scene.shot.stream.elapsed_s + 2.0) if scene.shot else 0.0
