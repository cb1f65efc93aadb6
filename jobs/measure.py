"""Timing one speed cell: prefill and decode in one pass, nothing waited for inside a phase.

Why one pass: prefill timed through `generate(max_new_tokens=1)` carries generate's own overhead, and decode as a
difference of two runs can go negative. Here the prompt's forward is timed, its cache is handed over, and the later
tokens are enqueued back to back; the host waits for the device only at the two phase edges. Gaps between single
tokens come from a pass of their own, since looking at every token would slow the throughput being measured.

    run = SpeedRun(engine, task, prompts)
    run.warm_up(); run.trial(); result = run.result()
"""

import gc
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from farm.cells import SpeedTask
from farm.errors import FarmError, Unsupported
from farm.records import Memory, SpeedResult, Trial
from jobs.engines.base import Engine, Generation, TokenIds
from jobs.prompts import Prompt, prompts_sha256


class ShortOutput(FarmError):
    """The engine gave another number of tokens than was asked for: its times mean something else."""


class SpeedRun:
    """The repetitions of one speed cell. Cells of a load group take turns, so each keeps its own state here."""

    def __init__(self, engine: Engine, task: SpeedTask, prompts: Sequence[Prompt]) -> None:
        _check_fits(engine, task)
        self.engine = engine
        self.task = task
        self.prompts = prompts
        self.trials: list[Trial] = []
        self.warmups_done = 0
        self._first_output: list[list[int]] | None = None

    @property
    def done(self) -> int:
        return self.warmups_done + len(self.trials)

    @property
    def total(self) -> int:
        return self.task.warmups + self.task.runs

    @property
    def is_complete(self) -> bool:
        return self.done >= self.total

    def repeat(self) -> None:
        """One more repetition: a discarded warm-up of the exact shape while any is owed, then a timed trial."""
        if self.warmups_done < self.task.warmups:
            self._timed(-1)
            self.warmups_done += 1
        else:
            self.trials.append(self._timed(len(self.trials)))

    def result(self) -> SpeedResult:
        """The raw samples, with the per-token gaps and the memory from one more, untimed pass."""
        itl_s, memory = self._observed_pass()
        return SpeedResult(
            trials=tuple(self.trials),
            itl_s=itl_s,
            memory=memory,
            effective=self.engine.effective(self.task.cache_mode),
            prompts_sha256=prompts_sha256(self.prompts),
            device_clock=self.engine.stopwatch.name,
            output_sha256=_tokens_sha256(self._first_output) if self._first_output else None,
        )

    def _timed(self, index: int) -> Trial:
        indexes = self._prompt_indexes(index)
        generation = self._begin(indexes)
        with _no_garbage_collection():
            trial = time_generation(self.engine, generation, self.task.new_tokens)
        output = generation.tokens()
        _check_output(output, self.task)
        if index == 0:
            self._first_output = output
        return replace(trial, index=index, prompt_indexes=indexes)

    def _observed_pass(self) -> tuple[tuple[float, ...], Memory]:
        generation = self._begin(self._prompt_indexes(0))
        self.engine.meter.reset_peak()
        gaps = time_each_token(self.engine, generation, self.task.new_tokens)
        peak = self.engine.meter.read()
        return gaps, _by_part(peak, self.engine.weights_bytes, generation.kv_bytes())

    def _begin(self, indexes: Sequence[int]) -> Generation:
        token_ids: TokenIds = [self.prompts[i].token_ids for i in indexes]
        return self.engine.begin(token_ids, self.task.cache_mode, self.task.new_tokens)

    def _prompt_indexes(self, index: int) -> tuple[int, ...]:
        first = index * self.task.batch_size
        return tuple((first + offset) % len(self.prompts) for offset in range(self.task.batch_size))


def time_generation(engine: Engine, generation: Generation, new_tokens: int) -> Trial:
    """Time one generation. Waits for the device at the phase edges only: before, after the first token, at the end."""
    watch = engine.stopwatch
    watch.synchronize()
    start, prefill_begins = watch.now(), watch.mark()
    generation.prefill()
    prefill_ends = watch.mark()
    generation.first_token()
    watch.synchronize()
    first_token, decode_begins = watch.now(), watch.mark()
    for _ in range(new_tokens - 1):
        generation.decode_step()
    decode_ends = watch.mark()
    watch.synchronize()
    end = watch.now()
    return Trial(
        index=0,
        prompt_indexes=(),
        ttft_s=first_token - start,
        prefill_s=watch.seconds_between(prefill_begins, prefill_ends),
        decode_s=end - first_token,
        decode_device_s=watch.seconds_between(decode_begins, decode_ends),
        e2e_s=end - start,
        output_tokens=new_tokens,
    )


def time_each_token(engine: Engine, generation: Generation, new_tokens: int) -> tuple[float, ...]:
    """The gap before each later token, host time, waiting for the device after every one."""
    watch = engine.stopwatch
    generation.prefill()
    generation.first_token()
    gaps = []
    watch.synchronize()
    before = watch.now()
    for _ in range(new_tokens - 1):
        generation.decode_step()
        watch.synchronize()
        after = watch.now()
        gaps.append(after - before)
        before = after
    return tuple(gaps)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection of a process full of tensors takes tens of milliseconds: it must not fall into a timed phase."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _by_part(peak: Memory, weights_bytes: int, kv_bytes: int | None) -> Memory:
    """Split a peak: what is neither weights nor KV cache is activations and workspace."""
    reasons = dict(peak.reasons)
    activation = None
    if peak.peak_allocated_bytes is not None:
        activation = max(0, peak.peak_allocated_bytes - weights_bytes - (kv_bytes or 0))
    if kv_bytes is None:
        reasons["kv_bytes"] = "no cache: every step recomputes the sequence"
    return replace(
        peak,
        weights_bytes=weights_bytes,
        kv_bytes=kv_bytes,
        activation_peak_bytes=activation,
        reasons=reasons,
    )


def _check_fits(engine: Engine, task: SpeedTask) -> None:
    needed = task.context_tokens + task.new_tokens
    if needed > engine.max_positions:
        raise Unsupported(
            f"{task.context_tokens} prompt tokens + {task.new_tokens} new ones exceed the model's "
            f"{engine.max_positions} positions; lower the context or new_tokens"
        )


def _check_output(output: Sequence[Sequence[int]], task: SpeedTask) -> None:
    shape = (len(output), {len(row) for row in output})
    if shape != (task.batch_size, {task.new_tokens}):
        raise ShortOutput(f"asked for {task.batch_size} x {task.new_tokens} tokens, got {shape[0]} x {shape[1]}")


def _tokens_sha256(tokens: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(repr([list(map(int, row)) for row in tokens]).encode()).hexdigest()
