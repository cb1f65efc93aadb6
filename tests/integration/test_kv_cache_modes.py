"""Every cache of the axis on a tiny model: true bytes, class, what it gives back, and a text scored through it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaForCausalLM, cache_utils

from farm.architectures import Architecture
from farm.cells import QualityTask, TextRef
from farm.kv_cache import CacheTask, kv_bytes
from farm.records import Memory
from jobs.engines import caches, through_cache
from jobs.engines.base import Reference
from jobs.engines.caches import Fp8Layer, other_class
from jobs.engines.eager import EagerEngine
from jobs.engines.through_cache import pieces_of
from jobs.memory import meter_for
from jobs.memory_parts import by_part
from jobs.models.random_weights import build_random
from jobs.prompts import ByteTokenizer
from jobs.quality import measure_quality
from jobs.stopwatch import stopwatch_for

SHAPE = Architecture(2, 128, 192, 4, 2, 32, 256, 1024, True, 10000.0, 1e-5)
CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])
DEVICES = ["cpu", CUDA]
LOSSY = {"fp8": 0.5, "int8": 0.05, "int4": 2.0}  # the largest mean divergence from the exact cache; weights this wide


def engine_on(device: str, dtype: torch.dtype = torch.float32) -> EagerEngine:
    model: LlamaForCausalLM = build_random(SHAPE, dtype, device, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)  # wide enough that the greedy tokens vary
    return EagerEngine(model, ByteTokenizer(), stopwatch_for(device), meter_for(device))


@pytest.fixture(scope="module")
def engine() -> EagerEngine:
    return engine_on("cpu")


def prompts(tokens: int, batch: int = 2) -> list[list[int]]:
    return [[(7 * i * i + 3 * row) % 256 for i in range(tokens)] for row in range(batch)]


def run(engine: EagerEngine, mode: str, prompt: int, new: int) -> Any:
    generation = engine.begin(prompts(prompt), mode, new)
    generation.prefill()
    generation.first_token()
    for _ in range(new - 1):
        generation.decode_step()
    return generation


@pytest.mark.parametrize(
    ("mode", "new"), [("on", 5), ("static", 5), ("fp8", 5), ("int8", 5), ("int4", 5), ("int4", 130)]
)
def test_measured_bytes_are_the_predicted_ones(engine: EagerEngine, mode: str, new: int) -> None:
    measured = run(engine, mode, 70, new).kv_bytes()
    predicted = kv_bytes(CacheTask(mode, 2, 70, new), SHAPE, model_bits=32)
    scales = 2 * SHAPE.layers * 4 if mode == "fp8" else 0  # one 32-bit scale of the keys and one of the values a layer
    assert measured == predicted + scales


@pytest.mark.parametrize("device", DEVICES)
def test_exact_caches_give_the_tokens_of_the_usual_one(device: str) -> None:
    engine = engine_on(device)
    usual = run(engine, "on", 40, 12).tokens()
    exact = ["off", "static"] + ["offloaded"] * (device == "cuda")
    assert {mode: run(engine, mode, 40, 12).tokens() == usual for mode in exact} == dict.fromkeys(exact, True)


@pytest.mark.parametrize("device", DEVICES)
def test_the_row_names_the_cache_that_was_filled(device: str) -> None:
    engine = engine_on(device)
    modes = ["on", "off", "static", "fp8", "int8", "int4"] + ["offloaded"] * (device == "cuda")
    for mode in modes:
        run(engine, mode, 9, 3)
    found = {mode: engine.effective(mode) for mode in modes}
    assert all(effective.mismatches == () for effective in found.values())
    assert found["on"].cache_class == "DynamicCache" and found["off"].cache_class is None
    assert found["static"].cache_class == "StaticCache[StaticLayer]"
    assert found["int4"].cache_class == "QuantizedCache[HQQQuantizedLayer 4 bit]"


def test_another_cache_than_was_asked_for_is_a_mismatch(engine: EagerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(caches._MAKERS, "int4", lambda model, tokens: DynamicCache(config=model.config))
    run(engine, "int4", 9, 3)
    (told,) = engine.effective("int4").mismatches
    assert told == "asked cache mode int4 for QuantizedCache[HQQQuantizedLayer 4 bit], found DynamicCache"
    assert other_class("on", "SlidingWindowCache") is None  # the model's own choice


# --- FP8 for versions of transformers that do not have it


@pytest.mark.skipif(not hasattr(cache_utils, "Fp8QuantizedLayer"), reason="this transformers has no FP8 cache")
def test_our_fp8_layer_is_the_librarys() -> None:
    torch.manual_seed(0)
    ours, theirs = Fp8Layer(), cache_utils.Fp8QuantizedLayer()
    for tokens in (5, 1, 3):
        keys, values = torch.randn(2, 2, tokens, 16), 3 * torch.randn(2, 2, tokens, 16)
        for mine, other in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
            assert torch.equal(mine, other)
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert ours.get_mask_sizes(1) == theirs.get_mask_sizes(1)


def test_the_model_runs_on_our_fp8_layer(engine: EagerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(engine, "fp8", 40, 6).tokens()
    monkeypatch.delattr(cache_utils, "Fp8QuantizedLayer", raising=False)
    assert run(engine, "fp8", 40, 6).tokens() == expected
    assert engine.effective("fp8").cache_class == "Cache[Fp8Layer]"
    assert engine.effective("fp8").mismatches == ()


# --- a text scored through the cache


def test_the_pieces_cover_everything_once() -> None:
    for tokens in (1, 2, 30, 128, 129, 300, 2048):
        pieces = list(pieces_of(tokens))
        assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
        assert pieces[-1][1] == tokens and all(start < end for start, end in pieces)


@pytest.mark.parametrize("mode", ["on", "static"])
def test_an_exact_cache_gives_the_logits_of_one_forward(engine: EagerEngine, mode: str) -> None:
    ids = prompts(300)
    plain = engine.logits(ids)
    torch.testing.assert_close(engine.through_cache(mode).logits(ids), plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", list(LOSSY))
def test_a_lossy_cache_changes_what_follows_the_prompt_only(engine: EagerEngine, mode: str) -> None:
    ids = prompts(300)
    plain, found = engine.logits(ids), engine.through_cache(mode).logits(ids)
    torch.testing.assert_close(found[:, :128], plain[:, :128], atol=1e-4, rtol=1e-4)
    exact, other = plain[:, 128:].log_softmax(-1), found[:, 128:].log_softmax(-1)
    divergence = float((exact.exp() * (exact - other)).sum(-1).mean())
    assert 1e-6 < divergence < LOSSY[mode]


@pytest.mark.parametrize("mode", ["fp8", "int4"])
def test_pieces_score_as_tokens_one_by_one(engine: EagerEngine, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = prompts(280, batch=1)
    in_pieces = engine.through_cache(mode).logits(ids)
    monkeypatch.setattr(through_cache, "PIECES", (1,))
    one_by_one = engine.through_cache(mode).logits(ids)
    agree = (in_pieces.argmax(-1) == one_by_one.argmax(-1)).float().mean()
    assert agree > 0.97  # codes may flip by one where sums were added in another order


def test_a_quality_cell_reads_the_cache_and_compares_with_the_plain_forward(engine: EagerEngine) -> None:
    engine.reference = Reference("fp32", "cpu")
    task = QualityTask("gptq", TextRef("demo", None), 256, 256, agreement_tokens=200)
    plain, through = (measure_quality(engine, task), measure_quality(engine, _through(task, "int4")))
    exact = measure_quality(engine, _through(task, "on"))
    assert (plain.protocol, through.protocol) == ("gptq-256", "gptq-256-through-cache")
    assert exact.nll_sum == pytest.approx(plain.nll_sum, rel=1e-5)
    assert through.nll_sum != pytest.approx(plain.nll_sum, rel=1e-5)
    assert plain.kl_mean is None and plain.reasons["kl_mean"] == "this is the reference"
    assert exact.kl_mean == pytest.approx(0.0, abs=1e-6)
    assert through.kl_mean is not None and through.kl_mean > 1e-4
    assert through.effective.cache_class == "QuantizedCache[HQQQuantizedLayer 4 bit]"


def _through(task: QualityTask, mode: str) -> QualityTask:
    return replace(task, cache_mode=mode)


# --- memory by part


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_offloaded_cache_lies_in_host_memory() -> None:
    generation = run(engine_on("cuda", torch.float16), "offloaded", 300, 4)
    whole = kv_bytes(CacheTask("offloaded", 2, 300, 4), SHAPE, 16)
    assert generation.kv_bytes() == whole
    assert 0 < generation.kv_host_bytes() <= whole


def test_what_lies_in_host_memory_is_no_part_of_the_devices_peak() -> None:
    peak = Memory(peak_allocated_bytes=1000)
    assert by_part(peak, peak, 600, 300, kv_host_bytes=250).activation_peak_bytes == 1000 - 600 - 50
    assert by_part(peak, peak, 600, 300).activation_peak_bytes == 100
