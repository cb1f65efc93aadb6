"""Synthetic prompts of an exact token length, the same on every machine.

Why exact: prefill time grows with every token, so a prompt that is 3 % short would read as a 3 % faster model. The
body is therefore cut in token ids, after encoding, and every finished prompt is checked. Why a tag in front: no two
prompts may share a long beginning, or an engine that caches prefixes would skip the work that is being timed.

    prompts = make_prompts(ByteTokenizer(), tokens=512, count=6, kinds=KINDS, languages=LANGUAGES, seed=7)
    prompts_sha256(prompts)     # goes into the record: proof of what was fed
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from farm.errors import SweepError, unknown
from jobs.prompt_templates import KINDS, LANGUAGES, Wording, wording
from jobs.prompt_words import Pools

__all__ = ["KINDS", "LANGUAGES", "MIN_TOKENS", "ByteTokenizer", "Prompt", "Tokenizer", "make_prompts", "prompts_sha256"]

MIN_TOKENS = 8  # a byte tokenizer with BOS needs 1 + 6 for the tag that keeps prompts apart
_TAGS = 16**4
_BYTES = 256
_CHARS_PER_TOKEN = 5  # first guess, slightly above the 4 of ordinary text: one encoding is usually enough
_GROWTH_STEPS = 6  # up to 5 * 2**5 = 160 characters a token; beyond that the tokenizer is broken


class Tokenizer(Protocol):
    """What prompts need of a tokenizer; every transformers tokenizer satisfies it."""

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...

    # The list is for a batch, which transformers 5 decodes by the same name; one sequence gives one str.
    def decode(self, token_ids: list[int]) -> str | list[str]: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, ready to be fed: the ids are exactly as many as were asked for."""

    kind: str
    language: str
    index: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """UTF-8 bytes as ids, for random-weight models that come without a tokenizer.

    `offset` leaves room for special ids below the bytes; ids outside the 256 decode to U+FFFD, because a model with
    random weights will emit them.
    """

    offset: int = 0
    bos_token_id: int | None = None

    @property
    def vocab_size(self) -> int:
        """Ids in use: the offset and 256 bytes."""
        return self.offset + _BYTES

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The bytes of the text, after BOS where there is one and it is wanted."""
        bos = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        return bos + [byte + self.offset for byte in text.encode()]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text; a character cut in half becomes U+FFFD, and so does an id that is no byte."""
        special = {self.bos_token_id} if skip_special_tokens else set()
        raw = b"".join(self._byte(i) for i in token_ids if i not in special)
        return raw.decode(errors="replace")

    def _byte(self, token_id: int) -> bytes:
        value = token_id - self.offset
        return bytes([value]) if 0 <= value < _BYTES else "\ufffd".encode()


