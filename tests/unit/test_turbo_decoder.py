"""The compact decoder against transformers itself: tiny random models of every family, in float32 on the CPU."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from farm.errors import Unsupported
from jobs.engines.eager import EagerEngine
from jobs.engines.lengths import BUCKET
from jobs.engines.turbo import TurboEngine
from jobs.memory import meter_for, model_bytes
from jobs.prompts import ByteTokenizer
from jobs.stopwatch import stopwatch_for
from jobs.turbo import kernels, slots
from jobs.turbo import layers as layers_module
from jobs.turbo.cache import FP8, KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.graph import Replay
from jobs.turbo.profile import KernelTime, Span, breakdown
from jobs.turbo.recipe import Recipe, recipe_for
from jobs.turbo.weights import dequantize, quantize_int4, quantize_int8
from tests.generating import greedy

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2, 128, 256, 4, 2, 32, 300
LINEAR_WEIGHTS = HIDDEN * (2 * HIDDEN + 2 * KV_HEADS * HEAD_DIM) + 3 * HIDDEN * FEED_FORWARD
GROUP = 64
PHASES = ("prefill", "decode")
CLOSE = 1e-4  # float32 sums of 256 terms in another order; the logits are of the size of 10
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def tiny(kind: Any, config: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCAB,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,  # wide enough that the greedy tokens vary
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    model = kind(config(**(shape | changes))).eval()
    _disturb(model)
    return model


@torch.no_grad()
def _disturb(model: Any) -> None:
    """Norms are ones and biases zeros in a fresh model: then an engine that forgets them would pass."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))


def llama(**changes: Any) -> Any:
    return tiny(LlamaForCausalLM, LlamaConfig, **changes)


def mistral(**changes: Any) -> Any:
    return tiny(MistralForCausalLM, MistralConfig, **({"sliding_window": None} | changes))


def qwen2(**changes: Any) -> Any:
    return tiny(Qwen2ForCausalLM, Qwen2Config, **changes)


def qwen3(**changes: Any) -> Any:
    return tiny(Qwen3ForCausalLM, Qwen3Config, **({"head_dim": 48} | changes))


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama tied": lambda: llama(tie_word_embeddings=True),
    "llama, one kv head a head": lambda: llama(num_key_value_heads=HEADS),
    "llama 3 rope": lambda: llama(rope_parameters=LLAMA3),
    "llama yarn": lambda: llama(rope_parameters=YARN),
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
}


def eager(model: Any) -> EagerEngine:
    return EagerEngine(model, ByteTokenizer(), stopwatch_for("cpu"), meter_for("cpu"))


def turbo(model: Any, recipe: Recipe | None = None) -> TurboEngine:
    return TurboEngine(model, ByteTokenizer(), stopwatch_for("cpu"), meter_for("cpu"), recipe)


