"""kill -9 of the driver at twenty random moments: every point exactly once, nothing finished is measured again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm.records import Record, Status
from farm.store import RunFolder
from tests.unit.sweeps import sweep

SWEEP = sweep(models=["fake:steady", "fake:raise?context=20"], contexts=list(range(16, 40)), warmups=0, runs=2)
CELLS = 2 * 24 * 2
RESUME = ["resume", "--no-images", "--pool", "inline"]


def farm(*words: str) -> list[str]:
    return [sys.executable, "-m", "farm", *words]


def start(out: Path, file: Path) -> subprocess.Popen[bytes]:
    begin = farm("run", str(file), "--out", str(out), "--no-images", "--pool", "inline")
    return subprocess.Popen(begin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def ok_files(out: Path) -> dict[Path, bytes]:
    found = {path: path.read_bytes() for path in out.glob("records/*/[0-9]*.json")}
    return {path: data for path, data in found.items() if b'"status": "ok"' in data}


@pytest.mark.timeout(400)
def test_twenty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    file, out, dice = tmp_path / "sweep.yaml", tmp_path / "run", random.Random(42)
    file.write_text(SWEEP.to_yaml())
    kills = 0
    safe: dict[Path, bytes] = {}
    while kills < 20:
        driver = start(out, file)
        _wait_for_progress(out, driver, len(ok_files(out)), dice)
        if driver.poll() is None:
            os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        kills += 1
        assert safe.items() <= ok_files(out).items(), "a finished point was lost or written again"
        safe = ok_files(out)
        assert not list(out.glob("records/*/*.damaged"))
    done = subprocess.run(farm(*RESUME, str(out)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr  # the planted failures
    _check_final(RunFolder(out).read(), safe, out)


def _wait_for_progress(out: Path, driver: subprocess.Popen[bytes], before: int, dice: random.Random) -> None:
    """Until a few more points are there, then a random moment more: kills fall anywhere, and the run still advances."""
    wanted = before + dice.randrange(0, 6)
    until = time.monotonic() + 20
    while driver.poll() is None and time.monotonic() < until and len(ok_files(out)) < wanted:
        time.sleep(0.002)
    time.sleep(dice.uniform(0, 0.02))


def _check_final(records: tuple[Record, ...], safe: dict[Path, bytes], out: Path) -> None:
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    assert len(by_key) == CELLS
    oks = [sum(r.status is Status.OK for r in attempts) for attempts in by_key.values()]
    assert oks.count(1) == CELLS - 2  # all but the two that raise
    assert max(oks) == 1
    assert safe.items() <= ok_files(out).items()


def test_two_drivers_on_one_folder(tmp_path: Path) -> None:
    file, out = tmp_path / "sweep.yaml", tmp_path / "run"
    hangs_at_the_second = sweep(models=["fake:hang?context=17"], contexts=[16, 17], interleave=1)
    file.write_text(hangs_at_the_second.to_yaml())  # so the first one is at work for as long as the second may need
    first = start(out, file)
    until = time.monotonic() + 60
    while not list(out.glob("records/*/1.json")) and time.monotonic() < until:
        time.sleep(0.05)
    second = start(out, file)
    _, complaint = second.communicate(timeout=60)
    assert second.returncode == 2
    assert b"another run is writing here" in complaint
    first.terminate()
    _, farewell = first.communicate(timeout=60)
    assert first.returncode == 130
    assert b"farm resume" in farewell


def test_resume_keeps_findings_and_says_so(tmp_path: Path) -> None:
    file, out = tmp_path / "sweep.yaml", tmp_path / "run"
    file.write_text(sweep(models=["fake:unsupported", "fake:raise", "fake:steady"]).to_yaml())
    start(out, file).communicate(timeout=60)
    done = subprocess.run(farm(*RESUME, str(out)), capture_output=True, text=True, timeout=60, check=False)
    assert "2 cells to measure in 1 load groups, 4 kept from before" in done.stdout
    forced = farm(*RESUME, str(out), "--retry", "unsupported")
    done = subprocess.run(forced, capture_output=True, text=True, timeout=60, check=False)
    assert "4 cells to measure in 2 load groups, 2 kept from before" in done.stdout
