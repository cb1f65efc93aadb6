"""Random weights: the model must be the one that transformers would build, down to the rotary buffers."""

import dataclasses
import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from farm.architectures import Architecture
from jobs.models.random_weights import WEIGHT_STD, build_random, llama_config

SMALL = Architecture(
    layers=2,
    hidden=64,
    intermediate=96,
    heads=4,
    kv_heads=2,
    head_dim=32,  # not hidden / heads, as in Mistral's larger models
    vocab=256,
    max_positions=512,
    tied_embeddings=False,
    rope_theta=500000.0,
    norm_eps=1e-5,
)
TIED = dataclasses.replace(SMALL, tied_embeddings=True, head_dim=16)
TOKENS = torch.arange(300).remainder(256).reshape(1, 300)


@pytest.mark.parametrize("architecture", [SMALL, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_equal_those_of_a_normally_built_model(architecture, dtype):
    model = build_random(architecture, dtype, "cpu", seed=3)
    normal = LlamaForCausalLM._from_config(llama_config(architecture, dtype), dtype=dtype).eval()
    normal.load_state_dict(model.state_dict())

    with torch.no_grad():
        logits, expected = model(TOKENS).logits, normal(TOKENS).logits
    assert logits.dtype == dtype
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, expected)


def test_a_wrong_rotary_buffer_would_show_in_the_logits():
    """Guards the test above: with weights this small, do positions reach the logits at all?"""
    model = build_random(SMALL, torch.float32, "cpu", seed=3)
    before = model(TOKENS).logits
    model.model.rotary_emb.inv_freq.zero_()
    assert not torch.equal(before, model(TOKENS).logits)


def test_the_rotary_frequencies_follow_the_formula_in_float32():
    rotary = build_random(SMALL, torch.bfloat16, "cpu", seed=0).model.rotary_emb
    expected = [SMALL.rope_theta ** (-2 * i / SMALL.head_dim) for i in range(SMALL.head_dim // 2)]
    assert rotary.inv_freq.dtype == torch.float32
    torch.testing.assert_close(rotary.inv_freq, torch.tensor(expected))
    torch.testing.assert_close(rotary.original_inv_freq, torch.tensor(expected))


def test_the_seed_decides_the_weights():
    first, again, other = (build_random(SMALL, torch.float32, "cpu", seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_random(SMALL, torch.float32, "cpu", seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_matrices_are_normal_and_norms_are_one():
    model = build_random(SMALL, torch.float32, "cpu", seed=0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert abs(parameter.mean()) < 0.1 * WEIGHT_STD, name
            assert parameter.std() == pytest.approx(WEIGHT_STD, rel=0.1), name


@pytest.mark.parametrize("architecture", [SMALL, TIED], ids=["untied", "tied"])
def test_the_model_is_ready_for_inference_and_has_the_true_size(architecture):
    model = build_random(architecture, torch.bfloat16, "cpu", seed=0)
    parameters = list(model.parameters())
    assert not model.training
    assert not any(parameter.requires_grad for parameter in parameters)
    assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
    assert sum(parameter.numel() for parameter in parameters) == architecture.parameters
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    assert tied == architecture.tied_embeddings
    assert not any(tensor.is_meta for tensor in itertools.chain(parameters, model.buffers()))


class Allocations(TorchDispatchMode):
    """Sums the storage of every new real tensor and remembers the largest float32 one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, torch.UntypedStorage] = {}
        self.largest_float32 = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not out.is_meta:
            storage = out.untyped_storage()
            self.seen[storage.data_ptr()] = storage  # kept alive, so that no address is used twice
            if out.dtype == torch.float32:
                self.largest_float32 = max(self.largest_float32, out.numel())
        return out


def test_building_needs_the_final_weights_and_small_change():
    with Allocations() as allocations:
        build_random(SMALL, torch.bfloat16, "cpu", seed=0)
    built = sum(storage.nbytes() for storage in allocations.seen.values())
    assert SMALL.parameters * 2 <= built <= SMALL.parameters * 2 + 4096
    assert allocations.largest_float32 <= SMALL.head_dim  # the rotary frequencies


def test_generation_with_the_cache_equals_generation_without():
    model = build_random(SMALL, torch.float32, "cpu", seed=0)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    prompt = TOKENS[:, :20]
    with_cache = model.generate(prompt, attention_mask=torch.ones_like(prompt), use_cache=True, **options)
    without = model.generate(prompt, attention_mask=torch.ones_like(prompt), use_cache=False, **options)
    assert with_cache.shape == (1, 28)
    assert torch.equal(with_cache, without)
