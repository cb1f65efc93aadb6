"""Each package's de-quantized weights are those its own layer multiplies with: what the gate's layer check rests on."""

import logging

import pytest
import torch
from torch import nn

from farm.quantization import parse_quantization
from jobs.quantization import backend_for, bitsandbytes_4bit, bitsandbytes_int8, hqq_int4, torchao_weight_only

IN, OUT = 128, 64


def _linear() -> nn.Linear:
    torch.manual_seed(0)
    linear = nn.Linear(IN, OUT, bias=False)
    return linear.requires_grad_(False)


def _quantized(name: str) -> nn.Module:
    wanted = parse_quantization(name)
    match wanted.name:
        case "int8":
            return bitsandbytes_int8._int8(_linear())
        case "int8wo":
            holder = nn.Sequential(_linear())
            holder.get_output_embeddings = lambda: None  # type: ignore[assignment]
            return torchao_weight_only._quantized(holder, wanted)[0]  # type: ignore[arg-type,index]
        case "hqq":
            return hqq_int4._hqq(_linear(), wanted, torch.float32)
    return bitsandbytes_4bit._four_bit(_linear(), bitsandbytes_4bit._config(wanted, torch.float32))


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", ["int8", "int8wo", "nf4", "nf4?double_quant=on", "fp4", "hqq"])
def test_a_layer_multiplies_with_the_weights_it_tells(name: str) -> None:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    backend, layer = backend_for(parse_quantization(name)), _quantized(name)
    before = backend.dequantized(layer)
    assert before is not None and before.shape == (OUT, IN)
    assert 0.0 < _error(before, _linear().weight) < 0.25  # quantized, and still the weights
    x = torch.randn(4, IN)
    with torch.inference_mode():
        assert _error(layer(x), x @ before.T) < 0.03
        after = backend.dequantized(layer)  # the first product may have reordered them
    assert after is not None and _error(after, before) < 0.005


@pytest.mark.parametrize("name", ["nf4", "nf4?double_quant=on", "fp4"])
def test_four_bits_reordered_for_a_cpu_kernel_are_told_in_the_checkpoints_order(name: str) -> None:
    """What the first product does on a CPU with AVX512-BF16, done here on any."""
    from bitsandbytes.functional import _convert_weight_packed_for_cpu

    backend, layer = backend_for(parse_quantization(name)), _quantized(name)
    before = backend.dequantized(layer)
    packed, state = _convert_weight_packed_for_cpu(layer.weight.data, layer.weight.quant_state)
    layer.weight.data, layer.weight.quant_state = packed, state
    assert before is not None
    for _ in range(2):  # asking changes nothing
        after = backend.dequantized(layer)
        assert after is not None and _error(after, before) < 0.005  # the scales are kept in bf16 there
    assert torch.equal(layer.weight.data, packed) and state.packing_format_for_cpu
