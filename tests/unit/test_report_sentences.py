"""The report's sentences and caveats: every number in them is a row's, in both languages."""

import string
from dataclasses import replace

import pytest

from farm.present.answers import memory_bytes
from farm.present.caveats import caveats
from farm.present.sentences import Answer, answer_questions
from farm.present.sentences_four_bit import is_four_bit, verdict_of
from farm.present.words import number, say
from farm.present.words.en import TEXTS as ENGLISH
from farm.present.words.es import TEXTS as SPANISH
from farm.records import Status
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build
from tests.unit import rich_records as rich

RUN = build.with_failures(build.sweep())
ROWS = cell_rows(RUN)
RICH = rich.rich_sweep()


def find(quantization: str, context: int, cache: str = "on", rows: list[CellRow] = ROWS) -> CellRow:
    return rich.find(rows, quantization, context, cache)


def answer(name: str, rows: list[CellRow] = ROWS, language: str = "en") -> Answer:
    return next(one for one in answer_questions(rows, language) if one.name == name)


def text(one: Answer) -> str:
    return " ".join(sentence.text for sentence in one.sentences)


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_cache_answer_is_the_rows_figures(language: str) -> None:
    on, off = find("fp16", 2048), find("fp16", 2048, "off")
    assert on.decode_tok_s and off.decode_tok_s and on.cache_speedup
    got = answer("cache", language=language)
    for value in (on.cache_speedup, on.decode_tok_s.median, off.decode_tok_s.median):
        assert number(value) in got.lead.text
    assert got.lead.keys == (on.key, off.key)
    first = find("fp16", 128).cache_speedup
    assert first and number(first) in got.sentences[1].text


def test_the_cache_answer_counts_what_failed_without_it() -> None:
    assert "3 of 20 cells gave no figure (1 oom, 2 timeout)" in text(answer("cache"))


def test_a_cache_that_costs_speed_is_called_so() -> None:
    rows = [row for row in ROWS if row.quantization == "int8" and row.context_tokens == 128]
    got = text(answer("cache", rows))
    assert "costs speed" in got and "It pays at no length measured." in got


def test_a_gain_within_overlapping_intervals_is_not_called_one() -> None:
    wide = [_widened(row) for row in ROWS]
    got = text(answer("cache", wide))
    assert "was not shown to change the speed" in got and "intervals that overlap" in got
    assert "It pays" not in got and "The gain" not in got
    assert "as fast" in text(answer("cache"))


def _widened(row: CellRow) -> CellRow:
    """Of so unsteady a machine that every interval meets every other one."""
    speed = row.decode_tok_s and replace(row.decode_tok_s, ci_low=0.1, ci_high=1000.0)
    return replace(row, decode_tok_s=speed)


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_four_bit_answer_is_the_rows_figures(language: str) -> None:
    own, base = find("nf4", 2048), find("fp16", 2048)
    figures = answer("four_bit", language=language).sentences[1].text
    assert own.speedup_vs_baseline and own.quality.perplexity_delta_percent and own.decode_tok_s
    own_bytes, base_bytes = memory_bytes(own)[0], memory_bytes(base)[0]
    assert own_bytes and base_bytes
    for shown in (
        f"{own.speedup_vs_baseline:.2f}×",
        number(own.decode_tok_s.median),
        f"{own_bytes / base_bytes:.2f}×",
        f"{own.quality.perplexity_delta_percent:+.2f} %",
        f"{own.quality.perplexity:.3f}",
    ):
        assert shown in figures


@pytest.mark.parametrize(
    ("speed", "memory", "percent", "verdict"),
    [
        (1.5, 0.4, 1.0, "yes"),
        (0.7, 0.4, 1.0, "memory"),
        (3.0, 0.4, 5.01, "quality"),
        (3.0, 1.1, 0.0, "no"),
        (1.5, 0.4, None, "open_yes"),
        (0.7, 0.4, None, "open_memory"),
        (3.0, None, 0.0, "no"),
    ],
)
def test_the_verdict_on_four_bit_follows_the_rule(
    speed: float, memory: float | None, percent: float | None, verdict: str
) -> None:
    assert verdict_of(speed, memory, percent) == verdict
    name = f"four_{verdict}" if not verdict.startswith("open") else "four_open"
    assert name in ENGLISH


def test_random_weights_leave_quality_open_and_are_named() -> None:
    rows = cell_rows(build.sweep(build.RANDOM))
    assert "quality is open" in text(answer("four_bit", rows))
    assert any("random llama-3-8b: random weights" in one.text for one in caveats(rows, "en"))


def test_which_precisions_are_four_bit() -> None:
    names = ("nf4", "gptq?group_size=64", "awq", "int8wo", "int8", "fp16", "int4wo")
    assert [is_four_bit(name) for name in names] == [True, True, True, False, False, False, True]


