"""A quantization as a sweep writes it: one configuration, one name; a mistake costs one sentence."""

import pytest

from farm.catalog import PRECISIONS
from farm.errors import SweepError
from farm.expand import expand
from farm.quantization import parse_quantization
from farm.sweep import parse_sweep


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("fp16", "fp16"),
        ("gptq", "gptq"),
        ("gptq?group_size=128", "gptq"),
        ("gptq?kernel=triton&group_size=64", "gptq?group_size=64&kernel=triton"),
        ("nf4?double_quant=on", "nf4?double_quant=on"),
    ],
)
def test_two_spellings_are_one_name(written: str, canonical: str) -> None:
    assert str(parse_quantization(written)) == canonical
    assert str(parse_quantization(canonical)) == canonical


@pytest.mark.parametrize("name", sorted(PRECISIONS))
def test_every_precision_is_its_own_name(name: str) -> None:
    assert str(parse_quantization(name)) == name


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("int9", "unknown quantization 'int9'; valid: fp32, .*; did you mean 'int8'"),
        ("gptq?groups=64", "unknown option 'groups'; valid: group_size, kernel"),
        ("gptq?kernel=cutlass", "unknown kernel 'cutlass'; valid: auto, marlin"),
        ("gptq?group_size=100", "unknown group_size '100'; valid: 32, 64, 128"),
        ("fp16?group_size=64", "unknown option 'group_size'; valid: none at all"),
        ("gptq?kernel", "an option is written name=value"),
    ],
)
def test_a_mistake_costs_one_sentence(written: str, sentence: str) -> None:
    with pytest.raises(SweepError, match=sentence):
        parse_quantization(written)


def test_bits_count_scales_and_zero_points() -> None:
    """GPTQ: 16 bits of scale and 4 of zero point for each group; double quantization as in QLoRA, 0.127 bits."""
    bits = {
        name: parse_quantization(name).linear_bits for name in ("gptq", "gptq?group_size=64", "nf4", "int8", "fp16")
    }
    assert bits == {"gptq": 4 + 20 / 128, "gptq?group_size=64": 4 + 20 / 64, "nf4": 4.5, "int8": 8, "fp16": 16}
    assert parse_quantization("nf4?double_quant=on").linear_bits == pytest.approx(4.127, abs=5e-4)
    assert PRECISIONS["gptq"].linear_bits == 4 + 20 / 128


def test_titles_are_for_people() -> None:
    assert parse_quantization("gptq?kernel=triton").title == "GPTQ (kernel triton)"
    assert parse_quantization("gptq").title == "GPTQ"
    assert parse_quantization("gptq?group_size=64").group_size == 64
    assert parse_quantization("int8").group_size is None


def test_a_group_size_that_does_not_divide_is_refused_before_anything_is_loaded() -> None:
    sweep = parse_sweep("name: s\nmodels: [random:smollm2-135m]\nquantizations: [gptq]\n")
    with pytest.raises(SweepError, match=r"does not divide the hidden size 576 .*with N one of 32, 64"):
        expand(sweep, "cpu")


def test_the_sweep_keeps_the_canonical_name() -> None:
    sweep = parse_sweep("name: s\nmodels: [random:llama-3-8b]\nquantizations: ['gptq?kernel=torch&group_size=128']\n")
    assert sweep.quantizations == ("gptq?kernel=torch",)
    assert parse_sweep(sweep.to_yaml()) == sweep


def test_an_environment_is_that_of_all_options_of_its_precision() -> None:
    text = "name: s\nmodels: [random:llama-3-8b]\nquantizations: [gptq]\nruntime_env: {gptq: {env_vars: {A: '1'}}}\n"
    sweep = parse_sweep(text)
    assert sweep.runtime_env_of("gptq?kernel=torch") == sweep.runtime_env["gptq"]
    assert sweep.runtime_env_of("awq") is None
