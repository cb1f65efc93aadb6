"""The 4-bit codes of GPTQ and AWQ checkpoints: unpacked from gptqmodel's layers, laid out anew for our kernels.

Why not quantize again: calibration took minutes to choose these codes, and rounding what they stand for would choose
others. Here the same 4 bits move to another place, with the same scales; nothing is rounded.

A 32-bit word holds 8 codes. GPTQ has 8 inputs in a word of `qweight` [in / 8, out] and 8 outputs in one of `qzeros`
[groups, out / 8], the first in the lowest bits. AWQ has 8 outputs in a word of either (`qweight` is [in, out / 8]), in
the order of its own GPU kernel: from the lowest bits up, 0 2 4 6 1 3 5 7. `scales` are [groups, out]. A zero point of 8
is the middle of the codes.

    weight = gptq_weight(model.model.layers[0].mlp.up_proj)     # Int4; CHECKPOINT_CONVERTERS finds it by class
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from farm.errors import Unsupported
from jobs.turbo.weights import SYMMETRIC_ZERO, Int4, pack_int4

_BITS = 4
# The lowest bit of the code of the outputs (or inputs) 0 to 7 in a word.
_IN_ORDER = (0, 4, 8, 12, 16, 20, 24, 28)
_AWQ_ORDER = (0, 16, 4, 20, 8, 24, 12, 28)


def gptq_weight(layer: Any) -> Int4:
    """Raises Unsupported for a layer that cannot be read as it is stored.

    A file of old holds zero points less one; the layer classes here hold the true ones, since gptqmodel adds the one
    while it loads. (`qzero_format()` is no witness: it says 1 on a layer whose zero points are read as they are.)
    """
    _check_readable(layer)
    _check_order(layer)
    return _repacked(layer, _codes(layer.qweight.T, _IN_ORDER), _codes(layer.qzeros, _IN_ORDER))


def awq_weight(layer: Any) -> Int4:
    """Raises Unsupported for a layer that cannot be read as it is stored."""
    _check_readable(layer)
    return _repacked(layer, _codes(layer.qweight, _AWQ_ORDER).T, _codes(layer.qzeros, _AWQ_ORDER))


# Those of gptqmodel's classes that hold a checkpoint's tensors in the order of the file.
CHECKPOINT_CONVERTERS: dict[str, Callable[[Any], Int4]] = {
    "TorchLinear": gptq_weight,
    "TorchAtenLinear": gptq_weight,
    "TritonV2Linear": gptq_weight,
    "AwqTorchLinear": awq_weight,
    "TorchAtenAwqLinear": awq_weight,
    "AwqGEMMTritonLinear": awq_weight,
}


def _codes(words: Tensor, shifts: tuple[int, ...]) -> Tensor:
    """int32 [rows, n] to uint8 [rows, 8 * n]."""
    places = torch.tensor(shifts, dtype=torch.int32, device=words.device)
    return ((words.unsqueeze(-1) >> places) & (2**_BITS - 1)).to(torch.uint8).flatten(1)


def _repacked(layer: Any, codes: Tensor, zeros: Tensor) -> Int4:
    """Of codes [out, in] and zeros [groups, out], less what fills the last word of either."""
    codes = codes[: layer.out_features, : layer.in_features].contiguous()
    # The GPU kernels read scales as the model computes, which there is float16. On a CPU they stay as they are stored:
    # as bfloat16 they would be rounded once more.
    scales = (layer.scales.half() if layer.scales.is_cuda else layer.scales).T.contiguous()
    zeros = zeros[:, : layer.out_features].T.contiguous()
    is_symmetric = bool((zeros == SYMMETRIC_ZERO).all())  # then none are stored, and the fastest kernels serve
    return pack_int4(codes, scales, None if is_symmetric else zeros.to(scales.dtype), layer.group_size)


def _check_readable(layer: Any) -> None:
    reasons = {
        f"holds codes of {layer.bits} bits, known are those of {_BITS}": layer.bits != _BITS,
        "has been run, which put its weights into the order of its own kernel": (
            getattr(layer, "linear_mode", None) is not None
        ),
        "packs its codes in other than 32-bit words": layer.qweight.dtype != torch.int32,
        "rotates its inputs first": (
            getattr(layer, "online_full_had", False) or getattr(layer, "online_partial_had", False)
        ),
        "adds an adapter to its product": getattr(layer, "adapter", None) is not None,
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise Unsupported(
                f"the turbo engine cannot take weights from a {type(layer).__name__} that {reason}; use engine eager"
            )


def _check_order(layer: Any) -> None:
    """`g_idx` tells the group of each input; our kernels take a group for as many inputs in a row."""
    groups = layer.g_idx
    in_a_row = torch.arange(len(groups), dtype=groups.dtype, device=groups.device) // layer.group_size
    if not torch.equal(groups, in_a_row):
        raise Unsupported(
            "the turbo engine reads 4-bit groups of inputs in a row, and this checkpoint was made with desc_act, which "
            "takes inputs from everywhere into a group; quantize with desc_act off, or use engine eager"
        )
