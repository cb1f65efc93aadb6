"""Prompts are exact, different from each other, and the same on every machine; the demo text is fit to score."""

import os
import re
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import SweepError
from jobs.prompt_templates import wording
from jobs.prompts import KINDS, LANGUAGES, MIN_TOKENS, ByteTokenizer, Prompt, make_prompts, prompts_sha256

ROOT = Path(__file__).resolve().parents[2]
DEMO_TEXT = ROOT / "jobs" / "texts" / "demo_text.txt"
BYTES = ByteTokenizer()
KNOWN_SHA256 = "22568034253b79ee5a3e835606e20f75b8228d3d9655eec6c2a898956ecaa6e6"


class WordTokenizer:
    """A toy: one id a word or sign, about six characters each, with BOS and EOS as a real tokenizer adds them."""

    bos_token_id = 1

    def encode(self, text, *, add_special_tokens=True):
        ids = [2 + zlib.crc32(part.encode()) for part in re.findall(r"\w+|[^\w\s]|\n", text)]
        return [1, *ids, 0] if add_special_tokens else ids

    def decode(self, token_ids):
        return " ".join(map(str, token_ids))


class SilentBosTokenizer(WordTokenizer):
    """Owns a BOS but does not add it, like GPT-2's."""

    def encode(self, text, *, add_special_tokens=True):
        return super().encode(text, add_special_tokens=False)


class ConstantTokenizer(WordTokenizer):
    """Cannot tell one text from another."""

    def encode(self, text, *, add_special_tokens=True):
        return [5] * len(text)


class MuteTokenizer(WordTokenizer):
    """Makes one token of any text."""

    def encode(self, text, *, add_special_tokens=True):
        return [5]


TOKENIZERS = (BYTES, ByteTokenizer(offset=3, bos_token_id=1), WordTokenizer(), SilentBosTokenizer())


def build(tokenizer=BYTES, *, tokens=256, count=12, kinds=KINDS, languages=LANGUAGES, seed=7):
    return make_prompts(tokenizer, tokens=tokens, count=count, kinds=kinds, languages=languages, seed=seed)


def body_of(prompt):
    words = wording(prompt.kind, prompt.language)
    return BYTES.decode(prompt.token_ids)[7 + len(words.instruction) : -len(words.closing)]


@settings(max_examples=60, deadline=None)
@given(
    tokenizer=st.sampled_from(TOKENIZERS),
    tokens=st.integers(MIN_TOKENS, 600),
    count=st.integers(1, 15),
    seed=st.integers(-(2**40), 2**40),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    languages=st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=2),
)
def test_exact_different_and_rotated(tokenizer, tokens, count, seed, kinds, languages):
    prompts = build(tokenizer, tokens=tokens, count=count, seed=seed, kinds=kinds, languages=languages)
    assert [len(p.token_ids) for p in prompts] == [tokens] * count
    assert len({p.token_ids for p in prompts}) == count
    assert [p.index for p in prompts] == list(range(count))
    for p in prompts:
        assert p.kind == kinds[p.index % len(kinds)]
        assert p.language == languages[p.index // len(kinds) % len(languages)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("tokens", [MIN_TOKENS, 16, 137, 1024])
def test_a_prompt_does_not_depend_on_the_count(tokenizer, tokens):
    assert build(tokenizer, tokens=tokens, count=10) == build(tokenizer, tokens=tokens, count=50)[:10]


def test_seed_and_length_change_every_prompt():
    base = build()
    assert not {p.token_ids for p in base} & {p.token_ids for p in build(seed=8)}
    longer = {p.token_ids[:256] for p in build(tokens=257)}
    assert not {p.token_ids for p in base} & longer


def test_known_answer():
    assert prompts_sha256(build(tokens=512, count=6, seed=20_240)) == KNOWN_SHA256


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_same_in_another_process(hash_seed):
    code = (
        "from jobs.prompts import *;"
        "print(prompts_sha256(make_prompts(ByteTokenizer(), tokens=512, count=6,"
        " kinds=KINDS, languages=LANGUAGES, seed=20240)))"
    )
    env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == KNOWN_SHA256


def test_sha256_is_over_ids_and_order_only():
    one, two = Prompt("chat", "en", 0, (1, 23)), Prompt("chat", "en", 1, (12, 3))
    assert prompts_sha256([one, two]) != prompts_sha256([two, one])
    assert prompts_sha256([one]) != prompts_sha256([two])
    assert prompts_sha256([one]) == prompts_sha256([Prompt("code", "es", 9, (1, 23))])


@pytest.mark.parametrize("index", range(6))
def test_instruction_and_question_stay_whole(index):
    prompt = build(tokens=400)[index]
    words, text = wording(prompt.kind, prompt.language), BYTES.decode(prompt.token_ids)
    assert text[7:].startswith(words.instruction)
    assert text.endswith(words.closing)
    assert len(body_of(prompt)) > 100


def test_short_prompts_keep_the_beginning():
    assert BYTES.decode(build(tokens=16, count=1)[0].token_ids) == "[0007] " + wording("chat", "en").instruction[:9]


def test_bos_only_where_the_tokenizer_adds_it_and_never_eos():
    assert all(p.token_ids[0] == 1 and not {0, 1} & set(p.token_ids[1:]) for p in build(WordTokenizer()))
    assert all(p.token_ids[0] == 1 for p in build(ByteTokenizer(offset=3, bos_token_id=1)))
    assert all(1 not in p.token_ids for p in build(SilentBosTokenizer()))


def test_no_two_prompts_share_a_long_beginning():
    """A prefix cache must find nothing: the tag differs within the first seven bytes."""
    prompts = build(tokens=2048, count=50)
    assert len({p.token_ids[:7] for p in prompts}) == 50


def test_bodies_are_varied():
    lines: Counter[str] = Counter()
    for prompt in build(tokens=2048, count=50, kinds=("summary", "chat")):
        lines.update(line for line in re.split(r"(?<=[.?])\s", body_of(prompt)) if len(line.split()) > 4)
    assert lines.total() > 700
    assert len(lines) > 0.95 * lines.total()


def test_no_field_is_left_unfilled():
    for prompt in build(tokens=4096, count=24):
        assert not re.search(r"[{}|]|NOTE", BYTES.decode(prompt.token_ids))


def test_code_bodies_are_python():
    for prompt in build(tokens=10_000, count=20, kinds=["code"]):
        whole, _, _cut = body_of(prompt).rpartition("\n\n\n")
        assert whole.count("\n\n\n") > 3
        compile(whole, "prompt", "exec")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": MIN_TOKENS - 1}, "7 tokens is too short.*at least 8 tokens"),
        ({"tokens": -5}, "-5 tokens is too short"),
        ({"count": 0}, "cannot make 0 prompts"),
        ({"count": 70_000}, "cannot make 70000 prompts"),
        ({"kinds": ()}, "no prompt kind given.*summary"),
        ({"languages": ()}, "no prompt language given"),
        ({"kinds": ("chat", "cod")}, "unknown prompt kind 'cod'.*did you mean 'code'"),
        ({"languages": ("fr",)}, "unknown prompt language 'fr'; valid: en, es"),
    ],
)
def test_bad_requests_are_refused(change, message):
    with pytest.raises(SweepError, match=message):
        build(**change)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [(ConstantTokenizer(), "prompts 0 and 1 are equal at 64 tokens"), (MuteTokenizer(), "makes only 1 tokens")],
)
def test_broken_tokenizers_are_refused(tokenizer, message):
    with pytest.raises(SweepError, match=message):
        build(tokenizer, tokens=64)


