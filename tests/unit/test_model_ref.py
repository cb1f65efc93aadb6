"""What tells one local model from another: its weights, and not the folder it lies in."""

import os
import shutil
from pathlib import Path

import pytest

from farm.errors import SweepError
from farm.model_ref import BLOCK_BYTES, BLOCKS, fingerprint, parse_model

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


def test_weights_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    folder = model(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(SweepError, match=r"models: .*model.safetensors cannot be read \(.+\)"):
        parse_model(str(folder))
