"""Options of the persistent step against each other: `python -m tests.perf.turbo_variants --out DIR`.

In one process, each precision of random Llama-3-8B is built once; every variant of the decode step is compiled, must
agree with the plain one, and then takes its turn in every round, so that clocks and neighbours hit all alike. Told are
the time of a step, and its ratio to the plain step of the same round with a 95 % interval; then the time of the
captured prompt. A variant that does not compile or answers otherwise is told and left out; the others go on. One that
never ends stops the process, which first writes what it has: only the end of its process ends a kernel.

    python -m tests.perf.turbo_variants --out DIR --precision int4wo --variants base ahead0 ahead96+warps16
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from farm.architectures import KNOWN
from jobs.memory import release_unused
from jobs.models.random_weights import build_random
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.persistent import Build, PersistentStep, build_for
from jobs.turbo.persistent.compiler import compiled_kernel
from jobs.turbo.persistent.step import Kernel
from jobs.turbo.recipe import recipe_for
from jobs.turbo.slots import Prompt
from jobs.turbo.step import DecodeState
from tests.perf.turbo_outcomes import Answer, Outcome, lines, options_of, take_turns

VARIANTS = ("base", "ahead0", "ahead64", "ahead96", "ahead160", "ahead192")  # base: 128
TOKENS = 16  # of each variant, compared with the plain one's
STEPS = 20  # timed at once
PATIENCE_S = 5.0

Found = dict[str, list[Outcome]]


class NeverEnds(Exception):
    """A kernel whose threads wait for each other for ever."""


def main() -> None:
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    found: Found = {}
    for precision in given.precision:
        try:
            _measure(precision, given, found)
        except NeverEnds as error:
            found[f"{precision}, cut short"] = [Outcome(str(error), error="it never ends")]
            _say(lines(f"{precision}, cut short", found[f"{precision}, cut short"]))
            _write(given, found)
            os._exit(1)  # an orderly end would wait for the kernel
        _write(given, found)
        release_unused("cuda")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, required=True, help="Folder for turbo_variants.json.")
    ask.add_argument("--precision", nargs="+", default=["int4wo", "int8wo", "fp16"])
    ask.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), type=_known, help="The first measures the others."
    )
    ask.add_argument("--context", type=int, default=1920)
    ask.add_argument("--rounds", type=int, default=9)
    ask.add_argument("--no-prefill", action="store_true")
    return ask.parse_args(words)


def _known(name: str) -> str:
    try:
        options_of(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def _measure(precision: str, given: argparse.Namespace, found: Found) -> None:
    began = time.perf_counter()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    decoder = TurboDecoder(build_random(KNOWN["llama-3-8b"], dtype, "cuda", seed=0), recipe_for(precision))
    bench = Bench(decoder, given.context, torch.cuda.get_device_properties(0).multi_processor_count)
    title = f"{precision}, a step"
    found[title] = bench.outcomes(given.variants, given.rounds, lambda build: compiled_kernel(build, decoder.device))
    _say(lines(title, found[title]))
    if not given.no_prefill:
        title = f"{precision}, the prompt"
        found[title] = [Outcome("captured", seconds=bench.prompt_s(given.rounds))]
        _say(lines(title, found[title]))
    _say(f"{precision} took {time.perf_counter() - began:.0f} s\n")


@dataclass(slots=True)
class Candidate:
    """`kernel` is None where it did not compile; then `outcome` says why."""

    outcome: Outcome
    build: Build
    kernel: Kernel | None = None
    step: PersistentStep | None = None


class Bench:
    """One cache and one state, on which each variant starts behind the same prompt."""

    def __init__(self, decoder: TurboDecoder, context: int, blocks: int, **build: Any) -> None:
        longest = context + 2 * max(STEPS, TOKENS)
        self._cache = KvCache.allocate(decoder.shape, 1, longest, like=decoder.weights.embedding)
        self._state = DecodeState.allocate(1, longest, decoder.device)
        self._decoder, self._context, self._rows = decoder, context, decoder.table.rows(longest)
        self._prompt = Prompt(decoder, self._cache, 1, context)
        self._prompt.ids.copy_(torch.randint(0, 256, (1, context)))
        self._prompt.graph.run()
        self._build = replace(build_for(decoder.shape, decoder.weights, blocks), **build)

    def outcomes(self, names: list[str], rounds: int, compile_kernel: Callable[[Build], Kernel]) -> list[Outcome]:
        """Compiled all at once, checked one by one, then timed in turns."""
        candidates = [Candidate(Outcome(name), replace(self._build, **options_of(name))) for name in names]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda each: _compile(each, compile_kernel), candidates))
        for each in candidates:  # what compiled comes from the cache; what failed is tried once more, in this thread
            _compile(each, compile_kernel)
        self._check(candidates)
        runs: dict[str, Callable[[], float]] = {
            each.outcome.name: partial(self._steps_s, each.step) for each in candidates if each.step
        }
        outcomes = [each.outcome for each in candidates]
        take_turns(outcomes, runs, rounds)
        return outcomes

    def prompt_s(self, rounds: int) -> list[float]:
        """Of the captured prompt, again and again: a card at its power limit is slower here than behind a pause."""
        return [device_s(self._prompt.graph.run, 2) for _ in range(rounds)]

    def _check(self, candidates: list[Candidate]) -> None:
        """Against the first; without its answer no other is worth timing."""
        plain: Answer | None = None
        for each in candidates:
            if each.kernel is None:
                continue
            each.step = PersistentStep(
                each.build, self._decoder.weights, self._rows, self._state, self._cache, each.kernel
            )
            answer = self._answer(each.step, each.outcome.name)
            plain = plain or answer
            each.outcome.compare(answer, plain, 16 * torch.finfo(self._decoder.dtype).eps)

    def _answer(self, step: PersistentStep, name: str) -> Answer:
        """After the first step the best logit of each block and what went into the cache; then more tokens."""
        self._begin()
        step.run()
        _wait(name, self._decoder.device)
        at = self._context
        values = (step.scratch.best_logit, self._cache.keys[:, :, :, at], self._cache.values[:, :, :, at])
        seen = tuple(each.float().clone() for each in values)
        for _ in range(TOKENS - 1):
            step.run()
        _wait(name, self._decoder.device)
        return Answer(seen, tuple(self._state.ids[0, at + 1 : at + 1 + TOKENS].tolist()))

    def _steps_s(self, step: PersistentStep) -> float:
        self._begin()
        return device_s(step.run, STEPS)

    def _begin(self) -> None:
        self._state.take_first(self._prompt.logits, self._context)


def _compile(candidate: Candidate, compile_kernel: Callable[[Build], Kernel]) -> None:
    """The others go on whatever happens here, hence the broad catch: the error is the result."""
    try:
        candidate.kernel, candidate.outcome.error = compile_kernel(candidate.build), None
    except Exception as error:
        candidate.outcome.error = f"{type(error).__name__}: {error}"


def _wait(name: str, device: torch.device) -> None:
    """For all that is enqueued. Raises NeverEnds."""
    if device.type != "cuda":
        return
    done, began = torch.cuda.Event(), time.perf_counter()
    done.record()
    while not done.query():
        if time.perf_counter() - began > PATIENCE_S:
            raise NeverEnds(name)
        time.sleep(0.001)


def device_s(work: Callable[[], None], times: int) -> float:
    """Seconds on the device of one of so many in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000 / times


def _say(text: str) -> None:
    print(text, flush=True)


def _write(given: argparse.Namespace, found: Found) -> None:
    whole = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "context": given.context,
        "found": {title: [asdict(outcome) for outcome in outcomes] for title, outcomes in found.items()},
    }
    (given.out / "turbo_variants.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
