"""The eager engine on a tiny Llama: the same tokens as `generate()`, no waiting inside, and true bytes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from farm.architectures import Architecture
from farm.cells import Load
from farm.errors import ModelUnavailable, Unsupported
from farm.model_ref import ModelRef
from farm.quantization import parse_quantization
from jobs import loading
from jobs.engines.eager import EagerEngine, nll_in_slices
from jobs.memory import meter_for
from jobs.models.sources import Located
from jobs.prompts import ByteTokenizer
from jobs.quantization import backend_for
from jobs.stopwatch import stopwatch_for
from tests.generating import waiting_raises

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2, 64, 128, 4, 2, 16, 300
LINEARS = LAYERS * 7
LINEAR_ROWS = LAYERS * (2 * HIDDEN + 2 * KV_HEADS * HEAD_DIM + 2 * FEED_FORWARD + HIDDEN)
LINEAR_WEIGHTS = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV_HEADS * HEAD_DIM + 3 * HIDDEN * FEED_FORWARD)
OTHER_WEIGHTS = 2 * VOCAB * HIDDEN + HIDDEN * (2 * LAYERS + 1)
TINY = Architecture(LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD_DIM, VOCAB, 128, False, 10000.0, 1e-5)
QUANTIZED = {"int8": "Linear8bitLt", "nf4": "Linear4bit"}
# Correlation with the scores in float32: 32 unrelated scores stay below 0.4; 4 bits are rough on such wide weights.
LIKENESS = {"int8": 0.99, "nf4": 0.7}
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def tiny_llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=LAYERS,
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=VOCAB,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        initializer_range=0.4,  # wide enough that the greedy tokens vary
        bos_token_id=None,
        eos_token_id=None,
        **changes,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture(scope="module")
def folder(model: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(path)
    return path


def engine_of(model: Any, device: str = "cpu") -> EagerEngine:
    return EagerEngine(model, ByteTokenizer(), stopwatch_for(device), meter_for(device))


def prompts(batch: int, tokens: int = 9) -> list[list[int]]:
    generator = torch.Generator().manual_seed(batch)
    rows: list[list[int]] = torch.randint(0, VOCAB, (batch, tokens), generator=generator).tolist()
    return rows


def run(engine: EagerEngine, ids: list[list[int]], cache_mode: str, new_tokens: int) -> Any:
    generation = engine.begin(ids, cache_mode, new_tokens)
    generation.prefill()
    generation.first_token()
    for _ in range(new_tokens - 1):
        generation.decode_step()
    return generation


def by_generate(model: Any, ids: list[list[int]], new_tokens: int) -> list[list[int]]:
    inputs = torch.tensor(ids, device=model.device)
    mask = torch.ones_like(inputs)
    output = model.generate(inputs, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    rows: list[list[int]] = output[:, inputs.shape[1] :].tolist()
    return rows


def located(path: Path) -> Located:
    return Located(str(path), None, None)


def load_of(quantization: str, device: str = "cpu") -> Load:
    return Load(ModelRef("local", "tiny"), quantization, "eager", device)


def loaded_as(quantization: str, where: Located, load: Load) -> Any:
    wanted = parse_quantization(quantization)
    return backend_for(wanted).load(wanted, where, load)


# --- generating


@pytest.mark.parametrize("batch", [1, 3])
def test_cache_on_and_off_give_the_tokens_of_generate(model: LlamaForCausalLM, batch: int) -> None:
    ids = prompts(batch)
    expected = by_generate(model, ids, 20)
    assert len({token for row in expected for token in row}) > 5, "a constant answer would prove nothing"
    engine = engine_of(model)
    assert run(engine, ids, "on", 20).tokens() == expected
    assert run(engine, ids, "off", 20).tokens() == expected


def test_recomputing_is_the_plain_forward_without_a_cache(model: LlamaForCausalLM) -> None:
    """The stand-in cache changes nothing but the waiting: bit for bit the logits of use_cache=False."""
    ids = prompts(2)
    generation = engine_of(model).begin(ids, "off", 2)
    generation.prefill()
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor(ids), use_cache=False, logits_to_keep=1).logits
    assert torch.equal(generation._logits, plain)


def test_tokens_can_be_read_on_the_way(model: LlamaForCausalLM) -> None:
    ids = prompts(1)
    expected = by_generate(model, ids, 3)
    generation = engine_of(model).begin(ids, "on", 3)
    generation.prefill()
    assert generation.tokens() == [[]]
    generation.first_token()
    assert generation.tokens() == [expected[0][:1]]


def test_more_steps_than_asked_for_fail(model: LlamaForCausalLM) -> None:
    generation = run(engine_of(model), prompts(1), "on", 3)
    with pytest.raises(IndexError):
        generation.decode_step()


def test_generations_do_not_touch_each_other(model: LlamaForCausalLM) -> None:
    engine = engine_of(model)
    first, second = prompts(1), prompts(2)[:1]
    one, two = engine.begin(first, "on", 4), engine.begin(second, "on", 4)
    for step in ("prefill", "first_token", "decode_step", "decode_step", "decode_step"):
        getattr(one, step)()
        getattr(two, step)()
    assert one.tokens() == by_generate(model, first, 4)
    assert two.tokens() == by_generate(model, second, 4)


def test_what_does_not_fit_the_positions_is_unsupported(model: LlamaForCausalLM) -> None:
    engine = engine_of(model)
    engine.begin(prompts(1, 100), "on", 28)
    with pytest.raises(Unsupported, match="128 positions"):
        engine.begin(prompts(1, 100), "on", 29)
    with pytest.raises(Unsupported, match="128 positions"):
        engine.token_nll(prompts(1, 130))  # 129 are fed: the last one is only a target
    with pytest.raises(Unsupported, match="cache mode"):
        engine.begin(prompts(1), "maybe", 4)


# --- waiting


class ReadBack(AssertionError):
    """A value was brought from the device to Python: on a GPU the host would wait there."""


class NoReadBack(TorchDispatchMode):
    """Raises on operators that need a value on the host (`.item()`, `bool(tensor)`, `nonzero`)."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self.FORBIDDEN:
            raise ReadBack(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cache_mode", ["on", "off"])
@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_waits_inside_a_generation(model: LlamaForCausalLM, cache_mode: str, batch: int) -> None:
    generation = engine_of(model).begin(prompts(batch), cache_mode, 4)
    with NoReadBack():
        generation.prefill()
        generation.first_token()
        generation.decode_step()
        generation.decode_step()


def test_the_detector_sees_what_transformers_does_without_a_cache_object(model: LlamaForCausalLM) -> None:
    with torch.inference_mode(), pytest.raises(ReadBack), NoReadBack():
        model(input_ids=torch.tensor(prompts(1)), use_cache=False)


# --- scoring


def test_token_nll_is_the_plain_reference(model: LlamaForCausalLM) -> None:
    ids = prompts(3, 17)
    with torch.inference_mode():
        log_p = model(input_ids=torch.tensor(ids)).logits.double().log_softmax(-1)
    expected = [[-log_p[b, t, row[t + 1]].item() for t in range(16)] for b, row in enumerate(ids)]
    found = engine_of(model).token_nll(ids)
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("elements", [1, 70, 10**6])
def test_slices_do_not_change_the_score(elements: int) -> None:
    logits = torch.randn(2, 7, 11, dtype=torch.float64).bfloat16()
    targets = torch.randint(0, 11, (2, 7))
    expected = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
    found = nll_in_slices(logits, targets, elements)
    assert found.dtype is torch.float32
    assert torch.allclose(found, expected, atol=1e-5)


# --- bytes and evidence


def test_weights_bytes_by_hand(model: LlamaForCausalLM) -> None:
    rotary = HEAD_DIM // 2
    found = engine_of(model).weights_bytes
    assert found in (4 * (LINEAR_WEIGHTS + OTHER_WEIGHTS + rotary * copies) for copies in (1, 2))


def test_tied_weights_are_counted_once() -> None:
    untied, tied = tiny_llama(), tiny_llama()
    tied.lm_head.weight = tied.model.embed_tokens.weight
    assert engine_of(untied).weights_bytes - engine_of(tied).weights_bytes == 4 * VOCAB * HIDDEN


def test_kv_bytes_by_hand(model: LlamaForCausalLM) -> None:
    tokens = 9 + 5 - 1  # the last token was never fed
    generation = run(engine_of(model), prompts(3), "on", 5)
    assert generation.kv_bytes() == 3 * tokens * TINY.kv_bytes_per_token(4)
    assert run(engine_of(model), prompts(3), "off", 5).kv_bytes() is None


def test_effective_is_read_off_the_model(model: LlamaForCausalLM) -> None:
    engine = engine_of(model)
    before = engine.effective("on")
    assert before.linear_classes == {"Linear": LINEARS + 1}
    assert before.parameter_dtypes == {"float32": LINEAR_WEIGHTS + OTHER_WEIGHTS}
    assert before.attention == "sdpa"
    assert before.cache_class is None
    run(engine, prompts(1), "on", 2)
    run(engine, prompts(1), "off", 2)
    assert engine.effective("on").cache_class == "DynamicCache"
    assert engine.effective("off").cache_class is None
    assert engine.effective(None).cache_class is None


def test_a_model_without_a_cache_is_refused(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = model.forward

    def forgets(**inputs: Any) -> Any:
        output = forward(**inputs)
        output.past_key_values = None
        return output

    monkeypatch.setattr(model, "forward", forgets)
    with pytest.raises(Unsupported, match="no key/value cache"):
        engine_of(model).begin(prompts(1), "on", 2).prefill()


# --- quantized


def expected_bytes(quantization: str) -> int:
    """Codes and scales by hand; the rest is float32 on the CPU."""
    other = 4 * (OTHER_WEIGHTS + HEAD_DIM // 2)
    if quantization == "int8":
        return LINEAR_WEIGHTS + 4 * LINEAR_ROWS + other
    return LINEAR_WEIGHTS // 2 + 4 * LINEAR_WEIGHTS // 64 + other


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_bitsandbytes_replaces_the_linears(model: LlamaForCausalLM, folder: Path, quantization: str) -> None:
    quantized = loaded_as(quantization, located(folder), load_of(quantization))
    engine = engine_of(quantized)
    assert engine.effective(None).linear_classes == {QUANTIZED[quantization]: LINEARS, "Linear": 1}
    slack = 64 * LINEARS + 4 * HEAD_DIM // 2  # a 16-entry code table a layer, a second copy of the frequencies
    assert 0 <= engine.weights_bytes - expected_bytes(quantization) <= slack
    ids = prompts(1, 33)
    exact = torch.tensor(engine_of(model).token_nll(ids)).flatten()
    close = torch.tensor(engine.token_nll(ids)).flatten()
    assert not torch.equal(exact, close)
    assert torch.corrcoef(torch.stack([exact, close]))[0, 1] > LIKENESS[quantization]
    narrowed = 2 * LINEAR_WEIGHTS // 64 if _has_bf16_scales(quantized) else 0
    after = engine_of(quantized).weights_bytes - expected_bytes(quantization)
    assert 0 <= after + narrowed <= slack, "after a forward"


def _has_bf16_scales(model: Any) -> bool:
    """On a CPU with AVX512-BF16 the first product of a 4-bit layer reorders its codes and narrows its scales."""
    states = [getattr(parameter, "quant_state", None) for parameter in model.parameters()]
    return any(getattr(state, "packing_format_for_cpu", False) for state in states)


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_both_roads_to_a_quantized_model_meet(folder: Path, quantization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantized in place (random weights) or while loading: the same classes, bytes and answers."""
    loaded = loaded_as(quantization, located(folder), load_of(quantization))
    monkeypatch.setattr("jobs.models.random_weights.build_random", lambda *_: tiny_llama().requires_grad_(False))
    swapped = loaded_as(quantization, Located("random:tiny", None, TINY), load_of(quantization))

    def kinds(model: Any) -> Counter[tuple[str, str]]:
        return Counter(
            (type(module).__name__, type(p).__name__) for module in model.modules() for p in module._parameters.values()
        )

    assert kinds(swapped) == kinds(loaded)
    assert engine_of(swapped).weights_bytes == engine_of(loaded).weights_bytes
    ids = prompts(2, 20)
    assert engine_of(swapped).token_nll(ids) == engine_of(loaded).token_nll(ids)
    assert run(engine_of(swapped), ids, "on", 8).tokens() == run(engine_of(loaded), ids, "on", 8).tokens()


# --- loading


@pytest.mark.parametrize("quantization", ["fp32", "int8"])
def test_a_checkpoint_that_lacks_a_tensor_is_unavailable(folder: Path, tmp_path: Path, quantization: str) -> None:
    lacking = "model.layers.1.mlp.up_proj.weight"
    tensors = load_file(folder / "model.safetensors")
    del tensors[lacking]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ModelUnavailable, match=lacking):
        loaded_as(quantization, located(tmp_path), load_of(quantization))


def test_a_folder_without_weights_is_unavailable(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ModelUnavailable, match="safetensors"):
        loaded_as("fp32", located(tmp_path), load_of("fp32"))


@pytest.mark.parametrize(("quantization", "quantizer"), [("int8", "int8_vectorwise_quant"), ("nf4", "quantize_4bit")])
def test_out_of_memory_while_quantizing_stays_out_of_memory(
    folder: Path, quantization: str, quantizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(f"bitsandbytes.functional.{quantizer}", full)
    with pytest.raises(torch.OutOfMemoryError):
        loaded_as(quantization, located(folder), load_of(quantization))


@pytest.mark.parametrize(("quantization", "dtype"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
def test_dense_precisions(folder: Path, quantization: str, dtype: str) -> None:
    engine = engine_of(loaded_as(quantization, located(folder), load_of(quantization)))
    assert engine.effective(None).parameter_dtypes == {dtype: LINEAR_WEIGHTS + OTHER_WEIGHTS}


def test_load_engine_on_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "locate", lambda ref, cache: Located("random:tiny", None, TINY))
    load = Load(ModelRef("random", "llama-3-8b"), "nf4", "eager", "cpu")
    engine = loading.load_engine(load, None, seed=3)
    assert isinstance(engine.tokenizer, ByteTokenizer)
    assert engine.effective(None).linear_classes == {"Linear4bit": LINEARS, "Linear": 1}
    assert engine.token_nll(prompts(1)) == loading.load_engine(load, None, seed=3).token_nll(prompts(1))
    assert engine.token_nll(prompts(1)) != loading.load_engine(load, None, seed=4).token_nll(prompts(1))


def test_the_row_names_the_commit_of_a_hub_models_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "locate", lambda ref, cache: Located("random:tiny", "c0ffee", TINY))
    engine = loading.load_engine(load_of("fp32"), None, seed=0)
    assert engine.effective(None).quantization == {"bits": "32", "commit": "c0ffee"}


def test_a_folder_without_a_tokenizer_is_unavailable(folder: Path) -> None:
    load = Load(ModelRef("local", "tiny", None, str(folder)), "fp32", "eager", "cpu")
    with pytest.raises(ModelUnavailable, match="tokenizer"):
        loading.load_engine(load, None, seed=0)


# --- on a GPU


def on_gpu(quantization: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(loading, "locate", lambda ref, cache: Located("random:tiny", None, TINY))
    return loading.load_engine(load_of(quantization, "cuda"), None, seed=0)


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("quantization", ["fp16", "bf16", "nf4"])  # int8 reads the outlier columns back by design
@pytest.mark.parametrize("cache_mode", ["on", "off"])
def test_nothing_waits_on_a_gpu(quantization: str, cache_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = on_gpu(quantization, monkeypatch)
    run(engine, prompts(2), cache_mode, 4)
    generation = engine.begin(prompts(2), cache_mode, 4)
    engine.stopwatch.synchronize()
    with waiting_raises():
        generation.prefill()
        engine.stopwatch.mark()
        generation.first_token()
        generation.decode_step()
        generation.decode_step()


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("quantization", ["fp16", "int8", "nf4"])
def test_a_gpu_engine(quantization: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = on_gpu(quantization, monkeypatch)
    loaded = loaded_as(quantization, located(folder), load_of(quantization, "cuda"))
    assert engine.model.device.type == loaded.device.type == "cuda"
    assert engine.effective(None).linear_classes == engine_of(loaded, "cuda").effective(None).linear_classes
    assert engine.weights_bytes == engine_of(loaded, "cuda").weights_bytes
    assert engine.effective(None).linear_classes.get("Linear", 0) == (LINEARS + 1 if quantization == "fp16" else 1)
    ids = prompts(3)
    assert run(engine_of(loaded, "cuda"), ids, "on", 12).tokens() == by_generate(loaded, ids, 12)
