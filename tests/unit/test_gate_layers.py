"""The gate's look at single layers, of whatever engine holds the model, and at what decoding chose."""

import pytest
import torch

from farm.architectures import Architecture
from farm.cells import Load
from farm.model_ref import parse_model
from farm.quantization import parse_quantization
from farm.sanity import Sanity, problems
from jobs import gate
from jobs.engines.compiled import CompiledEngine
from jobs.engines.eager import EagerEngine
from jobs.memory import meter_for
from jobs.models.random_weights import build_random
from jobs.prompts import ByteTokenizer
from jobs.quantization import bitsandbytes_4bit
from jobs.quantization.base import replace_linears
from jobs.stopwatch import stopwatch_for

TINY = Architecture(2, 64, 128, 2, 1, 32, 256, 256, True, 10000.0, 1e-5)
LOAD = Load(parse_model("random:smollm2-135m"), "nf4", "eager", "cpu")


@pytest.fixture
def eager() -> EagerEngine:
    config = bitsandbytes_4bit._config(parse_quantization("nf4"), torch.float32)
    model = build_random(TINY, torch.float32, "cpu", seed=0)
    model = replace_linears(model, lambda linear: bitsandbytes_4bit._four_bit(linear, config))
    return EagerEngine(model, ByteTokenizer(), stopwatch_for("cpu"), meter_for("cpu"))


def test_a_compiled_engines_layers_are_looked_at_too(eager: EagerEngine) -> None:
    for engine in (eager, CompiledEngine(eager)):
        layers = gate._layer_errors(engine, LOAD)
        assert (layers.figures["layers_checked"], layers.reasons) == (14, {})
        assert layers.figures["layer_error"] < 0.01


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_that_gives_no_numbers_is_wrong_and_its_error_can_be_written(eager: EagerEngine, value: float) -> None:
    """NaN compares as smaller than any bound, so it would have passed."""
    last = eager.model.model.layers[-1].mlp.down_proj
    last.weight.quant_state.absmax[0] = value
    figures = gate._layer_errors(eager, LOAD).figures
    assert figures["layer_error"] == 1.0
    assert "100% off" in problems(Sanity(**figures))[0]


def test_tokens_that_another_model_would_have_chosen_are_told(eager: EagerEngine) -> None:
    prompt = [5, 6, 7, 8]
    said = gate._greedy(eager, prompt, 4)
    assert gate._decoding(eager, prompt, said) == {"decode_gap": pytest.approx(0.0, abs=1e-3), "decode_checked": 4}
    wrong = gate._decoding(eager, prompt, [(token + 1) % 256 for token in said])
    assert "its decoding chose tokens" in problems(Sanity(**wrong))[0]
