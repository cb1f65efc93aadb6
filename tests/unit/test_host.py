"""Looking for a core that no neighbour slows: on a host whose cores we invent."""

import os

import pytest

from jobs.host import Host, quiet_stretches, time_fixed_work


class Cores:
    """Four cores; `slow` ones take 1.9 times as long. `now` is where the thread may be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slow: set[int]) -> None:
        self.now, self.slow, self.moves = {0, 1, 2, 3}, slow, 0
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: self.now)
        monkeypatch.setattr(os, "sched_setaffinity", self._move)

    def _move(self, who: int, cores: set[int]) -> None:
        assert who == 0  # this thread alone
        self.now, self.moves = cores, self.moves + 1

    def probe(self) -> float:
        return 1.9e-3 if min(self.now) in self.slow else 1e-3


def test_a_trial_runs_on_a_quiet_core_and_the_thread_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, slow={0, 1})
    host = Host(cores.probe)
    host.survey()
    with host.beside(on_a_quiet_core=True) as seen:
        assert cores.now == {2}
    assert (seen.probe_s, host.best_s, cores.now) == (1e-3, 1e-3, {0, 1, 2, 3})


def test_the_last_quiet_core_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, slow={0, 1, 2})
    host = Host(cores.probe)
    host.survey()
    for _ in range(2):
        cores.moves = 0
        with host.beside(on_a_quiet_core=True):
            moves = cores.moves
    assert moves == 1


def test_the_workers_of_two_gpus_do_not_meet_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, slow=set())
    found = []
    for index in (0, 1):
        with Host(cores.probe, place=(index, 2)).beside(on_a_quiet_core=True):
            found.append(min(cores.now))
    cores.now = set(range(32))
    for index in range(4):
        with Host(lambda: 1e-3, place=(index, 4)).beside(on_a_quiet_core=True):
            found.append(min(cores.now))
        cores.now = set(range(32))
    assert found == [0, 3, 0, 10, 20, 28]


def test_where_all_are_slow_the_trial_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, slow=set())
    host = Host(cores.probe)
    cores.slow = {0, 1, 2, 3}
    with host.beside(on_a_quiet_core=True) as seen:
        assert cores.now == {0, 1, 2, 3}
    assert (seen.probe_s, host.best_s) == (1.9e-3, 1e-3)


def test_a_neighbour_that_comes_during_the_trial_is_seen_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, slow=set())
    with Host(cores.probe).beside(on_a_quiet_core=False) as seen:
        cores.slow = {0}
    assert (seen.probe_s, cores.moves) == (1.9e-3, 1)  # the way back only


def test_a_trial_that_fails_leaves_the_thread_free_to_move(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, slow={0})
    with pytest.raises(ValueError, match="planted"), Host(cores.probe).beside(on_a_quiet_core=True):
        raise ValueError("planted")
    assert cores.now == {0, 1, 2, 3}


def test_real_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    host = Host()
    host.survey()
    with host.beside(on_a_quiet_core=True) as seen:
        time_fixed_work()
    assert os.sched_getaffinity(0) == before
    assert seen.probe_s >= host.best_s > 0


def test_quiet_stretches_are_counted() -> None:
    """Best 1.0 ms at first sight; in each stretch two looks to settle and one after it. The second one ends slowly, and
    in the third another process had the core for half of the time."""
    looks, shares = iter([1e-3, *[1e-3] * 5, 1.9e-3, *[1e-3] * 3]), iter([0.99, 0.99, 0.5])
    assert quiet_stretches(Host(lambda: next(looks)), stretches=3, work=lambda: next(shares)) == 1