def prompts(batch: int, tokens: int = 9, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    rows: list[list[int]] = torch.randint(0, VOCAB, (batch, tokens), generator=generator).tolist()
    return rows


# --- dense: transformers is the reference


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_and_logits_are_those_of_the_eager_engine(family: str, batch: int) -> None:
    model, ids = FAMILIES[family](), prompts(batch)
    reference = eager(model)
    expected, logits = greedy(reference, ids, 20), reference.logits(ids)
    assert len({token for row in expected for token in row}) > 5, "a constant answer would prove nothing"
    engine = turbo(model)
    assert torch.allclose(engine.logits(ids), logits, atol=CLOSE, rtol=0)
    assert greedy(engine, ids, 20) == expected


def test_a_step_gives_the_logits_of_the_whole_sequence() -> None:
    """Decode and prefill share no attention code: each checks the other, beyond what an argmax shows."""
    decoder = TurboDecoder(qwen3())
    ids = torch.tensor(prompts(2, 33))
    seen: list[torch.Tensor] = []
    engine = turbo(qwen3())
    slot = engine.slots.get(2, 40)
    first = engine.decoder.prefill(ids[:, :32], slot.cache)
    slot.state.take_first(first, 32)
    slot.state.token.copy_(ids[:, 32])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(slot.state), "take_next", lambda self, logits: seen.append(logits))
        slot.graph.run()
    whole = decoder.logits(ids)
    assert torch.allclose(first, whole[:, 31], atol=CLOSE, rtol=0)
    assert torch.allclose(seen[0], whole[:, 32], atol=CLOSE, rtol=0)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_text_scored_through_an_8_bit_cache_is_what_decoding_sees(batch: int) -> None:
    """Prompt, then every later token by a step of its own: the logits of the one forward that measures quality."""
    engine, ids = turbo(llama()), torch.tensor(prompts(batch, 24))
    slot = engine.slots.get(batch, 40, FP8)
    assert slot.cache.bytes == 2 * LAYERS * batch * KV_HEADS * slot.cache.max_len * HEAD_DIM
    seen = [engine.decoder.prefill(ids[:, :20], slot.cache)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(slot.state), "take_next", lambda self, logits: seen.append(logits))
        for position in range(20, 24):
            slot.state.start_at(position)
            slot.state.token.copy_(ids[:, position])
            slot.graph.run()
    through = engine.through_cache("fp8").logits(ids.tolist())
    assert torch.allclose(torch.stack(seen, dim=1), through[:, 19:], atol=CLOSE, rtol=0)
    exact = engine.logits(ids.tolist())
    assert torch.equal(engine.through_cache("on").logits(ids.tolist()), exact)
    apart = (through - exact).norm() / exact.norm()
    assert 1e-3 < apart < 0.2  # 4 significant bits: it is another model, and not a broken one


def test_a_generation_through_an_8_bit_cache_and_what_its_row_says() -> None:
    engine = turbo(llama())
    generation = engine.begin(prompts(2), "fp8", 5)
    generation.prefill()
    generation.first_token()
    for _ in range(4):
        generation.decode_step()
    assert len(generation.tokens()[0]) == 5
    assert engine.effective("fp8").cache_class == "turbo.KvCache[float8_e4m3fn]"
    assert engine.effective("on").cache_class == "turbo.KvCache"
    assert generation.kv_bytes() * 4 == engine.begin(prompts(2), "on", 5).kv_bytes()  # float32 on a CPU
    with pytest.raises(Unsupported, match="not with cache mode 'int4'; use on or fp8"):
        engine.begin(prompts(2), "int4", 5)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("int4", "int8", GROUP)], ids=["dense", "int4"])
