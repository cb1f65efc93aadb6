"""Which model the logits are compared with, and whether there is room for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from farm.cells import Load
from farm.errors import Unsupported
from farm.model_ref import parse_model
from jobs import gate, loading
from jobs.agreement import HEADROOM_BYTES, why_no_room
from jobs.engines.base import Reference
from jobs.memory import free_bytes
from jobs.models.sources import Located, locate


@pytest.mark.parametrize(
    ("device", "quantization", "name", "gigabytes"),
    [("cpu", "nf4", "fp32", 32.1), ("cpu", "bf16", "fp32", 32.1), ("cuda", "nf4", "fp16", 16.1)],
)
def test_the_reference_is_the_same_weights_in_16_bit(
    device: str, quantization: str, name: str, gigabytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Load] = []
    monkeypatch.setattr(loading, "load_engine", lambda load, cache, seed: opened.append(load))
    load = Load(parse_model("random:llama-3-8b"), quantization, "eager", device)
    found = loading.reference_of(load, locate(load.model), None, 7)
    assert found.open is not None and found.open() is None
    assert opened == [replace(load, quantization=name)]
    assert found.needed_bytes is not None and found.needed_bytes / 1e9 == pytest.approx(gigabytes, abs=0.1)


@pytest.mark.parametrize(("device", "name"), [("cpu", "fp32"), ("cuda", "fp16")])
def test_the_reference_itself_is_compared_with_nothing(device: str, name: str) -> None:
    load = Load(parse_model("random:smollm2-135m"), name, "eager", device)
    assert loading.reference_of(load, locate(load.model), None, 0) == Reference(name, device)


def local(folder: Path, **config: object) -> Load:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    return Load(parse_model(str(folder)), "nf4", "eager", "cpu")


@pytest.mark.parametrize(("stored", "needed"), [("bfloat16", 2000), ("float32", 1000)])
def test_the_room_for_a_model_of_another_kind_is_that_of_its_files(tmp_path: Path, stored: str, needed: int) -> None:
    """Not to know would mean to try, and to run out of memory: a finding that says the quantized model does not fit."""
    load = local(tmp_path, model_type="mixtral", dtype=stored)
    assert loading.reference_of(load, locate(load.model), None, 0).needed_bytes == needed


def test_a_kept_perplexity_is_of_one_commit_of_a_hub_model(tmp_path: Path) -> None:
    """`hf:org/name` means another model once its author has pushed."""
    load, kept = Load(parse_model("hf:org/name"), "nf4", "eager", "cpu"), set()
    for commit in ("a" * 40, "b" * 40):
        reference = loading.reference_of(load, Located(str(tmp_path), commit, None), None, 0)
        kept.add(gate._kept_file(reference, load, (1, 2, 3)))
    assert len(kept) == 2


def test_weights_that_are_published_quantized_are_not_compared_with_themselves(tmp_path: Path) -> None:
    load = replace(local(tmp_path, quantization_config={"quant_method": "awq"}), quantization="awq")
    found = loading.reference_of(load, locate(load.model), None, 0)
    assert found.open is not None
    with pytest.raises(Unsupported, match="published quantized"):
        found.open()


def test_room_is_asked_for_the_weights_and_what_a_comparison_takes() -> None:
    assert why_no_room(None, free_bytes=0) is None
    assert why_no_room(10**9, free_bytes=10**9 + HEADROOM_BYTES) is None
    assert why_no_room(10**9, free_bytes=10**9) == (
        "the reference needs about 3.1 GB beside this model, and 1.0 GB are free"
    )
    assert 0 < free_bytes("cpu") < 10**15
