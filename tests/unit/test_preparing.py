"""What is fetched and made before a sweep: each model and each checkpoint once, and a problem is a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from farm.cli import main
from farm.errors import ModelUnavailable
from farm.model_ref import ModelRef
from jobs.models import sources
from jobs.preparing import loads_to_prepare, prepare_load
from tests.unit.sweeps import cells, sweep

HUB, OTHER = "hf:org/one", "hf:org/two"


def needed(**changes: object) -> list[str]:
    return [f"{load.model} {load.quantization}" for load in loads_to_prepare(cells(engines=["eager"], **changes))]


def test_a_model_is_fetched_once_for_all_that_load_it_as_it_is() -> None:
    """Otherwise each worker would, while its time for loading runs."""
    assert needed(models=[HUB, OTHER], quantizations=["fp16", "nf4"]) == [f"{HUB} fp16", f"{OTHER} fp16"]


def test_making_a_checkpoint_fetches_its_model() -> None:
    kernels = ["gptq?kernel=triton", "gptq?kernel=torch", "fp16"]
    assert needed(models=[HUB], quantizations=kernels) == [f"{HUB} gptq"]


def test_what_is_there_or_made_up_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert needed(models=[str(tmp_path), "random:smollm2-135m"]) == []
    assert needed(models=["random:smollm2-135m"], quantizations=["gptq?group_size=64"]) == []
    assert needed(models=[str(tmp_path)], quantizations=["gptq"]) == [f"{tmp_path} gptq"]


def test_farm_prepare_fetches_and_says_what_it_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def locate(ref: ModelRef, cache: object) -> None:
        asked.append(str(ref))
        if str(ref) == OTHER:
            raise ModelUnavailable("gated, and this machine has no access")

    monkeypatch.setattr(sources, "locate", locate)
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "sweep.yaml"
    file.write_text(sweep(models=[HUB, OTHER], engines=["eager"]).to_yaml())
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(file), "--pool", "inline", "--device", "cpu"])
    assert (ended.value.code, asked) == (1, [HUB, OTHER])
    assert "gated, and this machine has no access" in capsys.readouterr().out


def test_a_node_that_has_the_files_starts_no_torch(tmp_path: Path) -> None:
    """It would cost every sweep seconds."""
    script = (
        "import sys; from jobs.models import sources; sources.locate = lambda ref, cache: None\n"
        "from jobs.preparing import prepare_load; from farm.cells import Load; from farm.model_ref import parse_model\n"
        f"done = prepare_load(Load(parse_model({HUB!r}), 'fp16', 'eager', 'cpu'))\n"
        "print(done.problem, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


def test_a_model_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(ref: ModelRef, cache: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(sources, "locate", locate)
    (load,) = loads_to_prepare(cells(models=[HUB], engines=["eager"]))
    assert prepare_load(load).problem == "the disk is full"
