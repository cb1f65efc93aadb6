"""Bytes and FLOPs by hand: a model small enough to count, then the numbers known for Llama-3-8B on an H100."""

from dataclasses import replace
from typing import Any

import pytest

from farm.architectures import KNOWN, Architecture, architecture_of_config
from farm.catalog import PRECISIONS
from farm.records import DeviceLimits
from farm.roofline import (
    Shape,
    Work,
    bound,
    decode_work,
    distance,
    limit_s,
    mbu,
    mfu,
    prefill_work,
    step_weight_bytes,
)

# Linear weights 4*2*(4+2) + 3*4*8 = 144; embedding 40 and head 40; norms 4*3 = 12; 4 key/value numbers a token.
TINY = Architecture(1, 4, 8, 2, 1, 2, 10, 64, False, 1e4, 1e-5)
TIED = replace(TINY, tied_embeddings=True)
FP16, NF4 = PRECISIONS["fp16"], PRECISIONS["nf4"]
H100 = DeviceLimits(copy_bytes_per_s=3030e9, gemm_flops=770e12, gemm_dtype="bfloat16")
LLAMA = KNOWN["llama-3-8b"]
MISSION = Shape(batch=1, prompt_tokens=1920, new_tokens=128)

# --- bytes and FLOPs of the tiny model


def test_every_weight_but_the_embedding_table_is_read() -> None:
    assert step_weight_bytes(TINY, FP16) == 2 * (144 + 40 + 12)
    assert step_weight_bytes(TINY, NF4) == 144 * 4.5 / 8 + 2 * (40 + 12)


def test_a_tied_table_is_read_as_the_head() -> None:
    assert step_weight_bytes(TIED, FP16) == 2 * (144 + 40 + 12)


def test_measured_weights_count_with_their_scales() -> None:
    predicted = 2 * (144 + 80 + 12)
    assert step_weight_bytes(TINY, FP16, measured_total=predicted + 30) == 2 * (144 + 40 + 12) + 30
    assert step_weight_bytes(TIED, FP16, measured_total=420) == 420


def test_a_second_copy_of_the_weights_is_not_read_in_one_step() -> None:
    assert step_weight_bytes(TINY, NF4, measured_total=2 * 236 + 250) == step_weight_bytes(TINY, NF4)


def test_a_decode_step() -> None:
    """3 prompt tokens, one step: 1 embedding row of 8 bytes, and 8 bytes of keys and values for each of 4 tokens."""
    work = decode_work(TINY, FP16, Shape(batch=1, prompt_tokens=3, new_tokens=2))
    assert work == Work(bytes=392 + 8 + 8 * 4, flops=2 * (144 + 40) + 4 * 1 * 2 * 2 * 4)


def test_decode_is_the_mean_over_its_steps() -> None:
    work = decode_work(TINY, FP16, Shape(batch=1, prompt_tokens=3, new_tokens=4))  # lengths 4, 5, 6
    assert work == Work(bytes=392 + 8 + 8 * 5, flops=2 * (144 + 40) + 16 * 5)


def test_a_batch_reads_the_weights_once() -> None:
    work = decode_work(TINY, FP16, Shape(batch=10, prompt_tokens=3, new_tokens=2))
    assert work == Work(bytes=392 + 10 * (8 + 32), flops=10 * (368 + 64))


def test_a_prefill() -> None:
    """3 tokens attend to 1 + 2 + 3 positions; the head works for the last one only."""
    work = prefill_work(TINY, FP16, Shape(batch=2, prompt_tokens=3, new_tokens=4))
    assert work == Work(bytes=392 + 2 * 3 * (8 + 8), flops=2 * (3 * 288 + 80 + 16 * 6))


def test_without_the_cache_a_step_is_a_forward_over_everything() -> None:
    off = Shape(batch=1, prompt_tokens=3, new_tokens=3, cache_on=False)  # lengths 4 and 5
    work = decode_work(TINY, FP16, off)
    assert work == Work(bytes=392 + 8 * 4.5, flops=4.5 * 288 + 80 + 16 * (10 + 15) / 2)
    assert prefill_work(TINY, FP16, off) == Work(bytes=392 + 3 * 8, flops=3 * 288 + 80 + 16 * 6)


