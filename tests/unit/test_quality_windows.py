"""The perplexity protocols, by hand: which tokens are scored, and of which bytes and words."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cells import QualityTask, TextRef
from farm.errors import ModelUnavailable, Unsupported
from farm.expand import demo_text
from farm.records import Effective
from jobs.corpus import QualityError, Text, joined_lines, load_text, original_file, rows_of
from jobs.engines.base import Engine
from jobs.prompts import ByteTokenizer
from jobs.protocols import sample_of
from jobs.quality import measure_quality
from jobs.windows import Window, batches, cut_windows, first_scored, rolling_windows


class CountingEngine:
    """Scores every token with the id of the token itself, and notes what it was fed."""

    def __init__(self, max_positions: int = 1000, add_bos: bool = False) -> None:
        self.tokenizer = ByteTokenizer(offset=1, bos_token_id=0) if add_bos else ByteTokenizer()
        self.max_positions = max_positions
        self.reference = None
        self.batches: list[list[tuple[int, ...]]] = []

    def token_nll(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        self.batches.append([tuple(row) for row in token_ids])
        return [[float(token) for token in row[1:]] for row in token_ids]

    def effective(self, cache_mode: str | None) -> Effective:
        assert cache_mode is None
        return Effective({"Linear": 1}, {"float32": 1})


def engine(**options: Any) -> Any:
    return cast(Engine, CountingEngine(**options))


def text_file(folder: Path, content: str) -> TextRef:
    path = folder / "text.txt"
    path.write_bytes(content.encode())
    return TextRef(path.name, hashlib.sha256(content.encode()).hexdigest(), str(path))


def task(ref: TextRef, window: int, max_tokens: int | None = None) -> QualityTask:
    return QualityTask("gptq", ref, window, max_tokens)


def tokens_of(windows: Sequence[Window]) -> list[tuple[int, ...]]:
    return [window.tokens for window in windows]


def test_windows_do_not_overlap_and_the_tail_is_dropped() -> None:
    assert tokens_of(cut_windows(range(7), 3)) == [(0, 1, 2), (3, 4, 5)]
    assert tokens_of(cut_windows(range(6), 3)) == [(0, 1, 2), (3, 4, 5)]
    assert cut_windows(range(5), 3) == (Window((0, 1, 2), 2),)


def test_a_text_shorter_than_one_window_is_one_window() -> None:
    assert cut_windows(range(2), 3) == (Window((0, 1), 1),)
    assert cut_windows([], 3) == (Window((), 0),)


def test_max_tokens_bounds_the_text_before_it_is_cut() -> None:
    assert tokens_of(cut_windows(range(100), 3, max_tokens=7)) == [(0, 1, 2), (3, 4, 5)]
    assert tokens_of(cut_windows(range(100), 30, max_tokens=7)) == [tuple(range(7))]
    assert tokens_of(cut_windows(range(7), 3, max_tokens=100)) == [(0, 1, 2), (3, 4, 5)]


def test_a_page_shorter_than_or_as_long_as_the_maximum_is_one_window() -> None:
    assert rolling_windows([1, 2], prefix=9, max_length=3) == (Window((9, 1, 2), 2),)
    assert rolling_windows([1, 2, 3], prefix=9, max_length=3) == (Window((9, 1, 2, 3), 3),)
    assert rolling_windows([], prefix=9, max_length=3) == ()


def test_a_longer_page_rolls_and_its_last_window_reaches_back() -> None:
    two_whole = rolling_windows(range(1, 7), prefix=9, max_length=3)
    assert two_whole == (Window((9, 1, 2, 3), 3), Window((3, 4, 5, 6), 3))
    assert rolling_windows(range(1, 8), prefix=9, max_length=3) == (*two_whole, Window((4, 5, 6, 7), 1))


@given(length=st.integers(0, 40), maximum=st.integers(1, 12))
def test_rolling_windows_score_every_token_once_and_feed_no_more_than_the_maximum(length: int, maximum: int) -> None:
    windows = rolling_windows(range(length), prefix=-1, max_length=maximum)
    scored = [token for window in windows for token in window.tokens[-window.scored :]]
    assert scored == list(range(length))
    assert all(len(window.tokens) - 1 <= maximum for window in windows)


def test_batches_hold_windows_of_one_length() -> None:
    windows = [Window(tuple(range(length)), 1) for length in (3, 5, 3, 3, 5)]
    assert [[len(w.tokens) for w in batch] for batch in batches(windows, 2)] == [[5, 5], [3, 3], [3]]


def test_the_first_scored_tokens_cut_the_last_window() -> None:
    windows = cut_windows(range(9), 3)
    assert list(first_scored(windows, 3)) == [Window((0, 1, 2), 2), Window((3, 4), 1)]
    assert list(first_scored(windows, 4)) == list(windows[:2])
    assert list(first_scored(windows, 99)) == list(windows)


def test_the_sample_counts_the_scored_part() -> None:
    sample = sample_of(ByteTokenizer(), task(TextRef("t", None), 4), Text("t", "ab cd ef", ""))
    # windows "ab c" and "d ef"; scored "b c" and " ef"
    assert (sample.tokens, sample.words, sample.utf8_bytes) == (6, 3, 6)


def test_bytes_are_utf8_and_not_characters() -> None:
    sample = sample_of(ByteTokenizer(), task(TextRef("t", None), 5), Text("t", "aéé", ""))
    assert sample.utf8_bytes == 4


def test_the_result_by_hand(tmp_path: Path) -> None:
    ref = text_file(tmp_path, "ab cd ef gh")  # 11 bytes: windows "ab c" and "d ef", tail " gh" dropped
    model = engine()
    result = measure_quality(model, task(ref, 4))
    assert model.batches == [[tuple(b"ab c")], [tuple(b"d ef")]]
    assert result.nll_sum == sum(b"b c") + sum(b" ef")
    assert (result.protocol, result.text, result.text_sha256) == ("gptq-4", "text.txt", ref.sha256)
    assert (result.tokens_scored, result.words, result.utf8_bytes) == (6, 3, 6)
    assert result.effective.linear_classes == {"Linear": 1}


def test_windows_are_batched_without_changing_the_sum(tmp_path: Path) -> None:
    ref = text_file(tmp_path, "the quick brown fox jumps")
    one, many = engine(), engine()
    alone = measure_quality(one, task(ref, 5), max_batch=1)
    together = measure_quality(many, task(ref, 5), max_batch=2)
    assert [len(batch) for batch in one.batches] == [1, 1, 1, 1, 1]
    assert [len(batch) for batch in many.batches] == [2, 2, 1]
    assert together == alone


def test_no_special_token_is_put_in_front(tmp_path: Path) -> None:
    model = engine(add_bos=True)
    measure_quality(model, task(text_file(tmp_path, "abcd"), 4))
    assert model.batches[0][0][0] == ord("a") + 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_sum_that_is_not_finite_is_never_a_result(tmp_path: Path, bad: float) -> None:
    model = engine()
    model.token_nll = lambda token_ids: [[1.0, bad, 1.0] for _ in token_ids]
    with pytest.raises(QualityError, match="not finite"):
        measure_quality(model, task(text_file(tmp_path, "abcd"), 4))


def test_an_engine_that_scores_another_number_of_tokens_is_refused(tmp_path: Path) -> None:
    model = engine()
    model.token_nll = lambda token_ids: [[1.0] for _ in token_ids]
    with pytest.raises(QualityError, match="1 tokens of 3"):
        measure_quality(model, task(text_file(tmp_path, "abcd"), 4))


def test_a_window_longer_than_the_positions_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="windows of 3 tokens exceed the model's 2 positions"):
        measure_quality(engine(max_positions=2), task(text_file(tmp_path, "abcd"), 4))


def test_one_token_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match="no token to score"):
        measure_quality(engine(), task(text_file(tmp_path, "a"), 4))


def test_a_text_that_changed_is_refused(tmp_path: Path) -> None:
    ref = text_file(tmp_path, "as it was")
    Path(str(ref.path)).write_text("as it is")
    with pytest.raises(QualityError, match="changed"):
        load_text(ref)


def test_a_text_that_is_not_here_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_text(TextRef("gone.txt", None, str(tmp_path / "gone.txt")))


def test_the_demo_text_is_the_shipped_one() -> None:
    sha256 = hashlib.sha256(demo_text().encode()).hexdigest()
    text = load_text(TextRef("demo", sha256))
    assert (text.content, text.sha256) == (demo_text(), sha256)


def test_wikitext_without_the_hub_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ModelUnavailable, match="local file"):
        load_text(TextRef("wikitext-2", None))


def test_an_unknown_text_lists_the_valid_ones() -> None:
    with pytest.raises(QualityError, match="wikitext-2"):
        load_text(TextRef("wikitext", None))


PAGES = " \n = Alpha = \n \n It cost 3 @,@ 000 .\n = = Part = = \n more\n = Beta = \n end"


def lm_eval(window: int, max_tokens: int | None = None) -> QualityTask:
    return QualityTask("lm-eval", TextRef("t", None), window, max_tokens)


def test_lm_eval_scores_every_token_of_each_page_after_the_prefix() -> None:
    tokenizer = ByteTokenizer(offset=1, bos_token_id=0)
    sample = sample_of(tokenizer, lm_eval(1000), Text("t", PAGES, ""))
    first, second = sample.windows
    # The tokenizer adds BOS by itself, the protocol puts it in front of that: so does the harness.
    assert first.tokens[:2] == second.tokens[:2] == (0, 0)
    assert tokenizer.decode(first.tokens) == " = Alpha =\n\nIt cost 3,000 .\n== Part ==\nmore"
    assert tokenizer.decode(second.tokens) == " = Beta =\nend"
    assert sample.tokens == len(first.tokens) + len(second.tokens) - 2


def test_lm_eval_counts_words_and_bytes_of_the_page_as_published() -> None:
    tokenizer = ByteTokenizer(offset=1, bos_token_id=0)
    sample = sample_of(tokenizer, lm_eval(1000), Text("t", " = Título = \n a , b\n", ""))
    # "", "=", "Título", "=", "a", ",", "b", ""
    assert (sample.words, sample.utf8_bytes) == (8, 21)


def test_lm_eval_keeps_whole_pages_within_max_tokens() -> None:
    tokenizer = ByteTokenizer(offset=1, bos_token_id=0)
    text = Text("t", PAGES, "")
    all_pages = sample_of(tokenizer, lm_eval(1000), text)
    assert sample_of(tokenizer, lm_eval(1000, all_pages.tokens), text) == all_pages
    assert sample_of(tokenizer, lm_eval(1000, all_pages.tokens - 1), text).windows == all_pages.windows[:1]


def test_lm_eval_cuts_a_first_page_that_is_longer_alone() -> None:
    sample = sample_of(ByteTokenizer(offset=1, bos_token_id=0), lm_eval(1000, 20), Text("t", "word " * 100, ""))
    assert 10 < sample.tokens <= 20
    assert sample.utf8_bytes == sample.tokens - 1  # BOS is no byte


def test_lm_eval_needs_a_token_to_put_in_front() -> None:
    with pytest.raises(Unsupported, match="neither"):
        sample_of(ByteTokenizer(), lm_eval(8), Text("t", PAGES, ""))


def test_the_two_protocols_join_wikitext_differently() -> None:
    rows = ["", " = A = \n", "", " text\n"]
    assert joined_lines(rows) == "\n\n = A = \n\n\n\n\n text\n"
    assert original_file(rows) == " \n = A = \n \n text\n"


VALID = " \n = One = \n \n A page , with <unk> . \n \n = = Part = = \n \n"


@pytest.mark.parametrize("text", [VALID, "", " \n", "no end", "a\n \n b \n"])
def test_the_published_file_and_the_rows_of_the_data_set_are_one_text(text: str) -> None:
    rows = rows_of(text)
    assert original_file(rows) == text
    assert all(row == "" or row.strip() for row in rows)


def test_a_named_text_is_read_from_the_folder_for_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wikitext-2.txt").write_text(VALID)
    monkeypatch.setenv("TURBO_TEXT_DIR", str(tmp_path))
    assert load_text(TextRef("wikitext-2", None), "lm-eval").content == VALID
    joined = load_text(TextRef("wikitext-2", None), "gptq").content
    assert joined == "\n\n".join(["", " = One = \n", "", " A page , with <unk> . \n", "", " = = Part = = \n", ""])


def test_a_local_copy_of_another_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wikitext-2-valid.txt").write_text(VALID)
    monkeypatch.setenv("TURBO_TEXT_DIR", str(tmp_path))
    with pytest.raises(QualityError, match=r"wikitext-2-valid as published: sha256 .*, expected f0737"):
        load_text(TextRef("wikitext-2-valid", None))
