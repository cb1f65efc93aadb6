"""What goes on around the timed trials: the device's own telemetry, and who else was at work on the host.

Why around and not inside: nothing here runs between a trial's first and last clock reading on the measuring thread.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psutil

from farm.cells import Load, SpeedTask
from farm.device_facts import Energy, Telemetry
from farm.records import Trial
from jobs.energy import measure_energy
from jobs.engines.base import Engine, Generation
from jobs.failures import poisons
from jobs.nvml import Found, open_gpu
from jobs.telemetry import Sampler

LEAST_WATCHED_S = 0.5
PROBE_ROUNDS = 20_000  # about 1 ms: long enough to tell a slow core, short beside the shortest trial


class Watch:
    """Watches nothing: for the fake engine, and the base of those that do."""

    @contextmanager
    def of_trial(self) -> Iterator[None]:
        """Around one timed trial."""
        yield

    def start_again(self) -> None:
        """Forget the trials seen: the set is measured once more."""

    def telemetry(self, work_again: Callable[[], object]) -> Telemetry | None:
        """What was seen. `work_again` does a trial's work once more, untimed, where a closer look needs it."""
        return None

    def energy(
        self, engine: Engine, begin: Callable[[], Generation], task: SpeedTask, trials: Sequence[Trial]
    ) -> Energy | None:
        """Joules by phase, from windows of their own after the trials."""
        return None


class GpuWatch(Watch):
    """On a GPU: clocks, heat, power and slowdowns during the trials; who else is on it; energy afterwards."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self.start_again()

    def start_again(self) -> None:
        self._sampler = Sampler(self._found)
        self._probes: list[float] = []

    @contextmanager
    def of_trial(self) -> Iterator[None]:
        """No thread beside a timed trial: launch-bound work shares the interpreter with it. One reading at the end."""
        with _probed(self._probes):
            yield
        self._sampler.note()

    def telemetry(self, work_again: Callable[[], object]) -> Telemetry | None:
        """A thread samples beside untimed work; after it nothing of ours is on the device: who is busy is another."""
        with self._sampler:
            work_again()
        self._sampler.watch_idle()
        return replace(self._sampler.telemetry(), host_probe_s=tuple(self._probes))

    def energy(
        self, engine: Engine, begin: Callable[[], Generation], task: SpeedTask, trials: Sequence[Trial]
    ) -> Energy | None:
        try:
            return measure_energy(engine, begin, task, trials, self._found)
        except Exception as error:  # good trials are there already: running out of memory here must not cost them
            if not poisons(error):
                raise
            return Energy(reasons={"energy": f"not measured: {error}"})


class HostWatch(Watch):
    """On the CPU: the share of all cores that *others* used while the trials ran."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.start_again()

    def start_again(self) -> None:
        self._wall_s, self._all_busy_s, self._own_busy_s, self._trials = 0.0, 0.0, 0.0, 0
        self._probes: list[float] = []

    @contextmanager
    def of_trial(self) -> Iterator[None]:
        wall, busy, own = time.perf_counter(), _busy_s(), self._own_s()
        with _probed(self._probes):
            yield
        self._wall_s += time.perf_counter() - wall
        self._all_busy_s += _busy_s() - busy
        self._own_busy_s += self._own_s() - own
        self._trials += 1

    def telemetry(self, work_again: Callable[[], object]) -> Telemetry | None:
        if not self._wall_s:
            return None
        reasons = {"telemetry": "clocks, temperature and power are read from NVIDIA devices only"}
        if self._wall_s < LEAST_WATCHED_S:
            reasons["other_utilization"] = f"trials of {self._wall_s:.2f} s in all: the kernel counts in 0.01 s"
            return Telemetry(samples=self._trials, host_probe_s=tuple(self._probes), reasons=reasons)
        cores = os.cpu_count() or 1
        others = min(1.0, max(0.0, self._all_busy_s - self._own_busy_s) / (self._wall_s * cores))
        return Telemetry(
            samples=self._trials, other_utilization=others, host_probe_s=tuple(self._probes), reasons=reasons
        )

    def _own_s(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


def watch_for(load: Load) -> Watch:
    """What can be watched where this load runs."""
    if load.engine == "fake":
        return Watch()
    return GpuWatch(open_gpu(load.device)) if load.device == "cuda" else HostWatch()


@contextmanager
def _probed(probes: list[float]) -> Iterator[None]:
    """Append how long fixed work takes on this core, just before and just after: their mean, in seconds.

    A virtual CPU may run at half its speed while a neighbour is busy on the same core, which no counter of ours shows:
    on a shared GPU machine one process that never saw Ray decoded a token in 19 to 36 ms, in spells of a second.
    """
    before = _probe_s()
    yield
    probes.append((before + _probe_s()) / 2)


def _probe_s() -> float:
    start = time.perf_counter()
    for _ in range(PROBE_ROUNDS):
        pass
    return time.perf_counter() - start


def _busy_s() -> float:
    """Seconds that the machine's cores have worked, over all of them, since it started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times[:8]) - idle if len(times) >= 8 else sum(times) - idle