def test_behind_the_last_attention_a_prompt_is_one_row(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its logits and cache are those of all rows."""
    decoder, ids = TurboDecoder(llama(), recipe), torch.tensor(prompts(3, 9))
    rows: list[int] = []
    linear = kernels.linear
    monkeypatch.setattr(kernels, "linear", lambda x, weight: (rows.append(len(x)), linear(x, weight))[1])
    cache = KvCache.allocate(decoder.shape, 3, 9, like=decoder.weights.embedding)
    logits = decoder.prefill(ids, cache)
    assert rows == 5 * [27] + 3 * [3] + [3], "qkv of all positions in both layers, the head and three products of one"
    assert torch.allclose(logits, decoder.logits(ids)[:, -1], atol=CLOSE, rtol=0)
    assert all((cache.keys[LAYERS - 1, :, :, position] != 0).any() for position in range(9))


def test_scores_are_those_of_the_eager_engine() -> None:
    model, ids = mistral(), prompts(3, 17)
    expected = torch.tensor(eager(model).token_nll(ids))
    assert torch.allclose(torch.tensor(turbo(model).token_nll(ids)), expected, atol=CLOSE, rtol=0)


def test_a_large_batch_is_prefilled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ids = turbo(llama()), prompts(5)
    expected, logits = greedy(engine, ids, 6), engine.logits(ids)
    monkeypatch.setattr("jobs.turbo.prefill.ROWS", 2 * 9)
    assert greedy(engine, ids, 6) == expected
    assert torch.allclose(engine.logits(ids), logits, atol=CLOSE, rtol=0)


# --- one cache, many generations


def test_nothing_leaks_from_one_generation_into_the_next() -> None:
    model = llama()
    reference = eager(model)
    plans = [(prompts(1, 200, 1), 50), (prompts(1, 3, 2), 9), (prompts(1, 40, 3), 30), (prompts(1, 1, 4), 5)]
    expected = [greedy(reference, ids, count) for ids, count in plans]
    engine = turbo(model)
    assert [greedy(engine, ids, count) for ids, count in plans] == expected
    assert engine.slots.get(1, 200 + 50).generations == len(plans), "all of them must have had one cache"


def test_shapes_take_turns() -> None:
    model = llama()
    reference = eager(model)
    plans = [(prompts(1), 8), (prompts(3), 8), (prompts(1, BUCKET), 8), (prompts(1), 8)]
    expected = [greedy(reference, ids, count) for ids, count in plans]
    engine = turbo(model)
    assert [greedy(engine, ids, count) for ids, count in plans] == expected


def test_a_shape_that_comes_back_is_captured_without_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    captures = []

    class Recording(Replay):
        def __init__(self, work: Callable[[], None], device: torch.device, is_warm: bool = False) -> None:
            captures.append(is_warm)
            super().__init__(work, device, is_warm)

    monkeypatch.setattr(slots, "Replay", Recording)
    engine = turbo(llama())
    for ids in (prompts(1), prompts(3), prompts(1), prompts(1, 12), prompts(3)):
        engine.begin(ids, "on", 4)
    # Of each: the step, the prompt. The fourth is another length in the same cache: its prompt alone is new.
    assert captures == [False, False, False, False, True, True, False, True, True]


def test_the_caches_of_earlier_shapes_are_given_back() -> None:
    engine = turbo(llama())
    row = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4
    first = weakref.ref(engine.begin(prompts(3), "on", 4)._slot.cache.keys)
    assert engine.slots.bytes == 3 * BUCKET * row
    generation = engine.begin(prompts(1, BUCKET), "on", 4)
    assert generation.kv_bytes() == engine.slots.bytes == 2 * BUCKET * row
    assert first() is None


def test_an_overtaken_generation_fails_instead_of_answering_for_another() -> None:
    engine = turbo(llama())
    first = engine.begin(prompts(1), "on", 4)
    first.prefill()
    first.first_token()
    engine.begin(prompts(1), "on", 4)
    for step in (first.prefill, first.first_token, first.decode_step, first.tokens):
        with pytest.raises(RuntimeError, match="later generation"):
            step()


def test_tokens_can_be_read_on_the_way_and_end_where_asked() -> None:
    model = llama()
    expected = greedy(eager(model), prompts(1), 3)[0]
    generation = turbo(model).begin(prompts(1), "on", 3)
    generation.prefill()
    assert generation.tokens() == [[]]
    generation.first_token()
    assert generation.tokens() == [expected[:1]]
    generation.decode_step()
    generation.decode_step()
    assert generation.tokens() == [expected]
    with pytest.raises(IndexError, match="3 new tokens"):
        generation.decode_step()


# --- quantized: transformers with the dequantized weights is the reference


def quantizer(kind: str) -> Callable[[torch.Tensor], torch.Tensor]:
    def there_and_back(weight: torch.Tensor) -> torch.Tensor:
        kept = quantize_int8(weight) if kind == "int8" else quantize_int4(weight, GROUP)
        return dequantize(kept, torch.float32)

    return there_and_back


def with_rounded_weights(model: Any, layers: str, head: str) -> Any:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            round_ = quantizer(head if name == "lm_head" else layers)
            module.weight = torch.nn.Parameter(round_(module.weight.detach()), requires_grad=False)
    return model


@pytest.mark.parametrize("family", ["llama", "llama tied", "qwen2", "qwen3"])
@pytest.mark.parametrize(("layers", "head"), [("int8", "int8"), ("int4", "int8"), ("int4", "int4")])
def test_quantized_logits_are_those_of_the_dequantized_weights(family: str, layers: str, head: str) -> None:
    ids = prompts(2, 12)
    reference = eager(with_rounded_weights(FAMILIES[family](), layers, head))
    engine = turbo(FAMILIES[family](), Recipe(layers, head, GROUP))
    assert torch.allclose(engine.logits(ids), reference.logits(ids), atol=CLOSE, rtol=0)
    assert not torch.allclose(engine.logits(ids), eager(FAMILIES[family]()).logits(ids), atol=0.01, rtol=0)
    assert greedy(engine, ids, 20) == greedy(reference, ids, 20)


# --- memory and evidence


def test_the_old_weights_are_freed_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    linear = [m for layer in model.model.layers for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    old = [weakref.ref(module.weight) for module in linear]
    del linear
    alive: list[int] = []
    take = layers_module._take_layer

    def counting(layer: Any, recipe: Recipe) -> Any:
        alive.append(sum(weight() is not None for weight in old))
        return take(layer, recipe)

    monkeypatch.setattr(layers_module, "_take_layer", counting)
    decoder = TurboDecoder(model, Recipe("int8", "int8"))
    assert alive == [7 * LAYERS, 7 * (LAYERS - 1)]
    assert not any(weight() is not None for weight in old)
    assert model_bytes(model) <= 4 * (VOCAB * HIDDEN + HIDDEN + HEAD_DIM), "embedding, last norm, frequencies"
    assert decoder.weights_bytes < 4 * VOCAB * HIDDEN * 1.3 + LAYERS * 1.1 * 3 * HIDDEN * (HIDDEN + FEED_FORWARD)


def test_bytes_by_hand() -> None:
    linear = LAYERS * LINEAR_WEIGHTS
    norms, table = HIDDEN * (2 * LAYERS + 1), VOCAB * HIDDEN
    untied, tied = TurboDecoder(llama()), TurboDecoder(llama(tie_word_embeddings=True))
    assert untied.weights_bytes == 4 * (linear + norms + 2 * table)
    assert tied.weights_bytes == 4 * (linear + norms + table)
    row = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4
    assert untied.step_bytes(3, 10) == tied.step_bytes(3, 10) == 4 * (linear + table) + 30 * row


def test_effective_is_read_off_the_stored_weights() -> None:
    engine = turbo(qwen2(), Recipe("int4", "int8", GROUP))
    found = engine.effective("on")
    assert found.linear_classes == {"TurboInt4": 4 * LAYERS, "TurboInt8": 1}
    assert found.kernels == dict.fromkeys(PHASES, "torch-matmul-dequantized-int4+torch-matmul-dequantized-int8")
    assert found.quantization == {"bits": "4", "group_size": str(GROUP), "head": "int8"}
    assert found.parameter_dtypes["int8"] == VOCAB * HIDDEN
    assert found.parameter_dtypes["int32"] == LAYERS * LINEAR_WEIGHTS // 8
    assert (found.compute_dtype, found.mismatches) == ("float32", ())
    assert engine.effective(None).cache_class is None
    dense = turbo(llama()).effective("on")
    assert dense.quantization == {"bits": "32", "head": "dense"}
    assert dense.kernels == dict.fromkeys(PHASES, "torch-matmul")


def test_the_kernels_are_those_of_the_batch() -> None:
    """Told by rows and device, so a CPU can be asked about a GPU."""
    decoder = TurboDecoder(llama(), Recipe("int8", "dense"))
    decoder.device = torch.device("cuda")
    assert decoder.kernels_used(1) == {"triton-gemv-int8": 4 * LAYERS, "triton-gemv-dense": 1}
    assert decoder.kernels_used(16) == {"triton-skinny-int8": 4 * LAYERS, "cublas-matmul": 1}
    assert decoder.kernels_used(2048) == {"cublas-matmul-dequantized-int8": 4 * LAYERS, "cublas-matmul": 1}


def test_the_weights_are_looked_over_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("jobs.turbo.decoder.why_no_kernel", lambda device: None)
    monkeypatch.setattr("jobs.turbo.decoder.why_not", lambda shape, weights, batch: asked.append(batch) or "a reason")
    decoder = TurboDecoder(llama())
    for batch in (1, 3, 1, 3):
        assert decoder.decode_kernels(batch) == decoder.kernels_used(batch)
    assert asked == [1, 3]


def test_layers_of_another_kind_than_asked_for_are_told() -> None:
    engine = turbo(llama(), Recipe("int8", "int8"))
    engine.recipe = Recipe("int4", "int8")
    assert engine.effective("on").mismatches == ("asked for int4 layers, 8 of 8 are of another kind",)


# --- refusals


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "another family": (lambda: tiny(GemmaForCausalLM, GemmaConfig, head_dim=32), "gemma"),
    "a window": (lambda: mistral(sliding_window=512), "512 positions of 1024"),
    "windows in some layers": (
        lambda: qwen2(use_sliding_window=True, sliding_window=64, max_window_layers=1),
        "64 positions of 1024",
    ),
    "biases behind attention": (lambda: llama(attention_bias=True), "o_proj has a bias"),
    "biases in the feed-forward": (lambda: llama(mlp_bias=True), "gate_proj has a bias"),
    "another activation": (lambda: llama(hidden_act="gelu"), "gelu"),
    "a rope that moves": (
        lambda: llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}),
        "dynamic",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_computed_wrongly_is_refused(case: str) -> None:
    make, reason = REFUSED[case]
    model = make()
    before = model_bytes(model)
    with pytest.raises(Unsupported, match=reason):
        TurboDecoder(model)
    assert model_bytes(model) == before, "a refused model must stay whole"


def test_a_window_as_long_as_the_positions_is_none() -> None:
    TurboDecoder(mistral(sliding_window=1024))


def test_a_model_can_be_taken_once() -> None:
    model = llama()
    TurboDecoder(model)
    with pytest.raises(Unsupported, match="load it again"):
        TurboDecoder(model)


def test_an_unknown_linear_class_is_refused() -> None:
    class Packed(torch.nn.Linear):
        pass

    model = llama()
    model.model.layers[0].mlp.down_proj = Packed(FEED_FORWARD, HIDDEN, bias=False)
    with pytest.raises(Unsupported, match="Packed"):
        TurboDecoder(model)


@pytest.fixture
def engine() -> Iterator[TurboEngine]:
    yield turbo(llama())


def test_what_does_not_fit_is_unsupported(engine: TurboEngine) -> None:
    engine.begin(prompts(1, 1000), "on", 24)
    with pytest.raises(Unsupported, match="1024 positions"):
        engine.begin(prompts(1, 1000), "on", 25)
    with pytest.raises(Unsupported, match="1024 positions"):
        engine.token_nll(prompts(1, 1026))  # 1025 are fed: the last one is only a target
    with pytest.raises(Unsupported, match="not with cache mode 'off'; use on or fp8"):
        engine.begin(prompts(1), "off", 4)


def test_recipes_by_name() -> None:
    assert recipe_for("bf16") == Recipe("dense", "dense")
    assert recipe_for("int4wo?group_size=64") == Recipe("int4", "int8", 64)
    assert recipe_for("int8wo") == Recipe("int8", "int8", 128)
    with pytest.raises(Unsupported, match="valid: fp32, fp16"):
        recipe_for("nf4")
    with pytest.raises(Unsupported, match="kind of weights"):
        Recipe("int3")
    with pytest.raises(Unsupported, match="96 do not divide 128 inputs"):
        TurboDecoder(llama(), Recipe("int4", "dense", 96))


# --- where a step's time goes


def test_a_breakdown_by_hand() -> None:
    """Two runs of one kernel, another that overlaps the second, a gap of 3 us."""
    spans = [Span("gemv", 10, 14), Span("gemv", 17, 20), Span("norm", 19, 25)]
    found = breakdown(spans, top=1)
    assert (found.span_us, found.idle_us, found.calls) == (15, 3, 3)
    assert found.kernels == (KernelTime("gemv", 2, 7),)
    assert [kernel.name for kernel in breakdown(spans).kernels] == ["gemv", "norm"]
    with pytest.raises(RuntimeError, match="no kernel"):
        breakdown([])
