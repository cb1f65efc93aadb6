"""A Ctrl-C whose exception gets lost in a destructor still ends the run; one that does not ends it at once."""

import os
import signal
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from cluster.driver import Driver
from cluster.pool import JobId
from farm.events import Event, GroupRequest
from farm.expand import expand
from farm.interruption import noted_interruption, raise_if_asked
from farm.keys import cell_key
from farm.plan import group_by_load
from farm.store import Manifest, RunFolder
from tests.unit.sweeps import sweep
from tests.unit.test_driver import Clock, ScriptedPool


class Loses:
    """Interrupted while it is dropped, as the C code's references are: Python prints that and goes on."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


class LosesOne(ScriptedPool):
    """The first look for events loses an interruption, and no event ever comes."""

    looks = 0

    def script(self, request: GroupRequest) -> list[Event | str]:
        return []

    def events(self, timeout_s: float, held: Set[JobId] = frozenset()) -> Iterator[tuple[JobId, Event]]:
        self.looks += 1
        assert self.looks < 10, "nobody noticed"
        if self.looks == 1:
            Loses()
        return iter(())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_interruption_ends_the_run_and_the_workers(tmp_path: Path) -> None:
    made = sweep(cache_modes=["on"])
    cells = expand(made, "cpu")
    folder, pool = RunFolder(tmp_path), LosesOne(Clock())
    folder.pin(Manifest(made, "cpu", tuple(map(cell_key, cells))))
    with pytest.raises(KeyboardInterrupt), noted_interruption():
        Driver(folder, pool, made).run(group_by_load(cells))
    assert pool.looks == 1
    assert pool.killed == [JobId(1)]


def test_an_error_that_an_interruption_was_turned_into_is_one() -> None:
    with pytest.raises(KeyboardInterrupt), noted_interruption():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error


def test_an_interruption_that_was_answered_does_not_end_the_next_run() -> None:
    with pytest.raises(KeyboardInterrupt), noted_interruption():
        os.kill(os.getpid(), signal.SIGINT)
    raise_if_asked()


def test_without_a_signal_nothing_is_raised_and_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with noted_interruption():
        raise_if_asked()
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
