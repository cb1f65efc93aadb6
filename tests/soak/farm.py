"""A sweep under fire: its driver process, the faults so far, and what was safe before each."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from farm.stats import median
from farm.store import RunFolder
from farm.sweep import Sweep
from tests.soak.looking import is_left_over, is_worker, open_cells, records_in, whole_files, worker_pids
from tests.soak.nodes import add_node, gpu_node_ids, held_gpus
from tests.soak.report import Report
from tests.unit.sweeps import sweep

CELLS_A_LOAD = 10
PLANTED = ("raise", "unpicklable", "oom", "host-oom", "unsupported")  # each tells itself apart in its record
OUTSIDE = {"worker_sigkill": 8, "worker_sigsegv": 4, "record_cut": 4, "driver_sigkill": 2, "driver_sigint": 1}
RARE = {"second_driver": 1, "node_lost": 1}
RECOVERY_LIMIT_S = 180.0
MOST_OPEN = 3  # faults that the farm has not yet recovered from: more at once and it would only ever start processes


def soak(cluster: Any, out: Path, cells: int, faults: int, seed: int, limit_s: float = math.inf) -> Report:
    """Runs to the end, whatever happens on the way; the report says how it went. After `limit_s` no more faults."""
    began, farm = time.monotonic(), Farm(cluster, out, fake_sweep(cells, faults, seed))
    dice = random.Random(seed)
    while True:
        wants_more = farm.injected() < faults and time.monotonic() - began < limit_s
        if farm.is_done() and not wants_more:
            break
        farm.keep_driving()
        time.sleep(dice.uniform(0.1, 0.6))
        if wants_more and len(farm.waits) < MOST_OPEN:
            farm.inject(dice)
    farm.end()
    return farm.report(time.monotonic() - began)


def fake_sweep(cells: int, faults: int, seed: int) -> Sweep:
    """Two thirds of the faults are planted: a cell strikes on its first attempt, as its script and its seed say."""
    share = 0.67 * faults / cells
    scripts = [
        f"fake:{PLANTED[index % len(PLANTED)]}?p={share:.3f}&seed={seed + index}&attempts=1&pause=0.15"
        for index in range(cells // CELLS_A_LOAD)
    ]
    contexts = list(range(16, 16 + CELLS_A_LOAD // 2))
    limits = {"cell_timeout_s": 30, "load_timeout_s": 60}
    return sweep(models=scripts, contexts=contexts, limits=limits, interleave=1)  # so that points come one by one


class Farm:
    """The sweep, its driver process, the faults so far and what was safe before each."""

    def __init__(self, cluster: Any, out: Path, what: Sweep) -> None:
        self.cluster, self.out = cluster, out / "run"
        self.file = out / "sweep.yaml"
        self.file.write_text(what.to_yaml())
        self.log = (out / "driver.log").open("ab")
        self.driver: subprocess.Popen[bytes] | None = None
        self.drivers, self.points_at_start = 0, 0
        self.outside: Counter[str] = Counter()
        self.safe: dict[Path, bytes] = {}
        self.cut: set[Path] = set()
        self.waits: list[tuple[str, float, int]] = []
        self.recovered_s: dict[str, list[float]] = {}

    def keep_driving(self) -> None:
        """Start a driver when there is none and something is left to do."""
        self._look()
        if self.driver is not None and self.driver.poll() is None:
            return
        if not self.is_done():
            self.points_at_start = self._points()
            self.driver = self._start()
            self.drivers += 1

    def _start(self) -> subprocess.Popen[bytes]:
        begin = ["resume", str(self.out)] if (self.out / "run.json").exists() else ["run", str(self.file)]
        more = ["--out", str(self.out)] if begin[0] == "run" else []
        command = [sys.executable, "-m", "farm", *begin, *more, "--no-images", "--address", self.cluster.address]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def is_done(self) -> bool:
        """Every cell's newest record is final, and the last driver has seen that."""
        if self.driver is None or self.driver.poll() is None:
            return False
        return not open_cells(self.out)

    def injected(self) -> int:
        return sum(self.outside.values()) + sum(self._planted().values())

    def _planted(self) -> Counter[str]:
        told = Counter(r.failure.exception or "" for r in records_in(self.out) if r.failure)
        names = ("ValueError", "Unpicklable", "OutOfMemoryError", "MemoryError", "Unsupported")
        return Counter({name: told[error] for name, error in zip(PLANTED, names, strict=True) if told[error]})

    def inject(self, dice: random.Random) -> None:
        kinds = OUTSIDE | RARE
        kind = dice.choices(list(kinds), weights=list(kinds.values()))[0]
        self.safe |= whole_files(self.out)
        if getattr(self, f"_{kind}")(dice):
            self.outside[kind] += 1
            self.waits.append((kind, time.monotonic(), self._points()))

    def _worker_sigkill(self, dice: random.Random) -> bool:
        return self._signal_worker(dice, signal.SIGKILL)

    def _worker_sigsegv(self, dice: random.Random) -> bool:
        return self._signal_worker(dice, signal.SIGSEGV)

    def _signal_worker(self, dice: random.Random, which: signal.Signals) -> bool:
        alive = sorted(pid for pid in worker_pids(self.out) if is_worker(pid))
        if not alive:
            return False
        with suppress(ProcessLookupError):
            os.kill(dice.choice(alive), which)
            return True
        return False

    def _driver_sigkill(self, dice: random.Random) -> bool:
        return self._signal_driver(signal.SIGKILL)

    def _driver_sigint(self, dice: random.Random) -> bool:
        return self._signal_driver(signal.SIGINT)

    def _points(self) -> int:
        return sum(record.status.is_final for record in records_in(self.out))

    def _is_driving(self) -> bool:
        return self.driver is not None and self.driver.poll() is None

    def _signal_driver(self, which: signal.Signals) -> bool:
        """Not before it has measured something: drivers that are killed while they start would get nowhere."""
        if self.driver is None or not self._is_driving() or self._points() <= self.points_at_start:
            return False
        self.driver.send_signal(which)
        self.driver.wait(timeout=60)
        return True

    def _record_cut(self, dice: random.Random) -> bool:
        """Between two drivers: while one is at work nobody else writes here."""
        files = sorted(whole_files(self.out))
        if not files or (self._is_driving() and not self._signal_driver(signal.SIGKILL)):
            return False
        victim = dice.choice(files)
        victim.write_bytes(victim.read_bytes()[:-50])
        self.cut.add(victim)
        return True

    def _second_driver(self, dice: random.Random) -> bool:
        """Refused, as long as the first one lives; should that one just have ended, the second takes its place."""
        first = self.driver
        if first is None or first.poll() is not None or not (self.out / "lock.json").exists():
            return False
        second = self._start()
        while first.poll() is None and second.poll() is None:
            time.sleep(0.2)
        if second.poll() is None:
            self.driver, self.drivers = second, self.drivers + 1
            return False
        if second.returncode != 2 and first.poll() is None:
            raise RuntimeError(f"a second driver worked beside the first and ended with {second.returncode}")
        return second.returncode == 2

    def _node_lost(self, dice: random.Random) -> bool:
        """And another one joins."""
        workers = [node for node in self.cluster.worker_nodes if node.node_id in gpu_node_ids()]
        self.cluster.remove_node(dice.choice(sorted(workers, key=lambda node: node.node_id)), allow_graceful=False)
        add_node(self.cluster)
        return True

    def _look(self) -> None:
        """Has the next point come in since each fault?"""
        there, still = self._points(), []
        for kind, at_s, before in self.waits:
            if there > before:
                self.recovered_s.setdefault(kind, []).append(time.monotonic() - at_s)
            elif time.monotonic() - at_s > RECOVERY_LIMIT_S:
                raise RuntimeError(f"no point came in within {RECOVERY_LIMIT_S:.0f} s after {kind}")
            else:
                still.append((kind, at_s, before))
        self.waits = [] if self.is_done() else still

    def end(self) -> None:
        if self.driver is not None:
            self.driver.wait(timeout=60)
        self.log.close()

    def report(self, wall_s: float) -> Report:
        records, final = records_in(self.out), RunFolder(self.out).results()
        faults = dict(sorted((self.outside + self._planted()).items()))
        cells = len(RunFolder(self.out).manifest().keys)
        kept = whole_files(self.out)
        good = [r for r in records if r.status.is_final]
        times = {kind: {"median": median(s), "max": max(s)} for kind, s in sorted(self.recovered_s.items())}
        return Report(
            cells=cells,
            faults=faults,
            faults_in_all=sum(faults.values()),
            final=dict(Counter(r.status.value for r in final if r.status.is_final)),
            without_final=cells - sum(r.status.is_final for r in final),
            lost=sum(kept.get(file) != data for file, data in self.safe.items() if file not in self.cut),
            doubled=len(good) - len({r.key for r in good}),
            orphans=sum(is_left_over(pid) for pid in worker_pids(self.out)),
            held_gpus=held_gpus(),
            drivers=self.drivers,
            recovery_s=times,
            wall_s=wall_s,
        )