def make_prompts(
    tokenizer: Tokenizer, *, tokens: int, count: int, kinds: Sequence[str], languages: Sequence[str], seed: int
) -> tuple[Prompt, ...]:
    """`count` different prompts of exactly `tokens` ids; kinds change fastest, languages after each round of kinds."""
    _check_request(tokens, count, kinds, languages)
    bos = _bos(tokenizer)
    prompts = []
    for index in range(count):
        kind = kinds[index % len(kinds)]
        language = languages[index // len(kinds) % len(languages)]
        ids = _token_ids(tokenizer, bos, wording(kind, language), tokens=tokens, index=index, seed=seed)
        prompts.append(Prompt(kind, language, index, ids))
    _check_exact(prompts, tokens)
    _check_distinct(prompts)
    return tuple(prompts)


def prompts_sha256(prompts: Iterable[Prompt]) -> str:
    """Over the token ids alone, in order: equal exactly when the same ids are fed."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(",".join(map(str, prompt.token_ids)).encode() + b"\n")
    return digest.hexdigest()


def _token_ids(
    tokenizer: Tokenizer, bos: tuple[int, ...], words: Wording, *, tokens: int, index: int, seed: int
) -> tuple[int, ...]:
    head = tokenizer.encode(_tag(index, seed) + words.instruction, add_special_tokens=False)
    tail = tokenizer.encode(words.closing, add_special_tokens=False)
    room = tokens - len(bos)
    free = room - len(head) - len(tail)
    if free <= 0:  # too short for a body: cut the question, then the instruction, never the tag
        return (*bos, *(head + tail)[:room])
    body = _body_ids(tokenizer, words, Random(f"{seed}/{tokens}/{index}"), free)
    return (*bos, *head, *body, *tail)


def _tag(index: int, seed: int) -> str:
    # An odd factor permutes the 65,536 tags: different for each index, and neighbours look nothing alike.
    return f"[{(index * 40_503 + seed) % _TAGS:04x}] "


def _body_ids(tokenizer: Tokenizer, words: Wording, rng: Random, need: int) -> list[int]:
    """Exactly `need` ids of body, from one large encoding (many small ones are ten times slower)."""
    text = ""
    for step in range(_GROWTH_STEPS):
        text = _grown(text, words, rng, need * _CHARS_PER_TOKEN * 2**step)
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) >= need:
            return ids[:need]
    raise SweepError(
        f"prompts: the tokenizer makes only {len(ids)} tokens of {len(text)} characters where {need} are needed; "
        "check that it belongs to the model, or use ByteTokenizer"
    )


def _grown(text: str, words: Wording, rng: Random, chars: int) -> str:
    parts, length = [text], len(text)
    while length < chars:
        parts.append(_sentence(words, rng) + rng.choice(words.separators))
        length += len(parts[-1])
    return "".join(parts)


def _sentence(words: Wording, rng: Random) -> str:
    return rng.choice(words.sentences).format_map(_Draws(words.pools, rng))


class _Draws(dict[str, str]):
    """Fills one template: the first use of a field draws a word, later uses repeat it, no two fields share one."""

    def __init__(self, pools: Pools, rng: Random) -> None:
        super().__init__()
        self._pools, self._rng = pools, rng
        self._used: set[str] = set()

    def __missing__(self, field: str) -> str:
        pool = getattr(self._pools, field.lower().rstrip("0123456789"))
        word = self._rng.choice(pool)
        while word in self._used:  # two equal parameters would not be valid Python
            word = self._rng.choice(pool)
        self._used.add(word)
        self[field] = word[0].upper() + word[1:] if field[0].isupper() else word
        return self[field]


def _bos(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The BOS id where the tokenizer itself would put one in front (some own a BOS and never use it)."""
    bos = getattr(tokenizer, "bos_token_id", None)
    first = tokenizer.encode("a", add_special_tokens=True)[:1]
    return (bos,) if bos is not None and first == [bos] else ()


def _check_request(tokens: int, count: int, kinds: Sequence[str], languages: Sequence[str]) -> None:
    if tokens < MIN_TOKENS:
        raise SweepError(f"prompts: {tokens} tokens is too short; ask for a context of at least {MIN_TOKENS} tokens")
    if not 1 <= count <= _TAGS:
        raise SweepError(f"prompts: cannot make {count} prompts; ask for 1 to {_TAGS}")
    _check_choice("prompt kind", kinds, KINDS)
    _check_choice("prompt language", languages, LANGUAGES)


def _check_choice(noun: str, values: Sequence[str], valid: Sequence[str]) -> None:
    if not values:
        raise SweepError(f"prompts: no {noun} given; choose from {', '.join(valid)}")
    for value in values:
        if value not in valid:
            raise SweepError(unknown(noun, value, valid, where="prompts"))


def _check_exact(prompts: Sequence[Prompt], tokens: int) -> None:
    for prompt in prompts:
        if len(prompt.token_ids) != tokens:
            raise SweepError(
                f"prompts: prompt {prompt.index} ({prompt.kind}, {prompt.language}) has {len(prompt.token_ids)} tokens "
                f"instead of {tokens}; nothing was measured, please report the tokenizer"
            )


def _check_distinct(prompts: Sequence[Prompt]) -> None:
    first: dict[tuple[int, ...], int] = {}
    for prompt in prompts:
        other = first.setdefault(prompt.token_ids, prompt.index)
        if other != prompt.index:
            raise SweepError(
                f"prompts: prompts {other} and {prompt.index} are equal at {len(prompt.token_ids)} tokens; "
                "ask for more tokens, or check that the tokenizer belongs to the model"
            )
