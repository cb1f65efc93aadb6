"""The farm on a real Ray, on the CPU with fake engines: pinning, faults, and what is left when it is over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.run import RunSummary, open_pool, run_sweep
from farm.plan import make_plan
from farm.records import Record, Status
from farm.store import RunFolder
from tests.unit.sweeps import sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pool() -> Iterator[object]:
    with open_pool("ray", "auto", num_gpus=2) as opened:
        yield opened


def run(pool: object, path: Path, models: list[str], **changes: object) -> tuple[RunSummary, tuple[Record, ...]]:
    summary = run_sweep(sweep(models=models, **changes), RunFolder(path), pool)  # type: ignore[arg-type]
    return summary, RunFolder(path).results()


def of(records: tuple[Record, ...], script: str) -> list[str]:
    return [r.status.value for r in records if r.cell.load.model.name.startswith(script)]


def test_two_groups_at_once_each_with_its_own_gpu_in_a_fresh_process(pool, tmp_path: Path) -> None:
    assert (pool.device, pool.capacity) == ("cuda", 2)
    summary, records = run(pool, tmp_path, ["fake:steady", "fake:steady?seed=1"])
    assert (summary.exit_code, summary.statuses) == (0, {"ok": 4})
    workers = {(r.environment.worker["pid"], r.environment.worker["CUDA_VISIBLE_DEVICES"]) for r in records}
    assert len({pid for pid, _ in workers}) == 2
    assert {r.environment.worker["niceness"] for r in records} == {str(os.nice(0))}  # as nice as we are, and no nicer


def test_every_fault_is_a_typed_row_and_the_sweep_goes_on(pool, tmp_path: Path) -> None:
    faults = ["raise", "unpicklable", "oom", "host-oom", "segfault", "exit?attempts=1", "kill", "hang"]
    models = ["fake:steady", *(f"fake:{fault}{'&' if '?' in fault else '?'}context=16" for fault in faults)]
    summary, records = run(pool, tmp_path, models, contexts=[16, 32], cache_modes=["on"], limits={"cell_timeout_s": 3})
    assert summary.exit_code == 1
    found = {model.split(":")[1].split("?")[0]: of(records, model.split(":")[1].split("?")[0]) for model in models}
    assert found == {
        "steady": ["ok", "ok"],
        "raise": ["error", "ok"],
        "unpicklable": ["error", "ok"],
        "oom": ["oom", "ok"],
        "host-oom": ["host_oom", "ok"],
        "segfault": ["crash", "ok"],
        "exit": ["ok", "ok"],
        "kill": ["crash", "ok"],
        "hang": ["timeout", "ok"],
    }
    messages = {r.cell.load.model.name.split("?")[0]: r.failure.message for r in records if r.failure}
    assert "Segmentation fault in " in messages["segfault"]
    assert "no last words" in messages["kill"]
    again = make_plan([r.cell for r in records], RunFolder(tmp_path).read())
    assert {g.load.model.name.split("?")[0] for g in again.todo} == {
        "raise",
        "unpicklable",
        "host-oom",
        "segfault",
        "kill",
        "hang",
    }


def test_kill_nine_of_the_driver_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """On real Ray once: a driver with its own Ray is killed in the middle; resume completes, nothing twice."""
    file = tmp_path / "sweep.yaml"
    file.write_text(sweep(models=["fake:slow"], contexts=[16, 17, 18, 19], interleave=1).to_yaml())
    out = tmp_path / "run"
    command = [sys.executable, "-m", "farm", "run", str(file), "--out", str(out), "--no-images", "--num-gpus", "1"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    finished = _wait_for(lambda: list(out.glob("records/*/1.json")) if out.exists() else [], 120)
    family = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {path: path.read_bytes() for path in finished}
    assert 0 < len(before) < 8
    resume = [sys.executable, "-m", "farm", "resume", str(out), "--no-images", "--num-gpus", "1"]
    done = subprocess.run(resume, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = RunFolder(out).read()
    assert [(r.status, r.attempt) for r in records] == [(Status.OK, 1)] * 8
    assert all(path.read_bytes() == data for path, data in before.items())
    assert _wait_for(lambda: [1] if not any(p.is_running() for p in family) else [], 60), "orphans of the killed driver"


def test_three_kinds_of_failure_and_what_a_resume_does_with_them(tmp_path: Path) -> None:
    """An unknown model, a cell that raises and one that never ends, among good ones, through the command line."""
    file, out = tmp_path / "sweep.yaml", tmp_path / "run"
    fakes = ["fake:steady", "fake:raise?context=16", "fake:hang?context=16"]
    apart = [{"model": fakes, "engine": "eager"}, {"model": "/no/such/model", "engine": "fake"}]
    several = {"models": [*fakes, "/no/such/model"], "engines": ["fake", "eager"], "exclude": apart}
    found = sweep(**several, contexts=[16, 17], cache_modes=["on"], limits={"cell_timeout_s": 3})
    file.write_text(found.to_yaml())
    assert _farm("run", str(file), "--out", str(out)) == 1
    first = {r.cell.load.model.name.split("?")[0]: r for r in RunFolder(out).results() if r.status is not Status.OK}
    assert {name: r.status.value for name, r in first.items()} == {
        "raise": "error",
        "hang": "timeout",
        "model": "unsupported",
    }
    assert "/no/such/model" in first["model"].failure.message
    assert _farm("resume", str(out)) == 1
    attempts = {r.cell.load.model.name.split("?")[0]: r.attempt for r in RunFolder(out).results()}
    again = {r.key: r.attempt for r in RunFolder(out).results() if r.attempt == 2}
    assert again.keys() == {first["raise"].key, first["hang"].key}, attempts


def _farm(*words: str) -> int:
    command = [sys.executable, "-m", "farm", *words, "--no-images"]
    return subprocess.run(command, capture_output=True, timeout=200, check=False).returncode


def _wait_for(look, seconds: float) -> list:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.1)
    return []
