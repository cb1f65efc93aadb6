"""What the READMEs name is there, and both languages have the same parts."""

import re
from pathlib import Path

import pytest

from farm.cli import cli

READMES = ("README.md", "README.es.md")


def text(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READMES)
def test_every_command_and_option_is_the_farms(name: str) -> None:
    used = re.findall(r"`(?:\. )?farm ([a-z-]+)[^`]*`", text(name)) + re.findall(r"^farm ([a-z-]+)", text(name), re.M)
    assert len(used) > 15 and set(used) == set(cli.commands)
    for command, words in re.findall(r"`farm ([a-z-]+)([^`]*)`", text(name)):
        options = {option for parameter in cli.commands[command].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= options, (command, words)


@pytest.mark.parametrize("name", READMES)
def test_every_link_and_every_sweep_is_there(name: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text(name)) if not link.startswith("http")]
    assert links and [link for link in links if not Path(link).exists()] == []
    named = set(re.findall(r"jobs/sweeps/[\w-]+\.yaml", text(name)))
    assert named == {str(file) for file in Path("jobs/sweeps").glob("*.yaml")}


@pytest.mark.parametrize("name", READMES)
def test_every_make_target_is_in_the_makefile(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text(name), re.M)) <= targets


def test_both_languages_have_the_same_parts() -> None:
    def parts(name: str) -> list[object]:
        lines = text(name).splitlines()
        return [line.partition(" ")[0] if line.startswith("#") else "|" for line in lines if line[:1] in "#|"]

    english, spanish = map(parts, READMES)
    assert english == spanish
