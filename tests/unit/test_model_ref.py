"""What tells one local model from another: its weights, and not the folder it lies in."""

import json
import os
import shutil
from pathlib import Path

import pytest

from farm.errors import SweepError
from farm.model_ref import BLOCK_BYTES, BLOCKS, architecture_of, fingerprint, parse_model

SIZE = 3 * BLOCKS * BLOCK_BYTES  # a third of it is read


def model(folder: Path, fill: bytes = b"a") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(fill * SIZE)
    return folder


def test_the_same_files_elsewhere_are_the_same_model(tmp_path: Path) -> None:
    first = model(tmp_path / "a" / "mine")
    second = Path(shutil.copytree(first, tmp_path / "b" / "mine"))
    os.utime(second / "model.safetensors", ns=(1, 1))
    assert parse_model(str(first)) != parse_model(str(second))  # the path is told ...
    assert fingerprint(first) == fingerprint(second)  # ... and is no part of the identity


def test_another_training_of_the_same_shape_is_another_model(tmp_path: Path) -> None:
    """Equal names, equal sizes: its GPTQ checkpoint and its records must not be taken for the first one's."""
    first, second = model(tmp_path / "a" / "mine"), model(tmp_path / "b" / "mine", b"b")
    assert fingerprint(first) != fingerprint(second)


def test_weights_that_are_trained_on_in_place_are_another_model(tmp_path: Path) -> None:
    folder = model(tmp_path / "mine")
    before, weights = fingerprint(folder), folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[SIZE // 2 : SIZE // 2 + 3 * BLOCK_BYTES] = b"z" * 3 * BLOCK_BYTES  # one stretch in the middle
    weights.write_bytes(data)
    assert fingerprint(folder) != before


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_tiny_file_has_a_fingerprint_too(tmp_path: Path, size: int) -> None:
    folder = model(tmp_path / "mine")
    (folder / "model.safetensors").write_bytes(b"x" * size)
    assert len(fingerprint(folder)) == 16


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "nowhere") == "missing"


SHAPE = {
    "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4,
    "vocab_size": 1000, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "is_known"), [("llama", True), ("phi", False), ("mixtral", False), (None, False)])
def test_only_shapes_that_are_counted_right_are_known(tmp_path: Path, kind: str | None, is_known: bool) -> None:
    """Phi has two feed-forward matrices where Llama has three: counted as Llama it would be refused where it fits."""
    folder = model(tmp_path / "mine")
    (folder / "config.json").write_text(json.dumps(SHAPE | ({"model_type": kind} if kind else {})))
    assert (architecture_of(parse_model(str(folder))) is not None) == is_known


def test_weights_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    folder = model(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(SweepError, match=r"models: .*model.safetensors cannot be read \(.+\)"):
        parse_model(str(folder))
