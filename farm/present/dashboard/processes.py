"""Is the process that drives a run still there? And the ones that this dashboard started, found again after a reload.

Why not the folder's lock: whoever tries it holds it for a moment, and a driver that starts in that moment is refused.
A pid alone is not enough either: it is given again. The process must be as old as it says.

    is_alive(snapshot.now.driver, snapshot.now.heard_at)
"""

import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from farm.present.atomic import write_atomically
from farm.present.dashboard.live import Driver

FILE = "launch.json"
SLACK_S = 5.0  # between a process's start and its own first word; clocks of the kernel tick in 0.01 s
SILENCE = timedelta(minutes=15)  # of a driver on another machine: a cell may take that long without a word


@dataclass(frozen=True, slots=True)
class Launch:
    """A driver process that a page started."""

    pid: int
    created_s: float


def is_alive(driver: Driver | None, heard_at: datetime | None) -> bool:
    """True while it works; of a driver on another machine, while it was heard lately."""
    if driver is None or driver.ended_at is not None:
        return False
    if driver.host != platform.node():
        return heard_at is not None and datetime.now(UTC) - heard_at < SILENCE
    created_s = _created_s(driver.pid)
    return created_s is not None and created_s <= driver.started_at.timestamp() + SLACK_S


def process_alive(launch: Launch) -> bool:
    created_s = _created_s(launch.pid)
    return created_s is not None and abs(created_s - launch.created_s) < SLACK_S


def _created_s(pid: int) -> float | None:
    """None for one that is gone, or that ended and was not yet waited for."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def remember(folder: Path, pid: int) -> Launch:
    """Write down who drives this folder from now on."""
    launch = Launch(pid, _created_s(pid) or 0.0)
    write_atomically(folder / FILE, (json.dumps(asdict(launch)) + "\n").encode())
    return launch


def launched(folder: Path) -> Launch | None:
    """Who was started here, if anybody was."""
    try:
        data = json.loads((folder / FILE).read_text())
        return Launch(int(data["pid"]), float(data["created_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
