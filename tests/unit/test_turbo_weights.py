"""Weights in 8 and 4 bit: layout, rounding, fusion and bytes, checked by hand and by round trips."""

import pytest
import torch

from farm.errors import Unsupported
from jobs.turbo.weights import (
    Dense,
    Int4,
    Int8,
    Weight,
    concat,
    dequantize,
    pack_int4,
    quantize_int4,
    quantize_int8,
    shape_of,
    unpack_int4,
    weight_bytes,
)


def _random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_int8_by_hand() -> None:
    weight = quantize_int8(torch.tensor([[127.0, -63.6, 0.4], [0.0, 0.0, 0.0]]))
    assert weight.codes.tolist() == [[127, -64, 0], [0, 0, 0]]
    assert weight.scales.tolist() == [1.0, 1.0]
    assert dequantize(weight, torch.float32).tolist() == [[127.0, -64.0, 0.0], [0.0, 0.0, 0.0]]


def test_int8_is_off_by_half_a_step_at_most() -> None:
    source = _random(64, 300)
    weight = quantize_int8(source)
    off = (dequantize(weight, torch.float32) - source).abs()
    assert bool((off <= weight.scales[:, None] * 0.5001).all())
    assert bool((weight.codes.abs().amax(dim=1) == 127).all())


def test_int4_by_hand() -> None:
    weight = quantize_int4(torch.tensor([[7.0, -7.0, 3.4, -3.6, 0.0, 1.0, 2.0, 0.4, *[0.0] * 8]]), group=8)
    assert unpack_int4(weight).tolist() == [[15, 1, 11, 4, 8, 9, 10, 8, *[8] * 8]]
    assert weight.scales.tolist() == [[1.0, 1.0]]
    assert dequantize(weight, torch.float32)[0, :8].tolist() == [7.0, -7.0, 3.0, -4.0, 0.0, 1.0, 2.0, 0.0]


def test_codes_of_a_16_bit_type_fit_the_rounded_scale() -> None:
    """A scale rounded down must not push the largest weight past its code."""
    source = _random(64, 256).bfloat16()
    for weight, step in ((quantize_int8(source), 1 / 127), (quantize_int4(source), 1 / 7)):
        off = (dequantize(weight, torch.float32) - source.float()).abs()
        assert float(off.max()) <= 0.5 * step * float(source.abs().max()) * 1.05


def test_the_layout_of_a_word_is_the_documented_one() -> None:
    codes = torch.zeros(1, 128, dtype=torch.uint8)
    for position, k in enumerate((0, 32, 64, 96, 1, 33, 65, 97)):  # from the lowest nibble up
        codes[0, k] = position + 8
    packed = pack_int4(codes, torch.ones(1, 1), None, 128).packed
    assert packed.shape == (1, 16)
    assert packed[0, 0].item() & 0xFFFFFFFF == 0xFEDCBA98
    assert not packed[0, 1:].any()


@pytest.mark.parametrize("group", [8, 32, 64, 128, 576])
def test_packing_loses_nothing(group: int) -> None:
    codes = torch.randint(0, 16, (5, 1152), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    groups = 1152 // group
    scales, zeros = _random(5, groups), torch.randint(0, 17, (5, groups)).float()
    weight = pack_int4(codes, scales, zeros, group)
    assert torch.equal(unpack_int4(weight), codes)
    by_hand = (codes.view(5, groups, group) - zeros[..., None]) * scales[..., None]
    assert torch.equal(dequantize(weight, torch.float32), by_hand.view(5, 1152))


def test_groups_that_do_not_fit_are_unsupported() -> None:
    for group in (128, 4, 12):
        with pytest.raises(Unsupported, match="groups of"):
            quantize_int4(_random(4, 576), group)


@pytest.mark.parametrize("quantize", [Dense, quantize_int8, lambda w: quantize_int4(w, 64)])
def test_fusing_is_stacking(quantize: type[Dense]) -> None:
    parts: list[Weight] = [quantize(_random(rows, 128, seed=rows)) for rows in (3, 5)]
    fused = concat(parts)
    assert shape_of(fused) == (8, 128)
    stacked = torch.cat([dequantize(part, torch.float32) for part in parts])
    assert torch.equal(dequantize(fused, torch.float32), stacked)
    assert weight_bytes(fused) == sum(weight_bytes(part) for part in parts)


def test_fusing_with_and_without_zeros_writes_eights() -> None:
    plain = quantize_int4(_random(3, 64), 64)
    shifted = pack_int4(unpack_int4(plain), plain.scales, torch.full((3, 1), 3.0), 64)
    fused = concat([plain, shifted])
    assert isinstance(fused, Int4) and fused.zeros is not None
    assert fused.zeros.flatten().tolist() == [8.0] * 3 + [3.0] * 3
    both = torch.cat([dequantize(one, torch.float32) for one in (plain, shifted)])
    assert torch.equal(dequantize(fused, torch.float32), both)


def test_what_is_not_alike_is_not_fused() -> None:
    weight = _random(4, 128)
    for other in (quantize_int8(weight), quantize_int4(weight, 64), quantize_int4(_random(4, 256))):
        with pytest.raises(Unsupported, match="of one kind"):
            concat([quantize_int4(weight), other])


def test_bytes_are_codes_scales_and_zeros() -> None:
    source = _random(4096, 512).bfloat16()
    int4 = quantize_int4(source)
    zeros = torch.zeros_like(int4.scales)
    assert weight_bytes(Dense(source)) == 4096 * 512 * 2
    assert weight_bytes(quantize_int8(source)) == 4096 * 512 + 4096 * 2
    assert weight_bytes(int4) == 4096 * 512 // 2 + 4096 * 4 * 2
    assert weight_bytes(Int4(int4.packed, int4.scales, zeros, 128, int4.shape)) == 4096 * 512 // 2 + 2 * 4096 * 4 * 2


def test_a_dense_weight_stands_for_itself() -> None:
    source = _random(3, 8)
    assert dequantize(Dense(source), torch.float32) is source
    assert dequantize(Int8(torch.ones(1, 2, dtype=torch.int8), torch.tensor([0.5])), torch.float16).tolist() == [
        [0.5, 0.5]
    ]
