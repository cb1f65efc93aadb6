"""A legacy backend's worker on a real Ray: the same code, started by another interpreter, in the same table.

The environment holds an empty stand-in for the old package; `test_legacy_packages.py` has the true ones.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import ray_pool
from cluster.run import open_pool, run_sweep
from farm.runtime_env import RuntimeEnv
from farm.store import RunFolder
from jobs.legacy import prepare_environment
from tests.legacy_stand_in import VERSION, use_stand_ins
from tests.unit.sweeps import sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    with open_pool("ray", "auto", num_gpus=1) as opened:
        yield opened


def test_one_table_holds_rows_of_two_interpreters(pool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stand_ins(monkeypatch, tmp_path / "cache")
    prepare_environment("auto-gptq")
    mixed = sweep(quantizations=["gptq", "auto-gptq"], cache_modes=["on"])
    summary = run_sweep(mixed, RunFolder(tmp_path / "run"), pool)
    assert (summary.exit_code, summary.statuses) == (0, {"ok": 2})

    records = {record.cell.load.quantization: record for record in RunFolder(tmp_path / "run").results()}
    old, new = records["auto-gptq"].environment, records["gptq"].environment
    assert old.packages == new.packages | {"auto-gptq": VERSION}
    assert old.worker["pid"] != new.worker["pid"]


def test_a_node_without_the_environment_is_not_waited_for(
    pool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The driver's machine has it, the worker's has not: a path that nobody has stands for that."""
    elsewhere = RuntimeEnv(py_executable="/only/on/the/driver/python")
    monkeypatch.setattr(ray_pool, "with_own_interpreter", lambda env, quantization: elsewhere)
    monkeypatch.setattr(pool, "_started_here", False)  # as on a cluster that was there before
    summary = run_sweep(sweep(quantizations=["auto-gptq"], cache_modes=["on"]), RunFolder(tmp_path), pool)
    assert summary.statuses == {"ok": 1}  # by the ordinary worker: a true backend would have said what is missing
