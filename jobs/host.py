"""How fast the host's cores are right now, and a core that is not slowed by a neighbour.

The physics: a virtual core is half of a physical one. While somebody else works on the other half it runs at about
half its speed, in spells of a second, which no counter of ours shows. Launch-bound decoding is then that much slower:
on a shared H100 machine the same token took 22 ms or 33 ms. So a fixed piece of Python is timed just before and just
after each trial, and before each trial the main thread moves to a core that runs it at full speed. The workers of
other GPUs look for one, too: each begins elsewhere (`place`), or they would meet on the first.

    host = Host()
    with host.beside(on_a_quiet_core=True) as beside:
        trial()
    beside.probe_s, host.best_s      # 0.00026, 0.00025: nobody was in the way
"""

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farm.steady import is_slow

PROBE_ROUNDS = 20_000  # 0.25 to 1 ms: long enough to tell a slow core, short beside the shortest trial
SURVEYS = 3
STRETCHES, STRETCH_S = 20, 0.25  # about as long as a trial of 12 tokens
RUNNING = 0.9  # of such a stretch
_CORES_BETWEEN = 2


@dataclass(slots=True)
class Beside:
    """What was seen beside one trial, once it is over: seconds of the slower probe, before or after it."""

    probe_s: float | None = None


class Host:
    """The cores that this process's main thread may use. `best_s`: the fastest probe so far, on any of them.

    `place`: which of the host's GPUs this worker serves, and how many there are.
    """

    def __init__(self, probe: Callable[[], float] | None = None, place: tuple[int, int] = (0, 1)) -> None:
        self._probe, self._place = probe or time_fixed_work, place
        self._core: int | None = None
        self.best_s = self._probe()

    @contextmanager
    def beside(self, on_a_quiet_core: bool) -> Iterator[Beside]:
        """Around one trial. Raises what the trial raises, with the thread back on all of its cores."""
        seen, allowed = Beside(), _allowed()
        try:
            before = self._settle(allowed) if on_a_quiet_core and len(allowed) > 1 else self._look()
            yield seen
            seen.probe_s = max(before, self._look())
        finally:
            _move_to(allowed)

    def survey(self) -> None:
        """Look at every core a few times, so that `best_s` is what the host can do."""
        allowed = _allowed()
        for core in sorted(allowed) * SURVEYS:
            _move_to({core})
            self._look()
        _move_to(allowed)

    def _settle(self, allowed: set[int]) -> float:
        """Move to the first core at full speed, the last such one first; where there is none, to any."""
        for core in self._in_order(allowed):
            _move_to({core})
            self._look()  # the first piece of work after a move also pays for the move
            probe_s = self._look()
            if not is_slow(probe_s, self.best_s):
                self._core = core
                return probe_s
        _move_to(allowed)
        return self._look()

    def _in_order(self, allowed: set[int]) -> list[int]:
        """The last quiet core, then from this GPU's share of them on.

        The share's first cores are left out: half of all cores away from another worker's may be the same physical one.
        """
        index, gpus = self._place
        cores = sorted(allowed)
        share = len(cores) // gpus
        first = index * share + min(index * _CORES_BETWEEN, share // 2)
        return sorted(cores[first:] + cores[:first], key=lambda core: core != self._core)

    def _look(self) -> float:
        probe_s = self._probe()
        self.best_s = min(self.best_s, probe_s)
        return probe_s


@functools.cache
def this_host(place: tuple[int, int] = (0, 1)) -> Host:
    """One for the process: the longer it looks, the better it knows what full speed is."""
    host = Host(place=place)
    host.survey()
    return host


def quiet_stretches(host: Host, stretches: int = STRETCHES, work: Callable[[], float] | None = None) -> int:
    """How many of so many stretches of work, each on the quietest core to be found, went on at full speed.

    What to expect of launch-bound trials here. `work` tells what share of a stretch its thread was running.
    """
    return sum(_is_quiet_stretch(host, work or _busy_share) for _ in range(stretches))


def _is_quiet_stretch(host: Host, work: Callable[[], float]) -> bool:
    with host.beside(on_a_quiet_core=True) as seen:
        share = work()
    return share >= RUNNING and not is_slow(seen.probe_s, host.best_s)


def _busy_share() -> float:
    """The rest of the time another process had the core: a probe is too short to meet it."""
    began, cpu_began = time.perf_counter(), time.thread_time()
    while (elapsed := time.perf_counter() - began) < STRETCH_S:
        pass
    return (time.thread_time() - cpu_began) / elapsed


def time_fixed_work() -> float:
    """Seconds that a loop of fixed length takes on the core this thread is on."""
    start = time.perf_counter()
    for _ in range(PROBE_ROUNDS):
        pass
    return time.perf_counter() - start


def _allowed() -> set[int]:
    """Empty where the system has no affinity."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _move_to(cores: set[int]) -> None:
    """This thread alone; those that torch has started stay where they are."""
    if cores:
        os.sched_setaffinity(0, cores)
