"""Taking turns: a quality task in the shape of a speed run, and when it is worth telling whose turn it is.

progress = Progress()
if progress.is_due(key): yield Running(key, run.done, run.total)
"""

import time

from farm.cells import QualityTask
from farm.records import QualityResult
from jobs.engines.base import Engine
from jobs.quality import measure_quality

TELL_EVERY_S = 1.0


class QualityRun:
    """A quality task in the shape of a SpeedRun: one repetition is the whole text."""

    def __init__(self, engine: Engine, task: QualityTask) -> None:
        self.engine, self.task, self.done, self.total = engine, task, 0, 1
        self.is_complete = False
        self._result: QualityResult | None = None

    def repeat(self) -> None:
        self._result = measure_quality(self.engine, self.task)
        self.done, self.is_complete = 1, True

    def result(self) -> QualityResult | None:
        return self._result


class Progress:
    """Reports a change of cell always (a death must find its cell) and mere counting once a second."""

    def __init__(self) -> None:
        self.key, self.told_at = "", 0.0

    def is_due(self, key: str) -> bool:
        time_s = time.monotonic()
        if key == self.key and time_s - self.told_at < TELL_EVERY_S:
            return False
        self.key, self.told_at = key, time_s
        return True
