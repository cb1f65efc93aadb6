"""The persistent decode step, its CUDA source run on fibers: the same tokens and caches as the graph of kernels."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from farm.architectures import Architecture
from jobs.models.random_weights import build_random
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.persistent import Build, PersistentStep, build_for, why_not
from jobs.turbo.persistent.compiler import compiled_kernel
from jobs.turbo.persistent.step import Kernel
from jobs.turbo.recipe import Recipe
from jobs.turbo.step import DecodeState
from tests.emulation import emulated_kernel

# Two layers; 6 tiles of heads and uneven ones of the rest over 5 blocks, so that blocks get different shares. In stages
# of 512 bytes a row, the inputs of the last product of a layer come in several.
TINY = Architecture(2, 1024, 2048, 16, 4, 64, 272, 512, False, 10000.0, 1e-5)
LONGEST = 512


@dataclass(frozen=True, slots=True)
class Made:
    """`new`: the token fed first and those of the steps; `cache`: of all but the last of them."""

    prompt: list[int]
    new: list[int]
    cache: KvCache


NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the emulated kernel")


def decoder_of(recipe: Recipe, dtype: torch.dtype = torch.float16, device: str = "cpu") -> TurboDecoder:
    model = build_random(TINY, dtype, device, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)  # wide enough that the greedy tokens vary
            else:
                parameter.copy_(0.5 + torch.rand_like(parameter))
    return TurboDecoder(model, recipe)


def generate(decoder: TurboDecoder, prompt: list[int], build: Build, kernel: Kernel, steps: int) -> Made:
    """As the persistent step leaves them. Without a prompt token 0 is fed first."""
    cache = KvCache.allocate(decoder.shape, 1, LONGEST, like=decoder.weights.embedding)
    state = DecodeState.allocate(1, LONGEST, decoder.device)
    if prompt:
        state.take_first(decoder.prefill(torch.tensor([prompt], device=decoder.device), cache), len(prompt))
    step = PersistentStep(build, decoder.weights, decoder.table.rows(LONGEST), state, cache, kernel)
    for _ in range(steps):
        step.run()
    end = len(prompt) + steps
    assert state.counters.flatten().tolist() == [end, end + 1]
    assert state.token.tolist() == [state.ids[0, end]]
    return Made(prompt, state.ids[0, : end + 1].tolist()[len(prompt) :], cache)


def check(decoder: TurboDecoder, made: Made) -> None:
    """Against one forward over the whole sequence. Rounding may turn a tie: the logit of each token must be within the
    rounding of the best one's."""
    fed = torch.tensor([[*made.prompt, *made.new[:-1]]], device=decoder.device)
    whole = KvCache.allocate(decoder.shape, 1, LONGEST, like=decoder.weights.embedding)
    decoder.prefill(fed, whole)
    logits = decoder.logits(fed)[0, len(made.prompt) :].float()
    chosen = logits.gather(-1, torch.tensor(made.new[1:], device=decoder.device).unsqueeze(-1)).squeeze(-1)
    rounding = 16 * torch.finfo(decoder.dtype).eps
    assert (logits.amax(-1) - chosen <= rounding / 2 * logits.abs().amax(-1)).all()
    for own, other in ((made.cache.keys, whole.keys), (made.cache.values, whole.values)):
        assert other[:, :, :, fed.shape[1] - 1].abs().max() > 0
        assert (own - other).abs().max() <= rounding * other.abs().max()


def prompt_of(length: int) -> list[int]:
    ids: list[int] = torch.randint(0, TINY.vocab, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    return ids


RECIPES = {
    "fp16": (Recipe(), torch.float16),
    "bf16": (Recipe(), torch.bfloat16),
    "int8": (Recipe("int8", "int8"), torch.float16),
    "int4": (Recipe("int4", "int8"), torch.float16),
}


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("name", "length", "steps", "ahead_kib"),
    [
        ("fp16", 0, 2, 0),
        ("fp16", 300, 1, 0),
        ("bf16", 5, 1, 16),
        ("int8", 17, 1, 32),
        ("int4", 40, 1, 32),
    ],
)
def test_the_source_run_on_fibers(name: str, length: int, steps: int, ahead_kib: int, tmp_path: Path) -> None:
    decoder = decoder_of(*RECIPES[name])
    build = build_for(decoder.shape, decoder.weights, blocks=5)
    build = replace(build, slice_bytes=512, warps=2, shared_bytes=200_000, ahead_kib=ahead_kib)
    check(decoder, generate(decoder, prompt_of(length), build, emulated_kernel(build, tmp_path), steps))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("length", [0, 5, 127, 128, 129, 400])
def test_on_a_gpu(name: str, length: int) -> None:
    decoder = decoder_of(*RECIPES[name], device="cuda")
    blocks = torch.cuda.get_device_properties(0).multi_processor_count
    build = build_for(decoder.shape, decoder.weights, blocks)
    made = generate(decoder, prompt_of(length), build, compiled_kernel(build, decoder.device), steps=40)
    assert len(set(made.new)) > 5
    check(decoder, made)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("ahead_kib", [0, 64])
def test_an_early_start_on_a_gpu(name: str, ahead_kib: int) -> None:
    """Few blocks and short stages, so that the last product of a layer begins early as it does in large models."""
    decoder = decoder_of(*RECIPES[name], device="cuda")
    build = replace(build_for(decoder.shape, decoder.weights, blocks=20), slice_bytes=512, ahead_kib=ahead_kib)
    check(decoder, generate(decoder, prompt_of(129), build, compiled_kernel(build, decoder.device), steps=40))


def test_what_it_cannot_serve_is_told() -> None:
    decoder = decoder_of(Recipe("int4", "int8"))
    assert why_not(decoder.shape, decoder.weights, batch=1) is None
    assert why_not(decoder.shape, decoder.weights, batch=2) == "it serves one sequence"
    assert "several kinds" in str(why_not(decoder.shape, mixed(decoder), batch=1))
    assert "16 bit" in str(why_not(decoder.shape, decoder_of(Recipe(), torch.float32).weights, batch=1))
    groups_of_64 = decoder_of(Recipe("int4", "int8", 64)).weights
    assert "tiles" in str(why_not(decoder.shape, groups_of_64, batch=1))
    assert "float16" in str(why_not(decoder.shape, decoder_of(Recipe("int8"), torch.bfloat16).weights, batch=1))


def mixed(decoder: TurboDecoder) -> object:
    dense = decoder_of(Recipe()).weights.layers[0].out
    layers = (replace(decoder.weights.layers[0], out=dense), decoder.weights.layers[1])
    return replace(decoder.weights, layers=layers)