def test_an_inexact_prompt_is_refused(monkeypatch):
    monkeypatch.setattr("jobs.prompts._body_ids", lambda tokenizer, words, rng, need: [5] * (need - 1))
    with pytest.raises(SweepError, match=r"prompt 0 \(chat, en\) has 255 tokens instead of 256"):
        build()


@settings(max_examples=50)
@given(text=st.text(), offset=st.integers(0, 1000), bos=st.booleans())
def test_byte_tokenizer_round_trip(text, offset, bos):
    tokenizer = ByteTokenizer(offset=offset + bos, bos_token_id=offset if bos else None)
    ids = tokenizer.encode(text)
    assert ids[:bos] == [offset] * bos
    assert tokenizer.encode(text, add_special_tokens=False) == ids[bos:]
    assert all(i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == text


def test_byte_tokenizer_decodes_any_id():
    tokenizer = ByteTokenizer(offset=3, bos_token_id=1)
    assert tokenizer.decode([1, 68, 0, 259, 69]) == "A\ufffd\ufffdB"
    assert tokenizer.decode([1, 68], skip_special_tokens=False) == "\ufffdA"


@pytest.fixture(scope="module")
def trained_tokenizer():
    """A real byte-level BPE, trained here so that nothing is downloaded."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train([str(DEMO_TEXT)], vocab_size=2000, special_tokens=["<s>"], show_progress=False)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<s>")


def test_real_tokenizer_is_exact_and_fast(trained_tokenizer):
    start = time.process_time()
    prompts = build(trained_tokenizer, tokens=2048, count=50)
    assert time.process_time() - start < 2.0
    assert {len(p.token_ids) for p in prompts} == {2048}
    assert all(p.token_ids[0] == trained_tokenizer.bos_token_id for p in prompts)
    text = trained_tokenizer.decode(list(prompts[1].token_ids), skip_special_tokens=True)
    assert wording("code", "en").instruction in text
    assert text.endswith(wording("code", "en").closing)


def test_demo_text_is_long_and_never_repeats():
    text = DEMO_TEXT.read_text(encoding="ascii")
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]
    sentences = [s for s in re.split(r"(?<=[.?!])\s+", text) if len(s.split()) > 4]
    assert len(text.split()) >= 6000
    assert len(set(paragraphs)) == len(paragraphs) > 60
    assert len(set(sentences)) == len(sentences) > 300
