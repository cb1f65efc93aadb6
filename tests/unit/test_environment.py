"""Which commit a record names: that of the tree it runs in, or, in a copy without history, what it was told."""

import subprocess
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
