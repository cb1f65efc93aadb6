"""`farm doctor` on the terminal."""

from collections.abc import Sequence

from rich.console import Console

from farm.doctor import Check


def print_checkup(checks: Sequence[Check], console: Console | None = None) -> None:
    """One line a check: green works, yellow is optional and missing, red stops the farm."""
    console = console or Console()
    for check in checks:
        word, colour = ("ok", "green") if check.ok else (("MISSING", "red") if check.required else ("no", "yellow"))
        console.print(f"[{colour}]{word:>8}[/]  {check.name:<22} {check.detail}", highlight=False, soft_wrap=True)
