"""A run reported: its table on the terminal, its files beside its records (or elsewhere), and what was written.

report_run(RunFolder("runs/demo"), images=True)
"""

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from farm.present.figures.gantt_bars import parse_events
from farm.present.report import write_outputs
from farm.present.terminal import print_table
from farm.present.words import DEFAULT
from farm.reduce import cell_rows
from farm.store import RunFolder


def report_run(folder: RunFolder, images: bool, lang: str = DEFAULT, into: Path | None = None) -> None:
    """Everything from the records; a run in an object store gets its files there, too."""
    records, manifest = folder.results(), folder.manifest()
    console = Console(width=max(110, Console().width))  # the table needs that much; a narrow window wraps it
    print_table(cell_rows(records), console)
    console.print("[dim]writing tables, pages and pictures ...[/]", highlight=False)
    with nullcontext(into) if into else folder.publishing() as out:
        events = parse_events(folder.storage.logged())
        outputs = write_outputs(
            records,
            out,
            images,
            manifest.sweep.name,
            events,
            folder.interference(),
            asked=len(manifest.keys),
            allow_fake=True,
            lang=lang,
        )
        files = [file.relative_to(out) for file in outputs.files]
    for warning in outputs.warnings:
        console.print(f"[yellow]warning:[/] {warning}")
    folders = ", ".join(sorted({str(file.parent) for file in files} - {"."}))
    console.print(f"  {into or folder.name}/{files[0]}", highlight=False, soft_wrap=True)
    console.print(f"  and {len(files) - 1} files beside it: {folders}", highlight=False, soft_wrap=True)
