"""Starting a try: `python -m farm run` on a sweep of its own, in a process and a folder of its own.

Why a process: closing the page, or the dashboard, must never end a measurement, and the dashboard itself loads no
model. Why one at a time: two on one device would measure each other.

    launcher = Launcher(library, pool="ray", device="auto")
    name = launcher.start(choice)      # 'try/20260131-120000-4f2a'; raises FarmError while another run is at work
"""

import secrets
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

from farm.errors import FarmError
from farm.present.dashboard.choices import Choice, sweep_of
from farm.present.dashboard.library import TRIES, Library
from farm.present.dashboard.processes import launched, process_alive, remember

OUTPUT = "driver.log"


class Busy(FarmError):
    """A run is at work already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the run {name} is at work; two at once would measure each other")


class Launcher:
    """Starts and stops the runs of the try page."""

    def __init__(self, library: Library, pool: str, device: str) -> None:
        self.library, self.pool, self.device = library, pool, device
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, choice: Choice) -> str:
        """Returns the run's name; it goes on by itself."""
        with self._lock:
            self._bury()
            for name in self.library.running():
                raise Busy(name)
            name = f"{TRIES}/{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            folder = self.library.home / name
            folder.mkdir(parents=True)
            (folder / "sweep.yaml").write_text(sweep_of(choice, self.device).to_yaml(), encoding="utf-8")
            self._children.append(self._spawn(folder))
            remember(folder, self._children[-1].pid)
            return name

    def _spawn(self, folder: Path) -> subprocess.Popen[bytes]:
        """In a session of its own: a Ctrl-C for the dashboard is none for the run."""
        words = ["run", str(folder / "sweep.yaml"), "--out", str(folder), "--pool", self.pool, "--no-images", "--show"]
        with (folder / OUTPUT).open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "farm", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """Ask a try's driver to end: its finished cells stay. Nothing happens to any other process."""
        launch = launched(self.library.reader(name).path) if name.startswith(f"{TRIES}/") else None
        if launch is not None and process_alive(launch):
            with suppress(psutil.Error):
                psutil.Process(launch.pid).send_signal(signal.SIGTERM)

    def _bury(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]


def last_words(folder: Path) -> str | None:
    """Why a driver left before it measured anything: the `farm: ...` sentence of its output, or its last line."""
    try:
        lines = [line for line in (folder / OUTPUT).read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    told = [line for line in lines if line.startswith("farm: ")]
    words = told or lines
    return words[-1] if words else None
