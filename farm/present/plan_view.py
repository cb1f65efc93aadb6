"""`farm plan` on the terminal: what would run, what it needs, about how long it takes."""

from rich.console import Console
from rich.table import Table

from farm.cost import wall_seconds
from farm.plan import LoadGroup, Plan, predicted_bytes


def print_plan(
    name: str, plan: Plan, device: str, device_memory_bytes: int | None, console: Console | None = None
) -> None:
    """One row a load group; cells that cannot fit are listed below with what they need."""
    console = console or Console()
    console.print(_table(plan))
    memory = f"{device_memory_bytes / 1e9:.1f} GB" if device_memory_bytes else "unknown"
    console.print(
        f"[bold]{name}[/]: {plan.todo_cells} cells in {len(plan.todo)} load groups on {device} ({memory} a device); "
        f"roughly {_durations(plan)} (a guess from typical step times, not a measurement)"
    )
    for cell in plan.misfits:
        console.print(
            f"[yellow]predicted_oom[/]  {cell.label}: needs {(predicted_bytes(cell) or 0) / 1e9:.1f} GB at least"
        )


def _table(plan: Plan) -> Table:
    table = Table("model", "quantization", "engine", "cells", "predicted memory", "estimated time")
    for group in plan.todo:
        load = group.load
        row = (load.model.short, load.quantization, load.engine, str(len(group.cells)), _memory(group))
        table.add_row(*row, _duration(group.seconds))
    return table


def _memory(group: LoadGroup) -> str:
    needs = [needed for cell in group.cells if (needed := predicted_bytes(cell)) is not None]
    return f"{max(needs) / 1e9:.2f} GB (weights + KV)" if needs else "unknown until the model is here"


def _durations(plan: Plan) -> str:
    seconds = [group.seconds for group in plan.todo]
    more = [f"{_duration(wall_seconds(seconds, devices))} on {devices}" for devices in (2, 4)]
    return ", ".join([f"{_duration(sum(seconds))} on one device", *(more if len(seconds) > 1 else [])])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
