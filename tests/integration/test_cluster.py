"""Several nodes on one machine (`ray.cluster_utils.Cluster`): spreading, wide models, losses, and what is left over.

One cluster for the whole module: a head without GPUs and two nodes with two fake GPUs each; what a test adds or
removes is told in its name, so they run in this order.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.ray_cluster import ray  # by way of the package that says how Ray authenticates
from cluster.ray_pool import RayPool
from cluster.run import RunSummary, run_sweep
from farm.errors import ClusterError, StoreError
from farm.events import CellEnded, Event, Loading
from farm.expand import expand
from farm.observer import Observer
from farm.records import Record
from farm.store import RunFolder
from tests.soak.farm import soak
from tests.soak.nodes import add_node, two_nodes
from tests.unit.sweeps import sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


@pytest.fixture(scope="module")
def pool(cluster: Any) -> RayPool:
    return RayPool(started_here=False)


def run(
    pool: RayPool, path: Path, models: list[str], observer: Observer | None = None, **changes: object
) -> tuple[RunSummary, tuple[Record, ...]]:
    summary = run_sweep(sweep(models=models, **changes), RunFolder(path), pool, observer=observer)
    return summary, RunFolder(path).results()


def free_gpus() -> float:
    return ray.available_resources().get("GPU", 0.0)


def within(seconds: float, look: Callable[[], object]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if look():
            return True
        time.sleep(0.1)
    return bool(look())


def last_words(driver: "subprocess.Popen[str]") -> str:
    """Where a driver that should have ended is; it ends now, so that the tests after this one have its GPUs."""
    driver.send_signal(signal.SIGABRT)
    return driver.communicate(timeout=30)[1]


def test_groups_spread_over_all_gpus_of_all_nodes_and_a_wide_model_has_two(pool: RayPool, tmp_path: Path) -> None:
    assert (pool.device, pool.capacity) == ("cuda", 4)
    narrow = [f"fake:slow?seed={seed}" for seed in range(4)]
    wide = {"gpus_per_model": {"fake:steady": 2}, "cache_modes": ["on"]}
    summary, records = run(pool, tmp_path, ["fake:steady", *narrow], **wide)
    assert summary.statuses == {"ok": 5}
    seen = {r.cell.load.model.name: r.environment.worker["CUDA_VISIBLE_DEVICES"] for r in records}
    assert sorted(seen.pop("steady").split(",")) == ["0", "1"]
    assert set(seen.values()) == {"0", "1"}


def test_what_no_node_can_serve_is_refused_before_anything_is_written(pool: RayPool, tmp_path: Path) -> None:
    for asked in ({"gpu_type": "B200"}, {"gpus_per_group": 3}):
        with pytest.raises(ClusterError, match="the cluster has 2 x H100, 2 x H100"):
            run(pool, tmp_path, ["fake:steady"], **asked)
    assert not list(tmp_path.rglob("*.json"))


def test_a_checkpoint_is_prepared_once_a_node(pool: RayPool) -> None:
    """A gptq checkpoint of a folder that is not there: each node answers for itself, with the reason."""
    made = sweep(models=["/no/such/model"], engines=["eager"], quantizations=["gptq"], contexts=[128])
    load = replace(expand(made, "cuda")[0].load, device="cpu")
    answers = list(pool.prepare([replace(load, device="cuda")]))
    assert len(answers) == 2
    assert all(answer.problem for answer in answers)


def test_a_full_disk_ends_the_run_frees_the_gpus_and_resumes(
    pool: RayPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 6:  # run.json, lock.json and a record, each with its folder
            raise OSError(28, "No space left on device")
        real(descriptor)

    models = ["fake:slow", "fake:slow?seed=1"]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*farm resume"):
        run(pool, tmp_path, models)
    monkeypatch.undo()
    assert within(5, lambda: free_gpus() == 4)
    kept = RunFolder(tmp_path).read()
    summary, records = run(pool, tmp_path, models)
    assert summary.statuses == {"ok": 4}
    assert summary.kept == len(kept) == 1
    assert {r.attempt for r in records} == {1}


def test_ctrl_c_frees_the_gpus_within_five_seconds_and_says_how_to_go_on(
    pool: RayPool, cluster: Any, tmp_path: Path
) -> None:
    file, out = tmp_path / "sweep.yaml", tmp_path / "run"
    hanging = ["fake:hang?context=32", "fake:hang?context=32&seed=1"]
    file.write_text(sweep(models=hanging, contexts=[16, 32], interleave=2).to_yaml())
    command = [sys.executable, "-m", "farm", "run", str(file), "--out", str(out), "--address", cluster.address]
    told = {"env": os.environ | {"PYTHONFAULTHANDLER": "1"}, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    driver = subprocess.Popen(command, text=True, **told)
    assert within(60, lambda: len(list(out.glob("records/*/1.json"))) == 4 and free_gpus() == 2), last_words(driver)
    driver.send_signal(signal.SIGINT)
    assert within(5, lambda: free_gpus() == 4), last_words(driver)
    _, farewell = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert f"farm resume {out}" in farewell
    assert [r.status.value for r in RunFolder(out).results()] == ["ok"] * 4  # the hanging cells have no row: not tried


def test_a_canary_is_measured_alone_and_again_while_all_gpus_are_busy(pool: RayPool, tmp_path: Path) -> None:
    folder, busy = RunFolder(tmp_path), [f"fake:slow?seed={seed}" for seed in range(3)]
    summary, records = run(pool, tmp_path, busy, contexts=[16, 17], cache_modes=["on"], canary=True)
    found, both = folder.interference(), [*folder.read("canary/alone"), *folder.read("canary/busy")]
    assert (summary.statuses, summary.measured, len(folder.read())) == ({"ok": 6}, 6, 6)
    assert (found.reason, found.is_disturbing, found.decode.percent) == (None, False, 0.0)  # fake time: no shift at all
    assert found.neighbours.fewest == 3
    places = [(r.environment.host, r.environment.worker["CUDA_VISIBLE_DEVICES"]) for r in both]
    assert places[0] == places[1]
    assert {r.disturbed for r in records} == {None}


def test_a_short_soak(cluster: Any, tmp_path: Path) -> None:
    """`python -m tests.soak` is the long one. A lost node is replaced, so the cluster is as it was."""
    report = soak(cluster, tmp_path, cells=10, faults=6, seed=7)
    assert report.ok, report
    assert report.faults_in_all >= 6
    assert sum(report.final.values()) == report.cells == 10


class KillsANode(Observer):
    """Removes the node of the worker that sent the first point: another point of its group is still to come."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.pids, self.is_done = cluster, {}, False

    def event(self, job: Hashable, event: Event) -> None:
        if isinstance(event, Loading):
            self.pids[job] = event.pid
        elif isinstance(event, CellEnded) and not self.is_done:
            raylet = psutil.Process(self.pids[job]).ppid()
            nodes = {node.all_processes["raylet"][0].process.pid: node for node in self.cluster.worker_nodes}
            self.cluster.remove_node(nodes[raylet], allow_graceful=False)
            self.is_done = True


