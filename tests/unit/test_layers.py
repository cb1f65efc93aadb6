"""Imports only go down, and what draws or plans works without torch and Ray."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "ray", "bitsandbytes", "accelerate", "datasets"}
ENTRY = {"farm/cli.py", "farm/__main__.py", "jobs/submit.py"}
LAYERS = {"farm": {"farm"}, "jobs": {"farm", "jobs"}, "cluster": {"farm", "jobs", "cluster"}}
FORBIDDEN = {"farm": HEAVY, "jobs": {"ray"}, "cluster": set()}
FILES = [file for folder in LAYERS for file in Path(folder).rglob("*.py") if str(file) not in ENTRY]


def _imports(file: Path) -> set[str]:
    tops: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            tops |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            tops.add(node.module.split(".")[0])
    return tops


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_only_go_down(file: Path) -> None:
    layer = file.parts[0]
    upward = (_imports(file) & set(LAYERS)) - LAYERS[layer]
    assert not upward, f"{file} imports from a layer above: {upward}"
    assert not _imports(file) & FORBIDDEN[layer]


@pytest.mark.parametrize("file", [f for f in FILES if f.parts[:2] != ("farm", "present")], ids=str)
def test_only_presentation_draws(file: Path) -> None:
    assert not _imports(file) & {"plotly", "dash", "kaleido", "rich"}


def test_core_and_presentation_import_without_torch_and_ray() -> None:
    modules = [".".join(f.with_suffix("").parts) for f in FILES if f.parts[0] == "farm" and f.name != "__init__.py"]
    code = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in sorted(HEAVY))
    code += "\n".join(f"import {module}" for module in modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_drivers_process_never_imports_torch() -> None:
    code = "import sys, cluster.run, cluster.ray_pool, farm.cli; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
