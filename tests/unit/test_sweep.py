"""The sweep file: what is accepted, and the one sentence that a mistake costs."""

from pathlib import Path

import pytest

from farm.errors import SweepError
from farm.sweep import load_sweep
from tests.unit.sweeps import parse, sweep

GOOD = "name: x\nmodels: [random:llama-3-8b]\nquantizations: [fp16]\n"
SHIPPED = sorted(Path("jobs/sweeps").glob("*.yaml"))


def test_the_mission_defaults() -> None:
    found = parse(GOOD)
    assert (found.warmups, found.runs, found.seed, found.prompts.per_length) == (5, 10, 42, 50)
    assert found.contexts == (128, 256, 512, 1024, 2048)
    assert found.cache_modes == ("on", "off")


def test_bare_yaml_switches_are_words() -> None:
    assert parse(GOOD + "cache_modes: [on, off]\n").cache_modes == ("on", "off")
    assert parse(GOOD + "exclude: [{cache_mode: off, context: 128}]\n").exclude[0].cache_mode == ("off",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must be a mapping of keys; valid keys: name, models"),
        ("a: [", "not valid YAML"),
        ("name: x\nname: y", "key 'name' twice"),
        (GOOD + "quantisations: [fp16]", "unknown key 'quantisations'; valid: name, models, quantizations"),
        (GOOD + "quantisations: [fp16]", "did you mean 'quantizations'?"),
        (GOOD.replace("fp16", "fp17"), "quantizations[0]: unknown quantization 'fp17'; valid: fp32, fp16"),
        (GOOD.replace("llama-3-8b", "lama"), "unknown random architecture 'lama'; valid: llama-3-8b"),
        (GOOD.replace("random:", "rnd:"), "unknown model source 'rnd'; valid: hf, local"),
        (GOOD + "prompts: {kind: [chat]}", "unknown key 'prompts.kind'; valid: kinds, languages, per_length"),
        (GOOD + "exclude: [{}]", "an empty rule would match everything"),
        (GOOD + "exclude: [{contxt: 3}]", "unknown key 'exclude[0].contxt'; valid: model, quantization"),
        (GOOD + "runs: 0", "runs: Input should be greater than or equal to 1 (given: 0)"),
        (GOOD + "batch_sizes: [64]", "a batch of 64 needs as many different prompts, but prompts.per_length is 50"),
        (GOOD + "include: [{batch_size: 64}]", "a batch of 64 needs as many different prompts"),
        (GOOD + "device: tpu", "unknown device 'tpu'; valid: auto, cuda, cpu"),
        (GOOD + "runtime_env: {awq: {py: x}}", "unknown key 'runtime_env"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_valid_choices(text: str, sentence: str) -> None:
    with pytest.raises(SweepError) as caught:
        parse(text)
    assert str(caught.value).startswith("sweep.yaml: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_is_named_before_what_it_leaves_missing() -> None:
    with pytest.raises(SweepError, match=r"unknown key 'modls'.*did you mean 'models'"):
        parse(GOOD.replace("models", "modls"))


def test_a_missing_file_says_where_sweeps_lie(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"cannot be read.*jobs/sweeps"):
        load_sweep(tmp_path / "none.yaml")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text("# " + "x" * 1_000_001)
    with pytest.raises(SweepError, match="larger than"):
        load_sweep(tmp_path / "big.yaml")


def test_yaml_cannot_make_objects() -> None:
    with pytest.raises(SweepError, match="not valid YAML"):
        parse("name: !!python/object/apply:os.system ['true']")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_survives_a_round_trip(path: Path) -> None:
    found = load_sweep(path)
    assert parse(found.to_yaml()) == found


def test_there_are_shipped_sweeps() -> None:
    assert {"demo", "mission", "shape-8b"} <= {path.stem for path in SHIPPED}


def test_every_changed_field_survives_a_round_trip() -> None:
    changed = sweep(
        exclude=[{"cache_mode": "off", "context": [16, 32]}],
        include=[{"batch_size": 2}],
        limits={"retries": 3},
        quality={"text": "demo", "max_tokens": 50},
        runtime_env={"nf4": {"py_executable": "/venv/bin/python"}},
    )
    assert parse(changed.to_yaml()) == changed


def test_quality_is_one_mapping_or_a_list() -> None:
    one = parse(GOOD + "quality: {text: demo}")
    assert one.quality == parse(GOOD + "quality: [{text: demo}]").quality
    assert parse(GOOD).quality == parse(GOOD + "quality: null").quality == ()
    two = parse(GOOD + "quality: [{protocol: gptq}, {protocol: lm-eval, agreement_tokens: 0}]")
    assert [entry.protocol for entry in two.quality] == ["gptq", "lm-eval"]
    assert parse(two.to_yaml()) == two


def test_a_mistake_in_quality_says_in_which_entry() -> None:
    with pytest.raises(SweepError, match=r"unknown key 'quality\[1\].window'; valid: protocol, text, window_tokens"):
        parse(GOOD + "quality: [{}, {window: 3}]")
    with pytest.raises(SweepError, match="unknown quality protocol 'lmeval'; valid: gptq, lm-eval"):
        parse(GOOD + "quality: {protocol: lmeval}")


def test_one_wrong_entry_is_one_problem() -> None:
    with pytest.raises(SweepError) as told:
        parse("name: a\nmodels: ['fake:steady']\nquantizations: [int9]\n")
    assert "unknown quantization 'int9'; valid: fp32" in str(told.value)
    assert "more)" not in str(told.value)
