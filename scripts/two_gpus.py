"""What does a second GPU buy, and does it falsify anything? `python -m scripts.two_gpus --out DIR` answers.

Six precisions of one model, short cells, run in turns on one GPU and on two, back to back on the same machine, then
once more on two with a canary (one cell measured alone and again while the other GPU is busy). Told are the sweep's
speed-up in wall time, the share of the time that the GPUs were busy, each precision's own shift from solo to packed,
the canary's, and the rows that were judged `contended`. One table, one JSON (also in DIR/two_gpus.json).

Each turn takes minutes and is a run folder of its own; what DIR already holds is not measured again, so the turns may
be spread over several calls: `--turns 1`, then `--turns 2`, then `--turns canary`. `--fake` rehearses it without GPUs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.run import RunSummary, open_pool, run_sweep
from farm.formulas import tpot_s
from farm.interference import Interference, shift
from farm.present.figures.gantt_bars import chart_of, parse_events
from farm.present.figures.schedule import Schedule, schedule_of
from farm.records import Record
from farm.reduce import cell_rows
from farm.stats import median
from farm.store import RunFolder
from farm.sweep import Sweep

TURNS = {"1": 1, "2": 2, "canary": 2}
PRECISIONS = ("fp16", "bf16", "int8", "int8wo", "nf4", "int4wo")
SHORT = {"contexts": [128], "cache_modes": ["on"], "new_tokens": 12, "warmups": 2, "max_reruns": 0}


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of the sweep: on how many GPUs, how long, and what its rows say."""

    folder: str
    turn: str
    wall_s: float
    statuses: dict[str, int]
    verdicts: dict[str, str]
    tpots_s: dict[str, list[float]]
    devices: list[str]
    schedule: Schedule


def main() -> None:
    given = _arguments()
    for number, turn in enumerate(given.turns, start=1):
        _take(given, given.out / f"{number}-{turn}", turn)
    folders = sorted(path for path in given.out.iterdir() if (path / "turn.json").is_file())
    told = summary([_read(folder) for folder in folders], _canary(folders))
    text = json.dumps(told, indent=1)
    (given.out / "two_gpus.json").write_text(text + "\n")
    print(text)
    print_table(told)
    sys.exit(0 if told["ok"] else 1)


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--turns", nargs="+", choices=list(TURNS), default=["1", "2", "canary"])
    ask.add_argument("--model", default="random:llama-3-8b")
    ask.add_argument("--precisions", nargs="+", default=PRECISIONS)
    ask.add_argument("--engine", default="eager")
    ask.add_argument("--runs", type=int, default=8)
    ask.add_argument("--fake", action="store_true", help="Fake GPUs and the fake engine: a rehearsal in seconds.")
    return ask.parse_args()


def _take(given: argparse.Namespace, folder: Path, turn: str) -> None:
    """Run the sweep, unless this turn is done."""
    if (folder / "turn.json").is_file():
        return
    sweep = _sweep(given, canary=turn == "canary")
    if folder.exists():
        sys.exit(f"{folder}: a turn that did not end; its wall time would lie, so remove it and start it again")
    with open_pool("ray", "cuda", num_gpus=TURNS[turn]) as pool:
        done = run_sweep(sweep, RunFolder(folder), pool)
    print(f"{folder.name}: {done.statuses} in {done.wall_s:.0f} s", flush=True)
    (folder / "turn.json").write_text(json.dumps(asdict(done)))


def _sweep(given: argparse.Namespace, canary: bool) -> Sweep:
    model, engine = ("fake:steady?pause=0.4", "fake") if given.fake else (given.model, given.engine)
    who = {"name": "two-gpus", "models": [model], "engines": [engine], "quantizations": list(given.precisions)}
    return Sweep.model_validate(who | SHORT | {"runs": given.runs, "max_runs": given.runs, "canary": canary})


def _read(folder: Path) -> Turn:
    run, done = RunFolder(folder), RunSummary(**json.loads((folder / "turn.json").read_text()))
    records = run.results()
    return Turn(
        folder.name,
        folder.name.partition("-")[2],
        done.wall_s,
        done.statuses,
        {row.quantization: row.trust.verdict or row.status.value for row in cell_rows(records)},
        {record.cell.load.quantization: _tpots(record) for record in records},
        sorted({record.environment.device_name for record in records if record.environment}),
        schedule_of(chart_of(parse_events(run.storage.logged()), records)),
    )


def _tpots(record: Record) -> list[float]:
    return [s for trial in record.speed.trials if (s := tpot_s(trial)) is not None] if record.speed else []


def _canary(folders: Sequence[Path]) -> Interference | None:
    found = [RunFolder(folder).interference() for folder in folders if folder.name.endswith("-canary")]
    return found[-1] if found else None


def summary(turns: Sequence[Turn], canary: Interference | None) -> dict[str, Any]:
    """`ok`: every cell is, the second GPU helped, nothing was contended, and the canary was not disturbed."""
    one, two = ([turn for turn in turns if turn.turn == name] for name in ("1", "2"))
    speedup = median([t.wall_s for t in one]) / median([t.wall_s for t in two]) if one and two else None
    contended = sorted(
        {f"{t.folder}: {name}" for t in turns for name, word in t.verdicts.items() if "contended" in word}
    )
    all_ok = all(set(turn.statuses) == {"ok"} for turn in turns)
    undisturbed = canary is None or not canary.is_disturbing
    return {
        "ok": all_ok and not contended and undisturbed and (speedup is None or speedup > 1),
        "speedup": speedup,
        "contended": contended,
        "canary": None if canary is None else asdict(canary) | {"is_disturbing": canary.is_disturbing},
        "solo_to_packed": _shifts(one, two),
        "turns": [{name: value for name, value in asdict(turn).items() if name != "tpots_s"} for turn in turns],
    }


def _shifts(one: Sequence[Turn], two: Sequence[Turn]) -> dict[str, dict[str, float]]:
    """How much longer a token of each precision took with the other GPU at work, in percent, with the 95 % interval."""
    if not one or not two:
        return {}
    found = {}
    for name in one[0].tpots_s:
        solo, packed = ([s for turn in turns for s in turn.tpots_s.get(name, [])] for turns in (one, two))
        change = shift(solo, packed)
        if change is not None:
            found[name] = asdict(change)
    return found


def print_table(told: dict[str, Any]) -> None:
    """The same for people."""
    print(f"\n{'turn':<12}{'wall s':>8}{'busy':>7}  rows")
    for turn in told["turns"]:
        busy = turn["schedule"]["busy_share"]
        words = ", ".join(f"{name} {word}" for name, word in turn["verdicts"].items())
        print(f"{turn['folder']:<12}{turn['wall_s']:>8.1f}{'-' if busy is None else f'{busy:.0%}':>7}  {words}")
    if told["speedup"]:
        print(f"two GPUs are {told['speedup']:.2f}x as fast as one")
    for name, change in told["solo_to_packed"].items():
        print(f"  {name:<8}{_percent(change)} a token, solo to packed")
    canary = told["canary"]
    if canary:
        said = "; ".join(f"{phase} {_percent(canary[phase])}" for phase in ("decode", "prefill") if canary[phase])
        print(f"canary ({canary['cell']}): {said or canary['reason']}")
    print(f"contended: {', '.join(told['contended']) or 'none'}")


def _percent(change: dict[str, float]) -> str:
    return f"{change['percent']:+.2f} % [{change['ci_low']:+.2f}, {change['ci_high']:+.2f}]"


if __name__ == "__main__":
    main()
