"""The perplexity protocol, by hand: which tokens are scored, and of which bytes and words."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from farm.cells import QualityTask, TextRef
from farm.errors import ModelUnavailable, Unsupported
from farm.expand import demo_text
from farm.records import Effective
from jobs.engines.base import Engine
from jobs.prompts import ByteTokenizer
from jobs.quality import QualityError, cut_windows, load_text, measure_quality, scored_span


class CountingEngine:
    """Scores every token with the id of the token itself, and notes what it was fed."""

    def __init__(self, max_positions: int = 1000, add_bos: bool = False) -> None:
        self.tokenizer = ByteTokenizer(offset=1, bos_token_id=0) if add_bos else ByteTokenizer()
        self.max_positions = max_positions
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


def test_windows_do_not_overlap_and_the_tail_is_dropped() -> None:
    assert cut_windows(range(7), 3) == ((0, 1, 2), (3, 4, 5))
    assert cut_windows(range(6), 3) == ((0, 1, 2), (3, 4, 5))
    assert cut_windows(range(5), 3) == ((0, 1, 2),)


def test_a_text_shorter_than_one_window_is_one_window() -> None:
    assert cut_windows(range(2), 3) == ((0, 1),)
    assert cut_windows([], 3) == ((),)


def test_max_tokens_bounds_the_text_before_it_is_cut() -> None:
    assert cut_windows(range(100), 3, max_tokens=7) == ((0, 1, 2), (3, 4, 5))
    assert cut_windows(range(100), 30, max_tokens=7) == (tuple(range(7)),)
    assert cut_windows(range(7), 3, max_tokens=100) == ((0, 1, 2), (3, 4, 5))


def test_the_span_is_the_scored_part() -> None:
    ids = [ord(letter) for letter in "ab cd ef"]
    span = scored_span(cut_windows(ids, 4), engine())
    # windows "ab c" and "d ef"; scored "b c" and " ef"
    assert (span.tokens, span.words, span.utf8_bytes) == (6, 3, 6)


def test_bytes_are_utf8_and_not_characters() -> None:
    ids = list("aéé".encode())
    assert scored_span(cut_windows(ids, 5), engine()).utf8_bytes == 4


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
    with pytest.raises(Unsupported, match="3 positions"):
        measure_quality(engine(max_positions=3), task(text_file(tmp_path, "abcd"), 4))


def test_one_token_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match="only 1 tokens"):
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
