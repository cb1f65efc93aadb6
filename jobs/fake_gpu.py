"""A GPU and a ticker without hardware: what they tell is set by hand, and time passes only when the test says so.

gpu = FakeGpu(clock=watch.now)
gpu.set_power(300.0); watch.advance(2.0); gpu.energy_j()     # 600.0
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class FakeGpu:
    """Every attribute may be set; None means the GPU does not tell. The counter integrates the power exactly."""

    clock: Callable[[], float] = field(default=lambda: 0.0)
    sm_clock: float | None = 1.98e9
    sm_clock_top: float | None = 1.98e9
    power_limit: float | None = 1.0
    power: float | None = 100.0
    events: int | None = 0
    temperature: float | None = 40.0
    busy: float | None = 0.0
    memory_used: int | None = 1_000
    pids: tuple[int, ...] | None = ()
    has_counter: bool = True
    _joules: float = 0.0
    _since: float = 0.0

    def set_power(self, watts: float) -> None:
        self._joules, self._since = self._counted(), self.clock()
        self.power = watts

    def sm_clock_hz(self) -> float | None:
        return self.sm_clock

    def sm_clock_top_hz(self) -> float | None:
        return self.sm_clock_top

    def power_limit_share(self) -> float | None:
        return self.power_limit

    def power_w(self) -> float | None:
        return self.power

    def clock_events(self) -> int | None:
        return self.events

    def temperature_c(self) -> float | None:
        return self.temperature

    def utilization(self) -> float | None:
        return self.busy

    def memory_used_bytes(self) -> int | None:
        return self.memory_used

    def compute_pids(self) -> tuple[int, ...] | None:
        return self.pids

    def energy_j(self) -> float | None:
        return self._counted() if self.has_counter else None

    def _counted(self) -> float:
        return self._joules + (self.power or 0.0) * (self.clock() - self._since)


class FakeTicks(Generic[T]):
    """Reads when `tick()` is called between start and stop, in the caller's own thread."""

    def __init__(self, read: Callable[[], T], period_s: float = 0.0) -> None:
        self._read = read
        self._readings: list[T] | None = None

    def start(self) -> None:
        self._readings = []

    def tick(self) -> None:
        if self._readings is not None:
            self._readings.append(self._read())

    def stop(self) -> list[T]:
        readings, self._readings = self._readings or [], None
        return readings
