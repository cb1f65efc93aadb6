"""The live view of a run in the terminal: what runs where, how far it is, what has ended and how.

On a terminal one bar is redrawn in place; elsewhere (a log, CI) each finished point is one line.
"""

import time
from collections.abc import Hashable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from farm.cells import Cell, Load
from farm.events import Event, Loaded, Loading, Prepared, Running
from farm.formulas import decode_tok_s, perplexity
from farm.keys import cell_key
from farm.observer import Observer
from farm.plan import LoadGroup, Plan
from farm.records import Record, Status
from farm.stats import median

COLOURS = {Status.OK: "green", Status.OOM: "yellow", Status.UNSUPPORTED: "yellow", Status.PREDICTED_OOM: "yellow"}


class TerminalProgress(Observer):
    """Use as a context manager around the run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._whole: TaskID | None = None
        self._models: TaskID | None = None
        self._tasks: dict[Hashable, TaskID] = {}
        self._labels: dict[Hashable, str] = {}
        self._cells: dict[str, Cell] = {}
        self._began = time.monotonic()

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def planned(self, plan: Plan, pool: str) -> None:
        self.console.print(f"[bold]{pool}[/]")
        kept = f", {len(plan.kept)} kept from before" if plan.kept else ""
        misfits = f", {len(plan.misfits)} predicted not to fit" if plan.misfits else ""
        self.console.print(f"{plan.todo_cells} cells to measure in {len(plan.todo)} load groups{kept}{misfits}")
        self._whole = self._bar.add_task("[bold]sweep[/]", total=plan.todo_cells, note="")

    def preparing(self, loads: Sequence[Load]) -> None:
        """Fetching or making a checkpoint takes minutes: the bar tells that something goes on, and for how long."""
        if loads:
            self._models = self._bar.add_task("[bold]models[/]", total=len(loads), note="")
            names = ", ".join(f"{load.model.short} {load.quantization}" for load in loads)
            self.console.print(f"models needed: {names}; fetching or making what is not there yet")

    def prepared(self, done: Prepared) -> None:
        name = f"{done.load.model.short} {done.load.quantization} on {done.node}"
        if self._models is not None:
            self._bar.advance(self._models)
        if done.problem:
            self.console.print(f"[red]model failed[/]  {name}: {done.problem}", highlight=False)
        else:
            self.console.print(f"[dim]model ready[/]  {name} ({done.seconds:.1f} s)", highlight=False)

    def started(self, job: Hashable, group: LoadGroup) -> None:
        self._cells |= {cell_key(cell): cell for cell in group.cells}
        self._labels[job] = f"{group.load.model.short} {group.load.quantization} {group.load.engine}"
        self._tasks[job] = self._bar.add_task(self._labels[job], total=None, note="starting")

    def event(self, job: Hashable, event: Event) -> None:
        task = self._tasks[job]
        match event:
            case Loading():
                self._bar.update(task, note=f"loading (pid {event.pid})")
            case Loaded():
                self.console.print(f"[dim]{self._labels[job]}: loaded in {event.load_s:.1f} s[/]")
            case Running():
                label = self._cells[event.key].label.partition(" | ")[2]
                self._bar.update(task, completed=event.done, total=event.total, note=label)

    def recorded(self, record: Record) -> None:
        if self._whole is not None:
            self._bar.advance(self._whole)
        colour = COLOURS.get(record.status, "red")
        self.console.print(
            f"[{colour}]{record.status.value:>13}[/]  {record.cell.label}  [bold]{_headline(record)}[/]",
            highlight=False,
        )

    def canary(self, which: str, record: Record) -> None:
        where = {"alone": "alone", "busy": "among neighbours"}[which]
        self.console.print(f"[dim]canary {where}: {record.cell.label}  {_headline(record)}[/]", highlight=False)

    def ended(self, job: Hashable) -> None:
        task = self._tasks.pop(job, None)
        if task is not None:
            self._bar.remove_task(task)

    def summary(self, summary: Any, place: str) -> None:
        counts = ", ".join(f"{count} {status}" for status, count in summary.statuses.items()) or "nothing measured yet"
        kept = f"; {summary.kept} kept from before" if summary.kept else ""
        self.console.print(f"[bold]{counts}[/] | {summary.measured} measured in {summary.wall_s:.0f} s{kept} | {place}")
        if summary.left:
            self.console.print(f"stopped in time, {summary.left} cells left; go on with: farm resume {place}")
        elif summary.exit_code:
            self.console.print(
                f"not everything is ok: see the failures above; {_next_step(list(summary.statuses), place)}"
            )


def _next_step(statuses: Sequence[str], place: str) -> str:
    """A plain resume keeps findings: where there is nothing else, to advise it would be of no use."""
    bad = [status for status in statuses if status != Status.OK]
    if not all(Status(status).is_final for status in bad):
        return f"try again with: farm resume {place}"
    again = " ".join(f"--retry {status}" for status in bad)
    return f"a resume keeps such findings; if you changed what they name: farm resume {place} {again}"


def _headline(record: Record) -> str:
    if record.speed is not None and record.speed.trials:
        batch = record.cell.task.batch_size  # type: ignore[union-attr]
        rates = [decode_tok_s(trial, batch) for trial in record.speed.trials]
        return f"{median([rate for rate in rates if rate is not None]):.1f} tok/s"
    if record.quality is not None:
        return f"PPL {perplexity(record.quality.nll_sum, record.quality.tokens_scored):.2f}"
    return record.failure.message[:120] if record.failure else ""
