"""A legacy environment for tests: truly built, with an empty package of the old name in the place of the real ones."""

from pathlib import Path

import pytest

from jobs.legacy import environments

VERSION = "0.7.1"


def install_stand_in(name: str, packages: Path) -> None:
    """What pip would leave behind, for the package alone."""
    module = {"auto-gptq": "auto_gptq", "autoawq": "awq"}[name]
    (packages / module).mkdir()
    (packages / module / "__init__.py").write_text("WHO = 'stand-in'\n")
    metadata = packages / f"{name.replace('-', '_')}-{VERSION}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n")


def use_stand_ins(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """From here on environments are built in `cache`, without pip."""
    monkeypatch.setenv("TURBO_CACHE", str(cache))
    monkeypatch.setattr(environments, "_install", install_stand_in)
