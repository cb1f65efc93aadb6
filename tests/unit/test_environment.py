"""What a record says of the place it was made: the commit, and the versions of all that makes and runs the weights."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import farm
from jobs.environment import read_environment


def test_a_copy_without_history_names_the_commit_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "__file__", str(tmp_path / "farm" / "__init__.py"))
    monkeypatch.delenv("FARM_COMMIT", raising=False)
    assert read_environment("cpu").farm_commit is None
    monkeypatch.setenv("FARM_COMMIT", "abc123")
    assert read_environment("cpu").farm_commit == "abc123"


def test_a_tree_with_history_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_COMMIT", "something else")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert read_environment("cpu").farm_commit in (head, f"{head}-dirty")


@pytest.mark.parametrize("package", ["bitsandbytes", "torchao", "gptqmodel", "hqq", "torch", "transformers"])
def test_the_version_of_each_quantizing_package_is_told(package: str) -> None:
    """Its kernels are what the row is a figure of."""
    assert read_environment("cpu").packages[package] == version(package)
