"""The notebook runs from top to bottom, and its committed copy is that of its source."""

import json
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from scripts.execute_notebook import EXECUTED, SOURCE, execute
from tests.unit.sweeps import sweep

LARGEST_BYTES = 3_000_000


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    """A run of the fake engine in the kernel's own process."""
    quality = {"text": "demo", "window_tokens": 64, "max_tokens": 256}
    file = tmp_path / "sweep.yaml"
    file.write_text(sweep(quantizations=["fp16", "nf4"], contexts=[16, 32], quality=quality).to_yaml())
    monkeypatch.setenv("NOTEBOOK_SWEEP", str(file))
    monkeypatch.setenv("NOTEBOOK_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("NOTEBOOK_POOL", "inline")
    monkeypatch.setenv("PATH", str(tmp_path))  # no browser: pictures are the report's business, and slow
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    return execute(timeout_s=120)


def outputs(notebook: nbformat.NotebookNode) -> str:
    """Everything that came out, colours of the terminal taken off."""
    text = "\n".join(
        json.dumps(output, ensure_ascii=False) for cell in notebook.cells for output in cell.get("outputs", ())
    )
    return re.sub(r"\\u001b\[[0-9;]*m", "", text)


def test_it_measures_draws_and_concludes(executed: nbformat.NotebookNode) -> None:
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    said = outputs(executed)
    assert all(cell.outputs for cell in code[1:])
    assert "10 ok" in said  # eight speed cells, two perplexities
    assert said.count("application/vnd.plotly.v1+json") == sum(".show(" in cell.source for cell in code)
    assert "What does the KV cache buy in decode?" in said and "tokens/s" in said


def sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.mark.skipif(not EXECUTED.exists(), reason="no executed copy yet")
def test_the_committed_copy_is_the_sources_own_executed_without_an_error() -> None:
    committed = nbformat.read(EXECUTED, as_version=4)
    assert sources(committed) == sources(jupytext.read(SOURCE))
    assert all(output.output_type != "error" for cell in committed.cells for output in cell.get("outputs", ()))
    assert all(cell.execution_count for cell in committed.cells if cell.cell_type == "code")
    assert EXECUTED.stat().st_size < LARGEST_BYTES
    nbformat.validate(committed)
    assert not re.search(r"fake|/tmp/|/home/|/root/|site-packages|plotly\.min\.js", outputs(committed))
