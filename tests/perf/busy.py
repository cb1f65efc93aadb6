"""How busy does the farm keep its GPUs? `python -m tests.perf.busy [--out DIR]`: 24 load groups, two nodes of two GPUs.

Nodes and GPUs are fake (`ray.cluster_utils.Cluster`) and a group's work is sleep, so what is missing to 100 % is the
farm's own: the start of each group's process, the driver, and the tail where no group is left for a free GPU. Real
groups take minutes; these take about `--seconds`, so the share that is told is a lower bound.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from cluster.ray_pool import RayPool
from cluster.run import run_sweep
from farm.present.figures.gantt import gantt
from farm.present.figures.gantt_bars import chart_of, parse_events
from farm.present.figures.schedule import schedule_of
from farm.store import RunFolder
from farm.sweep import Sweep
from tests.soak.nodes import two_nodes

GENERATIONS = 8  # of each cell: a warm-up, three runs, the passes of the token gaps and of generate()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--groups", type=int, default=24)
    ask.add_argument("--seconds", type=float, default=60.0, help="About what a group's cells take.")
    ask.add_argument("--out", type=Path, help="Keep the run and its Gantt figure here.")
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as scratch, two_nodes():
        out = given.out or Path(scratch)
        run_sweep(_sweep(given.groups, given.seconds), RunFolder(out), RayPool(started_here=False))
        records, events = RunFolder(out).results(), parse_events(RunFolder(out).storage.logged())
        gantt(events, records).write_html(out / "gantt.html")
    found = schedule_of(chart_of(events, records))
    print(json.dumps(asdict(found), indent=1))
    sys.exit(0 if (found.busy_share or 0) >= 0.9 else 1)


def _sweep(groups: int, seconds: float) -> Sweep:
    pause = seconds / (2 * GENERATIONS)
    scripts = [f"fake:steady?seed={index}&pause={pause:.2f}" for index in range(groups)]
    shape = {"contexts": [16, 32], "cache_modes": ["on"], "new_tokens": 4, "warmups": 1, "runs": 3, "max_runs": 3}
    who = {"name": "busy", "models": scripts, "quantizations": ["fp16"], "engines": ["fake"]}
    return Sweep.model_validate(who | shape | {"prompts": {"per_length": 4}})


if __name__ == "__main__":
    main()
