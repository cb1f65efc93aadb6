"""What can be seen of a run from outside: its files and its processes."""

import json
import time
from contextlib import suppress
from pathlib import Path

import psutil

from farm.records import Record, from_json
from farm.store import RunFolder


def records_in(out: Path) -> list[Record]:
    return [from_json(data) for data in whole_files(out).values()]


def whole_files(out: Path) -> dict[Path, bytes]:
    """Finished records by file; one that is being renamed or was cut is not among them."""
    found = {}
    for file in out.glob("records/*/[0-9]*.json"):
        with suppress(OSError):
            data = file.read_bytes()
            if data.endswith(b"}\n"):
                found[file] = data
    return found


def open_cells(out: Path) -> set[str]:
    keys = RunFolder(out).manifest().keys if (out / "run.json").exists() else ("nothing yet",)
    return set(keys) - {r.key for r in records_in(out) if r.status.is_final}


def worker_pids(out: Path) -> set[int]:
    with suppress(FileNotFoundError):
        lines = (out / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return {event["pid"] for event in events if event["what"] == "loading"}
    return set()


def is_worker(pid: int) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "ray::" in " ".join(process.cmdline())
    return False


def is_left_over(pid: int) -> bool:
    """True when a worker is still there ten seconds after everything ended."""
    until = time.monotonic() + 10
    while is_worker(pid) and time.monotonic() < until:
        time.sleep(0.2)
    return is_worker(pid)
