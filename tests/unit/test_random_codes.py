"""Made-up GPTQ and AWQ codes: the kernel multiplies with the weights that its layer tells, of the usual spread."""

from typing import Any

import pytest
import torch
from torch import nn

from farm.architectures import Architecture
from farm.quantization import parse_quantization
from jobs.models import random_codes, random_weights
from jobs.models.random_codes import WEIGHT_STD, blank, packed
from jobs.models.random_weights import build_random
from jobs.quantization import gptq_awq

DEEP = Architecture(6, 128, 512, 2, 1, 64, 256, 1024, True, 10000.0, 1e-5)
TINY = Architecture(1, 256, 512, 4, 2, 64, 256, 1024, True, 10000.0, 1e-5)


@pytest.mark.parametrize(("name", "kind"), [("gptq", "TorchAtenLinear"), ("awq", "TorchAtenAwqLinear")])
def test_a_model_is_packed_and_its_kernel_agrees_with_the_codes(name: str, kind: str) -> None:
    wanted = parse_quantization(name)
    model = build_random(TINY, torch.bfloat16, "cpu", seed=0)
    with gptq_awq._quietly() as package:
        kernel = package.BACKEND(gptq_awq._kernel_name(wanted, "cpu"))
        model = packed(model, gptq_awq._config(package, wanted), kernel, "cpu", seed=0)
    layer = model.model.layers[0].mlp.up_proj
    weights = gptq_awq.BACKEND.dequantized(layer)
    assert type(layer).__name__ == kind and type(model.lm_head) is nn.Linear
    assert weights is not None and float(weights.float().std()) == pytest.approx(WEIGHT_STD, rel=0.02)
    assert abs(float(weights.float().mean())) < WEIGHT_STD / 50  # no offset that all weights share
    x = torch.randn(4, TINY.hidden, dtype=torch.bfloat16)
    with torch.inference_mode():
        found, expected = layer(x).float(), x.float() @ weights.float().T
    assert (found - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize(("name", "kernel"), [("gptq", "gptq_torch"), ("awq", "awq_torch")])
def test_activations_grow_through_the_layers_as_with_dense_weights(
    name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset that all weights share adds up over a layer's inputs, and the sums over the layers: with codes of mean
    -0.5 an 8B model left float16 in its 25th layer. Weights as wide as this model is narrow stand for its 4,096 inputs.
    """
    wide = WEIGHT_STD * (4096 / DEEP.hidden) ** 0.5
    for module in (random_codes, random_weights):
        monkeypatch.setattr(module, "WEIGHT_STD", wide)
    model = build_random(DEEP, torch.float16, "cpu", seed=0)
    dense = _final_rms(model)
    with gptq_awq._quietly() as package:
        config = gptq_awq._config(package, parse_quantization(name))
        model = packed(model, config, package.BACKEND(kernel), "cpu", seed=0)
    assert _final_rms(model) == pytest.approx(dense, rel=0.25)


def _final_rms(model: Any) -> float:
    """Of what leaves the last layer, before its norm."""
    seen: list[torch.Tensor] = []
    hook = model.model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(input_ids=torch.arange(5, 69).unsqueeze(0), use_cache=False)
    hook.remove()
    return float(seen[0].float().square().mean().sqrt())


def test_a_blank_layer_lies_on_the_cpu_wherever_the_layer_was() -> None:
    """gptqmodel refuses to swap a layer that lies on a GPU."""
    for has_bias in (True, False):
        made = blank(nn.Linear(48, 16, bias=has_bias, device="meta", dtype=torch.float16))
        assert type(made) is nn.Linear
        assert made.weight.device.type == "cpu" and made.weight.dtype == torch.float16
        assert made.weight.shape == (16, 48) and (made.bias is not None) == has_bias
