"""A thread that reads something every few milliseconds while the main thread measures.

Why so little in it: each reading wakes this thread and takes the interpreter lock for microseconds, which the host of
a launch-bound model would otherwise use. The first reading comes one period after the start, so none falls into the
start of the prefill.

    ticker = Ticker(gpu.power_w, period_s=0.05)
    ticker.start(); ...; readings = ticker.stop()
"""

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Ticks(Protocol[T]):
    """Readings between `start()` and `stop()`. May be started again: `stop()` gives those since the last start."""

    def start(self) -> None: ...
    def stop(self) -> list[T]: ...


class Ticker(Generic[T]):
    """The real one."""

    def __init__(self, read: Callable[[], T], period_s: float) -> None:
        self._read = read
        self._period_s = period_s
        self._over = threading.Event()
        self._readings: list[T] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._over, self._readings = threading.Event(), []
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._thread.start()

    def stop(self) -> list[T]:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        return self._readings

    def _run(self) -> None:
        while not self._over.wait(self._period_s):
            self._readings.append(self._read())
