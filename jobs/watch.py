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
from jobs.host import Beside, Host, this_host
from jobs.nvml import Found, open_gpu
from jobs.telemetry import Sampler

LEAST_WATCHED_S = 0.5


class Watch:
    """Watches nothing: for the fake engine, and the base of those that do."""

    host: Host | None = None

    @property
    def host_best_probe_s(self) -> float | None:
        """The least time that fixed work took on this host; None where nobody looks."""
        return self.host.best_s if self.host else None

    @contextmanager
    def of_trial(self) -> Iterator[Beside]:
        """Around one timed trial; what was seen is there when it is over."""
        yield Beside()

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

    host: Host

    def __init__(self, found: Found, host: Host | None = None) -> None:
        self._found, self.host = found, host or this_host(found.place)
        self.start_again()

    def start_again(self) -> None:
        self._sampler = Sampler(self._found)

    @contextmanager
    def of_trial(self) -> Iterator[Beside]:
        """No thread beside a timed trial: launch-bound work shares the interpreter with it. One reading at the end."""
        with self.host.beside(on_a_quiet_core=True) as seen:
            yield seen
        self._sampler.note()

    def telemetry(self, work_again: Callable[[], object]) -> Telemetry | None:
        """A thread samples beside untimed work; after it nothing of ours is on the device: who is busy is another."""
        with self._sampler:
            work_again()
        self._sampler.watch_idle()
        return replace(self._sampler.telemetry(), host_best_probe_s=self.host_best_probe_s)

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

    host: Host

    def __init__(self, host: Host | None = None) -> None:
        self._process, self.host = psutil.Process(), host or this_host()
        self.start_again()

    def start_again(self) -> None:
        self._wall_s, self._all_busy_s, self._own_busy_s, self._trials = 0.0, 0.0, 0.0, 0

    @contextmanager
    def of_trial(self) -> Iterator[Beside]:
        """On the cores where torch's threads are: the main thread is one of those that compute."""
        wall, busy, own = time.perf_counter(), _busy_s(), self._own_s()
        with self.host.beside(on_a_quiet_core=False) as seen:
            yield seen
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
            return Telemetry(samples=self._trials, host_best_probe_s=self.host_best_probe_s, reasons=reasons)
        cores = os.cpu_count() or 1
        others = min(1.0, max(0.0, self._all_busy_s - self._own_busy_s) / (self._wall_s * cores))
        return Telemetry(
            samples=self._trials,
            other_utilization=others,
            host_best_probe_s=self.host_best_probe_s,
            reasons=reasons,
        )

    def _own_s(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


def watch_for(load: Load) -> Watch:
    """What can be watched where this load runs."""
    if load.engine == "fake":
        return Watch()
    return GpuWatch(open_gpu(load.device)) if load.device == "cuda" else HostWatch()


def _busy_s() -> float:
    """Seconds that the machine's cores have worked, over all of them, since it started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times[:8]) - idle if len(times) >= 8 else sum(times) - idle
