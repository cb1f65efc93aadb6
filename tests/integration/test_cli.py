"""The command line as a user meets it: one sentence and exit code 2 for bad input, the same files every time."""

import hashlib
import json
from pathlib import Path

import pytest

from farm.cli import main
from farm.present.publish import READMES
from farm.storage import open_storage
from farm.storage.archive import pack
from tests.unit.sweeps import sweep


def farm(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A finished fake run with one failing model."""
    file, out = tmp_path / "sweep.yaml", tmp_path / "run"
    quality = {"text": "demo", "window_tokens": 64, "max_tokens": 256}
    file.write_text(sweep(models=["fake:steady", "fake:raise?context=16"], quality=quality).to_yaml())
    assert farm("run", file, "--out", out, "--pool", "inline", "--no-images") == 1
    return out


def digests(out: Path) -> dict[str, str]:
    names = ("benchmarks/results.csv", "benchmarks/cells.csv", "metrics/final_report.json", "report.html")
    kept = [out / name for name in names]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in kept}


def test_a_run_leaves_its_files_behind(done: Path) -> None:
    names = {str(file.relative_to(done)) for file in done.rglob("*") if file.is_file()}
    assert {"run.json", "events.jsonl", "benchmarks/results.csv", "benchmarks/cells.csv"} <= names
    assert {"metrics/final_report.json", "figures/prefill_vs_decode.html"} <= names
    report = json.loads((done / "metrics/final_report.json").read_text())
    assert set(report["fp16"]) == {"tokens_s_2048", "vram_gb", "prefill_ms", "ppl"}
    assert report["run"]["sweep"] == "test"


def test_report_twice_is_byte_identical(done: Path) -> None:
    first = digests(done)
    for file in (done / "benchmarks").iterdir():
        file.unlink()
    assert farm("report", done, "--no-images") == 0
    assert digests(done) == first


def test_a_run_in_an_object_store_is_reported_from_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, uri = tmp_path / "sweep.yaml", f"memory://{tmp_path.name}/run"
    file.write_text(sweep().to_yaml())
    assert farm("run", file, "--out", uri, "--pool", "inline", "--no-images") == 0
    first = open_storage(uri).read("benchmarks/results.csv")
    assert first.count(b"\n") > 4
    capsys.readouterr()
    assert farm("report", uri, "--no-images") == 0
    assert f"{uri}/report.html" in capsys.readouterr().out
    assert open_storage(uri).read("benchmarks/results.csv") == first
    assert farm("resume", uri, "--pool", "inline", "--no-images") == 0
    assert "2 kept from before" in capsys.readouterr().out
    assert "lock.json" not in open_storage(uri).files("")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]  # nothing of it fell beside


def test_plan_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert farm("plan", "jobs/sweeps/shape-8b.yaml", "--device", "cuda") == 0
    shown = capsys.readouterr().out
    assert "40 cells in 4 load groups on cuda" in shown
    assert "a guess from typical step times" in " ".join(shown.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["resume", "nowhere"], "no run here"),
        (["report", "nowhere"], "no run here"),
        (["run", "jobs/sweeps/demo.yaml", "--retry", "bad"], "--retry: unknown status 'bad'; valid: ok, oom"),
        (["run", "jobs/sweeps/demo.yaml", "--pool", "slurm"], "'slurm' is not one of 'ray', 'inline'"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert farm(*words) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert "Traceback" not in complaint


def test_doctor_says_what_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert farm("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("torch" in line and " ok " in line for line in lines)
    assert any("quantization nf4" in line for line in lines)
    assert all(line.split()[0] in ("ok", "no", "MISSING") for line in lines)


def test_an_archive_is_reported_into_a_folder_and_gives_the_same_files(done: Path, tmp_path: Path) -> None:
    (tmp_path / "run.tar.gz").write_bytes(pack(open_storage(done)))
    assert farm("report", tmp_path / "run.tar.gz", "--into", tmp_path / "again", "--no-images") == 0
    assert digests(tmp_path / "again") == digests(done)


def test_a_run_that_is_stopped_in_time_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "sweep.yaml", tmp_path / "run"
    file.write_text(sweep().to_yaml())
    assert farm("run", file, "--out", out, "--pool", "inline", "--no-images", "--stop-after", 1e-9) == 1
    assert "2 cells left; go on with: farm resume" in " ".join(capsys.readouterr().out.split())
    assert farm("resume", out, "--pool", "inline", "--no-images") == 0


def test_a_run_of_the_fake_engine_is_not_published(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in READMES:
        (done / name).touch()
    assert farm("publish", done, "--into", done) == 2
    assert "come from the fake engine" in capsys.readouterr().err