def test_a_node_is_lost_and_its_groups_go_on_elsewhere(pool: RayPool, cluster: Any, tmp_path: Path) -> None:
    models = [f"fake:slow?seed={seed}" for seed in range(4)]
    once = {"contexts": [16, 17], "cache_modes": ["on"], "interleave": 1}  # a group's points end one after the other
    summary, records = run(pool, tmp_path, models, KillsANode(cluster), **once)
    assert summary.statuses == {"ok": 8}
    deaths = [r for r in RunFolder(tmp_path).read() if r.failure]
    assert deaths
    assert all("node is gone" in r.failure.message for r in deaths)
    assert {r.attempt for r in records} == {1, 2}


def test_a_node_that_is_waited_for_joins_and_runs_out_of_memory(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ends workers on a node whose memory is nearly full; a threshold of nothing makes it always full."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    pool = RayPool(started_here=False, wait_s=60)
    ended: list[tuple[RunSummary, tuple[Record, ...]]] = []
    sweeping = threading.Thread(
        target=lambda: ended.append(run(pool, tmp_path, ["fake:hang"], gpu_type="T4", cache_modes=["on"]))
    )
    sweeping.start()  # it waits: there is no such GPU yet
    add_node(cluster, "T4", gpus=1)
    sweeping.join(timeout=120)
    pool.close()
    ((summary, records),) = ended
    assert summary.statuses == {"host_oom": 1}
    assert [r.attempt for r in records] == [2]  # tried again, alone
    assert "the host ran out of memory" in records[0].failure.message
