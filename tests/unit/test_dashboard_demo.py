"""The demo's scenes: every number is a row's, and where there is no row the scene says so; what ffmpeg is told."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import FarmError
from farm.present.dashboard.cast import cast_of
from farm.present.dashboard.demo import one_subject
from farm.present.dashboard.live import Now, Stream
from farm.present.dashboard.recording import Frame, captions_of, frame_list
from farm.present.dashboard.scenes import LONGEST_S, Scene, film_of
from farm.present.words import number
from farm.records import Record
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build
from tests.unit import rich_records as rich

LANGUAGES = ("en", "es")


def rows_of(records: list[Record]) -> list[CellRow]:
    return cell_rows(records)


def film(records: list[Record], language: str = "en", now: Now | None = None) -> tuple[Scene, ...]:
    return film_of(rows_of(records), now or Now(), "mission", language)


def told(scenes: tuple[Scene, ...]) -> str:
    return " ".join(sentence for scene in scenes for sentence in scene.sentences)


def test_the_cast_is_one_task_at_the_longest_prompt() -> None:
    cast = cast_of(rows_of(build.sweep()))
    assert cast.off is not None
    assert cast.on is not None
    assert cast.four_bit is not None
    found = [(row.quantization, row.cache_mode, row.context_tokens) for row in (cast.off, cast.on, cast.four_bit)]
    assert found == [("fp16", "off", 2048), ("fp16", "on", 2048), ("nf4", "on", 2048)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_five_scenes_tell_the_rows_figures(language: str) -> None:
    rows = rows_of(build.sweep())
    cast, scenes = cast_of(rows), film(build.sweep(), language)
    assert [scene.name for scene in scenes] == ["intro", "off", "both", "memory", "end"]
    by_key = {row.key: row for row in rows}
    for scene in scenes[1:3]:
        row = by_key[scene.numbers[0].key]
        assert row.decode_tok_s is not None
        assert scene.numbers[0].value == number(row.decode_tok_s.median)
        assert scene.numbers[0].value in scene.sentences[0]
    assert cast.off is not None
    assert cast.four_bit is not None
    assert cast.off.decode_tok_s is not None
    assert cast.four_bit.decode_tok_s is not None
    assert f"{number(cast.four_bit.decode_tok_s.median / cast.off.decode_tok_s.median)}×" in scenes[2].sentences[0]
    assert "+6.1" in scenes[3].sentences[1]  # exp(1.8720 - 1.8130) is 1.0608


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_without_rows_says_so_and_has_no_number(language: str) -> None:
    scenes = film([], language)
    assert not [one for scene in scenes for one in scene.numbers]
    assert not re.search(r"\d", " ".join(told(scenes[1:4]).split()).replace("4", ""))
    assert len(scenes) == 5


def test_what_was_not_measured_is_said() -> None:
    cached = [record for record in build.sweep() if getattr(record.cell.task, "cache_mode", "on") == "on"]
    assert "nothing without the KV cache" in told(film(cached))
    plain = [record for record in build.sweep() if record.cell.load.quantization == "fp16"]
    assert "no 4-bit precision with the KV cache" in told(film(plain))
    unscored = [record for record in build.sweep() if record.quality is None]
    assert "no perplexity of both" in told(film(unscored))


def test_a_suspect_row_is_not_quoted_without_a_warning() -> None:
    shaky = [rich.noisy(record) if record.speed is not None else record for record in build.sweep()]
    assert "not valid by its own verdict" in film(shaky)[-1].sentences[-1]
    assert "not valid by its own verdict" not in film(build.sweep())[-1].sentences[-1]


def test_it_never_takes_three_minutes() -> None:
    row = cast_of(rows_of(build.sweep())).off
    assert row is not None
    endless = Stream(((1.0, "x"), (900.0, "y")), (1.0, 899.0), 1, None, None)
    scenes = film(build.sweep(), "es", Now(streams=((row.key + "0" * 52, endless),)))
    assert scenes[1].shot is not None
    assert sum(scene.seconds for scene in scenes) <= LONGEST_S
    long = [replace(scene, sentences=("word " * 400,)) for scene in scenes]
    assert sum(scene.seconds for scene in long) <= LONGEST_S


def test_only_a_run_that_was_shown_has_its_text_to_play() -> None:
    assert [scene.shot for scene in film(build.sweep())] == [None] * 5


def test_a_frame_stands_until_the_next() -> None:
    frames = [Frame(Path("a.jpg"), 10.0), Frame(Path("b.jpg"), 10.5), Frame(Path("c.jpg"), 12.0)]
    text = frame_list(frames)
    assert re.findall(r"file '(.)\.jpg'", text) == ["a", "b", "c", "c"]
    assert [float(found) for found in re.findall(r"duration ([\d.]+)", text)] == [0.5, 1.5, 1.0]
    with pytest.raises(FarmError, match="the browser drew nothing"):
        frame_list([])


def test_captions_follow_each_other_through_all_scenes() -> None:
    scenes = film(build.sweep())
    text = captions_of(scenes, pace=2.0)
    moments = [_seconds(found) for found in re.findall(r"(\d\d:\d\d:\d\d,\d{3})", text)]
    assert moments == sorted(moments)
    assert moments[-1] == pytest.approx(sum(scene.seconds for scene in scenes) / 2, abs=0.01)
    assert text.count(" --> ") == sum(len(scene.sentences) for scene in scenes)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def test_a_figure_of_the_film_is_about_one_model_engine_and_batch_and_every_perplexity() -> None:
    other = build.sweep(build.MISTRAL)
    rows = rows_of(rich.rich_sweep() + other)
    kept = one_subject([*rows, *(replace(row, batch_size=16, key=f"{row.key}-16") for row in rows)])
    speed = [row for row in kept if row.kind == "speed"]
    assert {(row.subject, row.batch_size) for row in speed} == {(rows[0].subject, 1)}
    assert {row.model for row in kept if row.kind == "quality"} == {row.model for row in rows}
    assert one_subject([]) == []
