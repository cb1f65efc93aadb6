"""The repetitions of one speed cell: warm-ups, trials until the interval is narrow, and what is observed beside them.

    run = SpeedRun(engine, task, prompts)
    while not run.is_complete:
        run.repeat()
    result = run.result()

The clock readings are in jobs.timing, the judgement in farm.verdict.
"""

import gc
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from farm.cells import SpeedTask
from farm.errors import Unsupported
from farm.records import Memory, SpeedResult, Trial
from farm.steady import agree, is_slowed, sort_out
from farm.verdict import is_noisy, judge
from jobs.engines.base import Engine, Generation, TokenIds
from jobs.memory_parts import by_part
from jobs.prompts import Prompt, prompts_sha256
from jobs.timing import Gap, time_each_token, time_generation, timed
from jobs.watch import Watch

GENERATE_RUNS = 2


class SpeedRun:
    """The repetitions of one speed cell. Cells of a load group take turns, so each keeps its own state here.

    A state machine of one method: `repeat()` does the next thing owed: a discarded warm-up of the exact shape, a timed
    trial, more trials while the interval of those that count (farm.steady) is too wide, and the whole set again when it
    is judged suspect for a reason that may pass. `is_complete` says when nothing is owed any more. `more_runs_s`: how
    long trials beyond `task.runs` may take for the interval asked for; then only for one that makes a valid row. None:
    no bound but `task.max_runs`.
    """

    def __init__(
        self,
        engine: Engine,
        task: SpeedTask,
        prompts: Sequence[Prompt],
        watch: Watch | None = None,
        more_runs_s: float | None = None,
    ) -> None:
        _check_fits(engine, task)
        self._more_runs_s = math.inf if more_runs_s is None else more_runs_s
        self.engine, self.task, self.prompts = engine, task, prompts
        self.watch = watch or Watch()
        self.trials: list[Trial] = []
        self.earlier_trials: list[tuple[Trial, ...]] = []
        self.is_complete = False
        self._warmups_done = 0
        self._finished: SpeedResult | None = None
        self._first_output: list[list[int]] | None = None

    @property
    def done(self) -> int:
        return self._warmups_done + len(self.trials)

    @property
    def total(self) -> int:
        return max(self.task.warmups + self.task.runs, self.done)

    def repeat(self) -> None:
        if self._warmups_done < self.task.warmups:
            self._timed(-1, Watch())
            self._warmups_done += 1
        elif self._wants_more_trials():
            self.trials.append(self._timed(len(self.trials), self.watch))
        if self._warmups_done >= self.task.warmups and not self._wants_more_trials():
            self._finish_or_start_again()

    def result(self) -> SpeedResult:
        """The raw samples and all the evidence. Only when complete."""
        assert self._finished is not None, "repeat() until is_complete"
        return self._finished

    def _wants_more_trials(self) -> bool:
        count = len(self.trials)
        if count < self.task.runs or count >= self.task.max_runs:
            return count < self.task.runs
        counted, _ = self._sorted_out()
        if is_slowed(counted, self.watch.host_best_probe_s):
            return True
        time_is_spent = sum(trial.e2e_s for trial in self.trials[self.task.runs :]) >= self._more_runs_s
        return is_noisy(counted) if time_is_spent else not agree(counted, self.task)

    def _sorted_out(self) -> tuple[tuple[Trial, ...], tuple[Trial, ...]]:
        return sort_out(self.trials, self.task, self.watch.host_best_probe_s)

    def _finish_or_start_again(self) -> None:
        result = self._observe()
        verdict = judge(result, self.task)
        if verdict.worth_another_try and len(self.earlier_trials) < self.task.max_reruns:
            self.earlier_trials.append(tuple(self.trials))
            self.trials, self._warmups_done = [], 0
            self.watch.start_again()
            return
        begin = partial(self._begin, self._prompt_indexes(0))
        energy = self.watch.energy(self.engine, begin, self.task, result.trials)
        self._finished, self.is_complete = replace(result, energy=energy), True

    def _observe(self) -> SpeedResult:
        """The trials, with the per-token gaps, the memory and the cross-check from more, untimed passes."""
        gaps, memory = self._observed_pass()
        counted, set_aside = self._sorted_out()
        return SpeedResult(
            trials=counted,
            set_aside=set_aside,
            itl_s=tuple(gap.whole_s for gap in gaps),
            itl_enqueue_s=tuple(gap.enqueue_s for gap in gaps),
            memory=memory,
            effective=self.engine.effective(self.task.cache_mode),
            prompts_sha256=prompts_sha256(self.prompts),
            device_clock=self.engine.stopwatch.name,
            output_sha256=_tokens_sha256(self._first_output) if self._first_output else None,
            generate_e2e_s=self._generate_times(),
            earlier_trials=tuple(self.earlier_trials),
            telemetry=self.watch.telemetry(self._work_again),
        )

    def _timed(self, index: int, watch: Watch) -> Trial:
        indexes = self._prompt_indexes(index)
        generation = self._begin(indexes)
        with _no_garbage_collection(), watch.of_trial() as beside:
            trial = time_generation(self.engine, generation, self.task.new_tokens)
        output = generation.tokens()
        if index == 0:
            self._first_output = output
        shortest = min(len(row) for row in output)
        return replace(
            trial,
            index=index,
            prompt_indexes=indexes,
            output_tokens=shortest,
            host_probe_s=beside.probe_s,
        )

    def _observed_pass(self) -> tuple[tuple[Gap, ...], Memory]:
        generation = self._begin(self._prompt_indexes(0))
        meter, watch = self.engine.meter, self.engine.stopwatch
        meter.reset_peak()
        generation.prefill()
        generation.first_token()
        watch.synchronize()
        prefill = meter.read()
        meter.reset_peak()
        gaps = time_each_token(self.engine, generation, self.task.new_tokens)
        kv_bytes = (generation.kv_bytes(), _kv_host_bytes(generation))
        return gaps, by_part(prefill, meter.read(), self.engine.weights_bytes, *kv_bytes)

    def _work_again(self) -> None:
        """A trial's work once more, for those who watch: its clock readings do not count."""
        time_generation(self.engine, self._begin(self._prompt_indexes(0)), self.task.new_tokens)

    def _generate_times(self) -> tuple[float, ...]:
        """The library's own generate(), the first run discarded; only with the cache, as everybody calls it."""
        generate = getattr(self.engine, "generate", None)
        if generate is None or self.task.cache_mode != "on":
            return ()
        token_ids = [self.prompts[i].token_ids for i in self._prompt_indexes(0)]
        times = [
            timed(self.engine, lambda: generate(token_ids, self.task.new_tokens)) for _ in range(GENERATE_RUNS + 1)
        ]
        return tuple(times[1:])

    def _begin(self, indexes: Sequence[int]) -> Generation:
        token_ids: TokenIds = [self.prompts[i].token_ids for i in indexes]
        return self.engine.begin(token_ids, self.task.cache_mode, self.task.new_tokens)

    def _prompt_indexes(self, index: int) -> tuple[int, ...]:
        first = index * self.task.batch_size
        return tuple((first + offset) % len(self.prompts) for offset in range(self.task.batch_size))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection of a process full of tensors takes tens of milliseconds: it must not fall into a timed phase."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _kv_host_bytes(generation: Generation) -> int | None:
    """What of the cache lies in host memory while a GPU computes; an engine that never moves it there tells nothing."""
    told = getattr(generation, "kv_host_bytes", None)
    return None if told is None else told()


def _check_fits(engine: Engine, task: SpeedTask) -> None:
    needed = task.context_tokens + task.new_tokens
    if needed > engine.max_positions:
        raise Unsupported(
            f"{task.context_tokens} prompt tokens + {task.new_tokens} new ones exceed the model's "
            f"{engine.max_positions} positions; lower the context or new_tokens"
        )


def _tokens_sha256(tokens: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(repr([list(map(int, row)) for row in tokens]).encode()).hexdigest()
