"""`farm plan` on the terminal: what would run, what it needs, about how long it takes."""

from rich.console import Console
from rich.table import Table

from farm.plan import LoadGroup, Plan, group_seconds, predicted_bytes


def print_plan(
    name: str, plan: Plan, device: str, device_memory_bytes: int | None, console: Console | None = None
) -> None:
    """One row a load group; cells that cannot fit are listed below with what they need."""
    console = console or Console()
    console.print(_table(plan))
    total_s = sum(group_seconds(group) for group in plan.todo)
    memory = f"{device_memory_bytes / 1e9:.1f} GB" if device_memory_bytes else "unknown"
    console.print(
        f"[bold]{name}[/]: {plan.todo_cells} cells in {len(plan.todo)} load groups on {device} ({memory} a device); "
        f"roughly {_duration(total_s)} on one device (a guess from typical step times, not a measurement)"
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
        table.add_row(*row, _duration(group_seconds(group)))
    return table


def _memory(group: LoadGroup) -> str:
    needs = [needed for cell in group.cells if (needed := predicted_bytes(cell)) is not None]
    return f"{max(needs) / 1e9:.2f} GB (weights + KV)" if needs else "unknown until the model is here"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
