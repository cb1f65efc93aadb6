"""The weights of linear layers in 16, 8 and 4 bit: what is stored, how it is made, and what it stands for.

The physics: one decode step reads every weight once, so its time is bytes over bandwidth. 8 bit with one scale a row
halves the bytes of 16 bit; 4 bit with a 16-bit scale for each group of 128 makes 4.125 bits of 16, zero points 4.25.

    weight = quantize_int4(torch.randn(4096, 4096, dtype=torch.bfloat16), group=128)
    weight_bytes(weight)            # 8_650_752: 8.4 MB of codes, 0.26 MB of scales

How 4-bit codes lie in `Int4.packed` (int32 [out, in / 8], the rows in order). Within a group of G inputs the 32-bit
word number w holds the inputs k = j * G/4 + 2 * w + h in its bits 16 * h + 4 * j, for j in 0..3 and h in 0..1:

    bit   31  28  24  20  16  12   8   4   0
    j, h   3,1 2,1 1,1 0,1 3,0 2,0 1,0 0,0          (word 0 of a group of 128: k = 97 65 33 1 | 96 64 32 0)

Why so: one AND and one OR turn a word into a pair of 16-bit floats (k, k + 1) that multiplies a pair of inputs as they
lie in memory; and taken as 16-bit integers, the j-th nibbles of a whole group are a matrix operand of inputs in order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from farm.errors import Unsupported

_LEVELS_INT8 = 127
SYMMETRIC_ZERO = 8  # the code of 0 where no zero points are stored
_INT32_SIGN = 1 << 31


@dataclass(frozen=True, slots=True)
class Dense:
    """`weight`: [out, in] in a 16-bit type (float32 on a CPU)."""

    weight: Tensor


@dataclass(frozen=True, slots=True)
class Int8:
    """`codes`: int8 [out, in], -127 to 127; `scales`: [out]. The weight is code * scale."""

    codes: Tensor
    scales: Tensor


@dataclass(frozen=True, slots=True)
class Int4:
    """`packed`: int32 [out, in / 8], see above; `scales`, `zeros`: [out, in / group]; `shape`: (out, in).

    The weight is (code - zero) * scale with codes 0 to 15. Zeros are whole numbers 0 to 16; None stands for 8.
    """

    packed: Tensor
    scales: Tensor
    zeros: Tensor | None
    group: int
    shape: tuple[int, int]


Weight = Dense | Int8 | Int4


def shape_of(weight: Weight) -> tuple[int, int]:
    """(out, in)."""
    if isinstance(weight, Int4):
        return weight.shape
    rows, columns = (weight.weight if isinstance(weight, Dense) else weight.codes).shape
    return rows, columns


def quantize_int8(weight: Tensor) -> Int8:
    """Round [out, in] to the nearest of 255 levels, symmetric, the largest of each row at 127. Rows of 0 get scale 1.

    Scales keep the type of `weight`; they are rounded to it first, so that codes fit the scale that is stored.
    """
    largest = weight.abs().amax(dim=1, keepdim=True).float()
    scales = torch.where(largest > 0, largest / _LEVELS_INT8, 1.0).to(weight.dtype)
    codes = (weight.float() / scales.float()).round().clamp(-_LEVELS_INT8, _LEVELS_INT8).to(torch.int8)
    return Int8(codes, scales.squeeze(1))


def quantize_int4(weight: Tensor, group: int = 128) -> Int4:
    """Round [out, in] to 15 levels -7 to 7 about 0, the largest of each group at 7.

    Raises Unsupported where groups do not divide the inputs.
    """
    rows, columns = weight.shape
    _check_group(columns, group)
    grouped = weight.float().view(rows, columns // group, group)
    largest = grouped.abs().amax(dim=2, keepdim=True)
    scales = torch.where(largest > 0, largest / 7, 1.0).to(weight.dtype)
    codes = (grouped / scales.float()).round().clamp(-7, 7) + SYMMETRIC_ZERO
    return pack_int4(codes.to(torch.uint8).view(rows, columns), scales.squeeze(2), None, group)


def pack_int4(codes: Tensor, scales: Tensor, zeros: Tensor | None, group: int) -> Int4:
    """Lay out uint8 codes [out, in] of 0 to 15 with scales and zeros [out, in / group].

    Raises Unsupported where groups do not divide the inputs.
    """
    rows, columns = codes.shape
    _check_group(columns, group)
    quarters = codes.view(rows, columns // group, 4, group // 8, 2).long()  # [out, groups, j, w, h]
    words = torch.zeros(rows, columns // group, group // 8, dtype=torch.long, device=codes.device)
    for j in range(4):
        for h in range(2):
            words |= quarters[:, :, j, :, h] << (16 * h + 4 * j)
    signed = (words ^ _INT32_SIGN) - _INT32_SIGN  # the same 32 bits, as a number that int32 holds
    return Int4(signed.to(torch.int32).view(rows, columns // 8), scales, zeros, group, (rows, columns))


def unpack_int4(weight: Int4) -> Tensor:
    """The codes again, uint8 [out, in]."""
    rows, columns = weight.shape
    words = weight.packed.view(rows, columns // weight.group, 1, weight.group // 8, 1)
    low = torch.arange(4, device=words.device, dtype=torch.int32).view(4, 1, 1) * 4
    shifts = low + torch.tensor([0, 16], device=words.device, dtype=torch.int32)
    return ((words >> shifts) & 15).to(torch.uint8).view(rows, columns)


def dequantize(weight: Weight, dtype: torch.dtype) -> Tensor:
    """What the weight stands for, [out, in], multiplied in float32 and rounded once to `dtype`."""
    if isinstance(weight, Dense):
        return weight.weight.to(dtype)
    if isinstance(weight, Int8):
        return (weight.codes.float() * weight.scales.float()[:, None]).to(dtype)
    rows, columns = weight.shape
    codes = unpack_int4(weight).view(rows, columns // weight.group, weight.group).float()
    zeros = SYMMETRIC_ZERO if weight.zeros is None else weight.zeros.float()[:, :, None]
    return ((codes - zeros) * weight.scales.float()[:, :, None]).to(dtype).view(rows, columns)


def concat(weights: list[Weight]) -> Weight:
    """One weight whose outputs are those of all in order (q, k and v; gate and up).

    Raises Unsupported for a mixture of kinds, groups or input widths.
    """
    first = weights[0]
    if len({_signature(weight) for weight in weights}) > 1:
        found = ", ".join(str(_signature(weight)) for weight in weights)
        raise Unsupported(f"weights to be fused must be of one kind and input width, these are {found}; quantize alike")
    if isinstance(first, Dense):
        return Dense(torch.cat([w.weight for w in weights if isinstance(w, Dense)]))
    if isinstance(first, Int8):
        same = [w for w in weights if isinstance(w, Int8)]
        return Int8(torch.cat([w.codes for w in same]), torch.cat([w.scales for w in same]))
    return _concat_int4([w for w in weights if isinstance(w, Int4)])


def weight_bytes(weight: Weight) -> int:
    """All that one product must read: codes, scales and zeros."""
    parts = (getattr(weight, name, None) for name in ("weight", "codes", "packed", "scales", "zeros"))
    return sum(part.nbytes for part in parts if part is not None)


def _concat_int4(weights: list[Int4]) -> Int4:
    """Zeros are written out where only some of the weights have them."""
    zeros = None
    if any(weight.zeros is not None for weight in weights):
        zeros = torch.cat([torch.full_like(w.scales, SYMMETRIC_ZERO) if w.zeros is None else w.zeros for w in weights])
    rows = sum(weight.shape[0] for weight in weights)
    packed = torch.cat([weight.packed for weight in weights])
    return Int4(packed, torch.cat([w.scales for w in weights]), zeros, weights[0].group, (rows, weights[0].shape[1]))


def _signature(weight: Weight) -> tuple[str, int, int]:
    return type(weight).__name__, shape_of(weight)[1], weight.group if isinstance(weight, Int4) else 0


def _check_group(columns: int, group: int) -> None:
    if group < 8 or group % 8 or columns % group:
        raise Unsupported(
            f"4-bit groups of {group} do not divide {columns} inputs (a group must be a multiple of 8 too); "
            "choose a group that does, such as 64 or 32"
        )
