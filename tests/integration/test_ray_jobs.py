"""A running Ray head with a token: `ray job submit` as in the README, and `farm run --address`; it stays running."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from farm.records import Status
from farm.store import RunFolder
from tests.unit.sweeps import sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
BIN = Path(sys.executable).parent
TOKEN = "only-for-this-test-" + "x" * 32


@dataclass(frozen=True)
class Head:
    address: str
    dashboard: str
    env: dict[str, str]
    process: subprocess.Popen[bytes]


def _free_ports(count: int) -> list[int]:
    """All at once, so that no two are the same; the kernel gives them from above Ray's own range for workers."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    port, dashboard, client = _free_ports(3)
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray's sockets lie below it
    apart = ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if name not in apart}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"PATH": f"{BIN}:{env['PATH']}", "PYTHONPATH": str(Path.cwd())}
    words = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    words += [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    words += ["--dashboard-agent-listen-port=0", "--num-cpus=2", "--num-gpus=2", f"--temp-dir={scratch}"]
    process = subprocess.Popen([BIN / "ray", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", env, process)
    try:
        _wait_for_the_dashboard(started)
        yield started
        assert process.poll() is None, "a run or a job has ended the cluster that it was only to use"
    finally:
        _stop(process)
        shutil.rmtree(scratch, ignore_errors=True)


def _wait_for_the_dashboard(head: Head) -> None:
    request = urllib.request.Request(head.dashboard + "/api/version", headers={"Authorization": f"Bearer {TOKEN}"})
    until = time.monotonic() + 90
    while head.process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail("the Ray head did not come up")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Only this head and what it started: `ray stop` would end every Ray of the machine."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=20)
    for orphan in alive:
        orphan.kill()


def _write(file: Path, **changes: object) -> Path:
    file.write_text(sweep(cache_modes=["on"], **changes).to_yaml())
    return file


def _submit(head: Head, *words: object) -> subprocess.Popen[str]:
    entry = ["python", "-m", "jobs.submit", *map(str, words), "--no-images"]
    told = ["--runtime-env-json", json.dumps({"env_vars": {"FARM_COMMIT": "of this test"}})]
    command = [BIN / "ray", "job", "submit", "--address", head.dashboard, "--working-dir", ".", *told, "--", *entry]
    return subprocess.Popen(command, env=head.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_job_succeeds_or_fails_as_its_sweep_does(head: Head, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    jobs = [
        _submit(head, _write(tmp_path / "good.yaml", contexts=[16, 32]), "--out", good),
        _submit(head, _write(tmp_path / "bad.yaml", models=["fake:raise?context=16"]), "--out", bad),
    ]
    success, failure = (job.communicate(timeout=200)[0] for job in jobs)
    assert [job.returncode for job in jobs] == [0, 1], success + failure
    assert "succeeded" in success
    assert [record.status for record in RunFolder(good).results()] == [Status.OK, Status.OK]
    assert {record.environment.farm_commit for record in RunFolder(good).results()} == {"of this test"}
    assert (good / "report.html").is_file()
    assert "exit code 1" in failure
    assert [record.status for record in RunFolder(bad).results()] == [Status.ERROR]


def test_a_run_on_a_running_cluster_uses_it_and_leaves_it(head: Head, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "farm", "run", _write(tmp_path / "sweep.yaml"), "--out", out, "--no-images"]
    env = head.env | {"RAY_ADDRESS": head.address}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a running Ray cluster" in done.stdout
    assert [record.status for record in RunFolder(out).results()] == [Status.OK]
