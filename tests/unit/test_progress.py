"""What the terminal advises when a run has ended: something that would change what it shows."""

import io

import pytest
from rich.console import Console

from cluster.run import RunSummary
from farm.present.progress import TerminalProgress


@pytest.mark.parametrize(
    ("statuses", "advice"),
    [
        ({"error": 1, "ok": 2, "oom": 1}, "try again with: farm resume runs/x"),
        ({"ok": 2, "oom": 1, "unsupported": 1}, "farm resume runs/x --retry oom --retry unsupported"),
    ],
)
def test_the_advice_is_one_that_measures_something(statuses: dict[str, int], advice: str) -> None:
    console = Console(file=io.StringIO(), width=300)
    TerminalProgress(console).summary(RunSummary(4, 0, statuses, 1.0, 0), "runs/x")
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert told.rstrip().endswith(advice)
