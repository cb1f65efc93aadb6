"""The persistent decode step, its CUDA source run on fibers: the same tokens and caches as the graph of kernels."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from farm.architectures import Architecture
from jobs.models.random_weights import build_random
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.persistent import PersistentStep, build_for, why_not
from jobs.turbo.recipe import Recipe
from jobs.turbo.step import DecodeState
from tests.emulation import emulated_kernel

# Two layers; 6 tiles of heads and uneven ones of the rest over 5 blocks, so that blocks get different shares.
TINY = Architecture(2, 1024, 1024, 16, 4, 64, 272, 512, False, 10000.0, 1e-5)
STEPS, LONGEST = 2, 512
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the emulated kernel")


def decoder_of(recipe: Recipe, dtype: torch.dtype = torch.float16) -> TurboDecoder:
    model = build_random(TINY, dtype, "cpu", seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)  # wide enough that the greedy tokens vary
            else:
                parameter.copy_(0.5 + torch.rand_like(parameter))
    return TurboDecoder(model, recipe)


def generate(decoder: TurboDecoder, prompt: list[int], folder: Path) -> tuple[list[int], KvCache]:
    """The tokens after the prompt and the cache, as the persistent step leaves them. Without a prompt token 0 is fed."""
    cache = KvCache.allocate(decoder.shape, 1, LONGEST, like=decoder.weights.embedding)
    state = DecodeState.allocate(1, LONGEST, decoder.device)
    if prompt:
        state.take_first(decoder.prefill(torch.tensor([prompt]), cache), len(prompt))
    build = replace(build_for(decoder.shape, decoder.weights, blocks=5), warps=2, shared_bytes=200_000)
    kernel = emulated_kernel(build, folder)
    step = PersistentStep(build, decoder.weights, decoder.table.rows(LONGEST), state, cache, kernel)
    for _ in range(STEPS):
        step.run()
    end = len(prompt) + STEPS
    assert state.counters.flatten().tolist() == [end, end + 1]
    assert state.token.tolist() == [state.ids[0, end]]
    return state.ids[0, : end + 1].tolist()[len(prompt) :], cache


@NEEDS_COMPILER
@pytest.mark.parametrize("length", [0, 5, 300])
@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        (Recipe(), torch.float16),
        (Recipe(), torch.bfloat16),
        (Recipe("int8", "int8"), torch.float16),
        (Recipe("int4", "int8"), torch.float16),
    ],
    ids=["fp16", "bf16", "int8", "int4"],
)
def test_tokens_and_cache_are_those_of_the_whole_sequence(
    recipe: Recipe, dtype: torch.dtype, length: int, tmp_path: Path
) -> None:
    """Rounding may turn a tie: the logit of each token must be within the rounding of the best one's."""
    decoder = decoder_of(recipe, dtype)
    prompt = torch.randint(0, TINY.vocab, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    new, cache = generate(decoder, prompt, tmp_path)
    fed = torch.tensor([[*prompt, *new[:-1]]])
    whole = KvCache.allocate(decoder.shape, 1, LONGEST, like=decoder.weights.embedding)
    decoder.prefill(fed, whole)
    logits = decoder.logits(fed)[0, -STEPS:].float()
    chosen = logits.gather(-1, torch.tensor(new[1:]).unsqueeze(-1)).squeeze(-1)
    assert (logits.amax(-1) - chosen <= 8 * torch.finfo(dtype).eps * logits.abs().amax(-1)).all()
    rounding = 16 * torch.finfo(dtype).eps
    for own, other in ((cache.keys, whole.keys), (cache.values, whole.values)):
        assert (own - other).abs().max() <= rounding * other.abs().max()
        assert other[:, :, :, length].abs().max() > 0


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
