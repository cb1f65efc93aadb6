"""Energy by phase: the cell's own work repeated for a second or more between two readings of the GPU's counter.

Why not during the timed trials: they are too short for a counter that ticks every 10-100 ms. The device is synchronized
before each reading, and a short lead-in of the same work brings power and sensor to a steady state: what the sensor
still owes at the end of the window it had not yet told at the beginning either.

    energy = measure_energy(engine, begin, task, trials, open_gpu("cuda"))

`begin` makes one generation of the cell's prompts, as the trials do. Costs about `SETTLE_S + IDLE_S + 2 * WINDOW_S`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from farm.cells import SpeedTask
from farm.device_facts import Energy
from farm.energy import EnergyPlan, Window, energy_of, plan_windows, trapezoid
from farm.formulas import tpot_s
from farm.records import Trial
from farm.stats import median
from jobs.engines.base import Engine, Generation
from jobs.nvml import Found, Gpu
from jobs.ticker import Ticker, Ticks

POLL_S: Final = 0.02
SETTLE_S: Final = 0.3
IDLE_S: Final = 0.5
_IDLE_READINGS: Final = 10

Reading = tuple[float, float | None]  # host time, watts


def measure_energy(
    engine: Engine,
    begin: Callable[[], Generation],
    task: SpeedTask,
    trials: Sequence[Trial],
    found: Found,
    ticker: Callable[..., Ticks[Reading]] = Ticker,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Idle power, then a window of prefills, then one of generations. The trials say how long one of each takes."""
    if found.gpu is None:
        return Energy(reasons={"energy": found.reason or "no GPU to ask"})
    plan = _plan(task, trials)
    if plan is None:
        return Energy(reasons={"energy": "one prefill is longer than the window that energy may cost"})
    bench = _Bench(engine, begin, found.gpu, ticker)
    idle_w = bench.idle_power(sleep)
    prefill, decode = bench.prefill_window(plan), bench.decode_window(plan)
    shape = {"batch": task.batch_size, "prompt_tokens": task.context_tokens, "new_tokens": task.new_tokens}
    return energy_of(prefill, decode, idle_w, **shape)


def _plan(task: SpeedTask, trials: Sequence[Trial]) -> EnergyPlan | None:
    steps = [step for step in map(tpot_s, trials) if step is not None]
    return plan_windows(median([t.ttft_s for t in trials]), median(steps) if steps else 0.0, task.new_tokens)


class _Bench:
    """The windows of one cell."""

    def __init__(
        self, engine: Engine, begin: Callable[[], Generation], gpu: Gpu, ticker: Callable[..., Ticks[Reading]]
    ) -> None:
        self._watch = engine.stopwatch
        self._begin = begin
        self._gpu = gpu
        self._ticks = ticker(self._poll, POLL_S)

    def idle_power(self, sleep: Callable[[float], None]) -> float | None:
        """The median of a quiet half second, model loaded and clocks still up: what "above idle" is above."""
        self._watch.synchronize()
        sleep(SETTLE_S)
        readings = []
        for _ in range(_IDLE_READINGS):
            sleep(IDLE_S / _IDLE_READINGS)
            readings.append(self._gpu.power_w())
        told = [watts for watts in readings if watts is not None]
        return median(told) if told else None

    def prefill_window(self, plan: EnergyPlan) -> Window:
        self._prefill(plan.lead_in)
        return self._window(lambda: self._prefill(plan.prefills), prefills=plan.prefills, steps=0)

    def decode_window(self, plan: EnergyPlan) -> Window | None:
        if not plan.generations:
            return None
        self._prefill(plan.lead_in)
        steps = plan.generations * plan.steps
        return self._window(lambda: self._generate(plan), prefills=plan.generations, steps=steps)

    def _window(self, work: Callable[[], None], prefills: int, steps: int) -> Window:
        """`work` ends with the device synchronized."""
        before_j, first = self._gpu.energy_j(), self._poll()
        self._ticks.start()
        work()
        readings = [first, *self._ticks.stop(), self._poll()]
        after_j, end = self._gpu.energy_j(), readings[-1]
        counter = None if before_j is None or after_j is None else after_j - before_j
        told = [(time_s, watts) for time_s, watts in readings if watts is not None]
        return Window(end[0] - first[0], prefills, steps, counter, trapezoid(told))

    def _prefill(self, times: int) -> None:
        for _ in range(times):
            _first_token_of(self._begin())
            self._watch.synchronize()  # also keeps the host from queueing a second's worth of work

    def _generate(self, plan: EnergyPlan) -> None:
        for _ in range(plan.generations):
            generation = _first_token_of(self._begin())
            for _ in range(plan.steps):
                generation.decode_step()
            self._watch.synchronize()
            del generation  # before the next one begins: two caches at once may not fit

    def _poll(self) -> Reading:
        return self._watch.now(), self._gpu.power_w()


def _first_token_of(generation: Generation) -> Generation:
    generation.prefill()
    generation.first_token()
    return generation