def test_the_sweet_spot_stays_within_five_percent() -> None:
    lead = answer("sweet_spot").lead
    ratios = {
        row.quantization: row.decode_tok_s.median / row.memory.peak_allocated_bytes
        for row in ROWS
        if row.context_tokens == 2048
        and row.cache_mode == "on"
        and row.decode_tok_s
        and row.memory.peak_allocated_bytes
    }
    assert max(ratios, key=lambda name: ratios[name]) == "nf4"  # the best ratio, but 6 % worse in quality
    assert lead.text.startswith("FP16") and lead.keys == (find("fp16", 2048).key,)


def test_a_lead_that_rests_on_a_noisy_row_says_so_itself() -> None:
    noisy = [
        replace(row, trust=replace(row.trust, verdict="noisy")) if row.key == find("fp16", 2048, "off").key else row
        for row in ROWS
    ]
    warned, calm = answer("cache", noisy), answer("cache")
    assert warned.lead.text == calm.lead.text + (
        " Not valid by its own verdict (noisy): measure it again before you rely on it."
    )
    told = {"grows": " (Speeds not valid: noisy.)", "pays": " (Speeds not valid: noisy.)"}  # of the memory nothing
    for one, other in zip(warned.sentences[1:], calm.sentences[1:], strict=True):
        assert one.text == other.text + next((words for name, words in told.items() if name in other.text), "")


def test_one_configuration_alone_is_no_sweet_spot() -> None:
    alone = [row for row in ROWS if row.quantization == "fp16"]
    assert "nothing to weigh it against" in answer("sweet_spot", alone).lead.text


def test_a_run_that_cannot_say_says_so() -> None:
    for rows in ([], [row for row in ROWS if row.kind == "quality"]):
        answers = answer_questions(rows, "en")
        assert len(answers) == 3 and all("cannot say" in one.lead.text for one in answers)


def test_invalid_rows_are_no_answer() -> None:
    rows = [replace(row, status=Status.INVALID, reason="NaN logits") for row in ROWS]
    assert all("cannot say" in one.lead.text or "invalid" in one.lead.text for one in answer_questions(rows, "en"))


def test_caveats_name_noise_launches_and_demo_text() -> None:
    rows = cell_rows(RICH)
    assert "1 of 57 speed cells are not valid by their own verdict (1 noisy)" in " ".join(
        one.text for one in caveats(rows, "en")
    )
    bound = [replace(row, trust=replace(row.trust, verdict="valid (launch_bound)")) for row in ROWS]
    assert any("launch_bound" in one.text for one in caveats(bound, "en"))
    assert "which hands out the work token by token" in text(answer("four_bit", bound))
    fewer = [replace(row, trust=replace(row.trust, trials_set_aside=7 * (i < 2))) for i, row in enumerate(ROWS)]
    assert any("runs were set aside, 14 in all" in one.text for one in caveats(fewer, "en"))
    assert any("se apartaron ejecuciones, 14 en total" in one.text for one in caveats(fewer, "es"))
    demo = [replace(row, quality=replace(row.quality, perplexity_text="demo")) for row in ROWS]
    assert any("demo text (280,000 tokens)" in one.text for one in caveats(demo, "en"))
    assert "None of the usual ones" in caveats(cell_rows(build.sweep()), "en")[0].text


def test_both_languages_have_the_same_texts_with_the_same_gaps() -> None:
    def gaps(form: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(form) if name}

    assert set(ENGLISH) == set(SPANISH)
    assert {name: gaps(form) for name, form in ENGLISH.items()} == {name: gaps(form) for name, form in SPANISH.items()}
    assert len(ENGLISH["columns"].split("|")) == len(SPANISH["columns"].split("|"))
    assert say("es", "shown", shown="1", cells="2,048") == "1 de 2\u202f048 celdas"


def test_precisions_of_one_verdict_share_a_sentence_about_all_their_rows() -> None:
    rows = [row for row in cell_rows(RICH) if row.quantization in ("fp16", "nf4") and row.engine == "turbo"]
    twin = [replace(row, quantization="fp4", key=f"fp4-{row.key}"[:12]) for row in rows if row.quantization == "nf4"]
    bound = [replace(row, trust=replace(row.trust, verdict="valid (launch_bound)")) for row in [*rows, *twin]]
    sentences = answer("four_bit", bound).sentences
    assert len(sentences) == len({one.text for one in sentences})
    leads, launches = [s for s in sentences if s.is_lead], [s for s in sentences if "token by token" in s.text]
    assert (len(leads), len(launches)) == (1, 1)
    spoken = {row.key for row in bound if row.context_tokens == 2048 and row.quantization in ("nf4", "fp4")}
    assert spoken <= set(leads[0].keys) and spoken == set(launches[0].keys)