def test_one_new_token_has_no_decode() -> None:
    assert decode_work(TINY, FP16, Shape(batch=1, prompt_tokens=3, new_tokens=1)) is None


# --- the roof

ROOF = DeviceLimits(copy_bytes_per_s=100.0, gemm_flops=1000.0, gemm_dtype="float32")


def test_the_longer_of_the_two_is_the_limit() -> None:
    memory, compute = Work(bytes=200.0, flops=1000.0), Work(bytes=200.0, flops=5000.0)
    assert (limit_s(memory, ROOF), bound(memory, ROOF)) == (2.0, "memory")
    assert (limit_s(compute, ROOF), bound(compute, ROOF)) == (5.0, "compute")
    assert (mbu(memory, 4.0, ROOF), mfu(compute, 10.0, ROOF)) == (0.5, 0.5)
    assert (distance(memory, 4.0, ROOF), distance(compute, 5.0, ROOF)) == (2.0, 1.0)


def test_llama_in_16_bit_on_an_h100() -> None:
    """15.0 GB without the embedding table, 131,072 bytes a token of cache: 198 tokens/s."""
    assert step_weight_bytes(LLAMA, FP16) == 15_009_849_344
    work = decode_work(LLAMA, FP16, MISSION)
    assert work is not None
    assert work.bytes == 15_009_849_344 + 8192 + 131_072 * 1984
    assert work.flops == 2 * (6_979_321_856 + 525_336_576) + 4 * 32 * 32 * 128 * 1984
    assert 1 / limit_s(work, H100) == pytest.approx(198.4, abs=0.1)
    assert bound(work, H100) == "memory"
    assert mbu(work, 1 / 153, H100) == pytest.approx(0.77, abs=0.01)


def test_llama_prompt_on_an_h100() -> None:
    """36 ms of the 40 ms that all positions through the head and unmasked attention would take."""
    work = prefill_work(LLAMA, FP16, MISSION)
    assert bound(work, H100) == "compute"
    assert limit_s(work, H100) == pytest.approx(0.0361, abs=0.0001)
    everything = 2 * (6_979_321_856 + 525_336_576) * 1920 + 4 * 32 * 32 * 128 * 1920**2
    assert everything / H100.gemm_flops == pytest.approx(0.040, abs=0.0005)


def test_four_bits_move_less() -> None:
    work = decode_work(LLAMA, NF4, MISSION)
    assert work is not None
    assert work.bytes == 6_979_321_856 * 4.5 / 8 + 2 * (525_336_576 + 4096 * 65) + 8192 + 131_072 * 1984


# --- the shape of a loaded model

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "head_dim": None,
}


def test_a_loaded_config_gives_the_shape() -> None:
    assert architecture_of_config(CONFIG) == LLAMA


def test_an_unused_or_wide_window_is_no_obstacle() -> None:
    assert architecture_of_config(CONFIG | {"sliding_window": 4096, "use_sliding_window": False}) == LLAMA
    assert architecture_of_config(CONFIG | {"sliding_window": None}) == LLAMA
    assert architecture_of_config(CONFIG | {"sliding_window": 8192}) == LLAMA


@pytest.mark.parametrize(
    "config",
    [
        CONFIG | {"model_type": "mixtral"},
        CONFIG | {"model_type": "gpt2"},
        CONFIG | {"sliding_window": 4096},
        CONFIG | {"num_attention_heads": None},
        CONFIG | {"num_attention_heads": 0},
        CONFIG | {"rope_parameters": "odd", "rope_theta": None},
        CONFIG | {"max_position_embeddings": None, "sliding_window": 5},
        {key: value for key, value in CONFIG.items() if key != "hidden_size"},
        {},
        None,
    ],
)
def test_what_is_counted_wrongly_or_not_at_all_is_none(config: Any) -> None:
    assert architecture_of_config(config) is None
