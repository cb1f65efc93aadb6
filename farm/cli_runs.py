"""Commands that only read finished runs; `farm.cli` adds them to `farm`."""

from pathlib import Path

import click

from farm.cli_pages import LANG

RUN_DIR = click.argument("run_dir", metavar="DIR")
NO_IMAGES = click.option("--no-images", is_flag=True, help="Skip the PNG files (no browser needed).")


@click.command()
@RUN_DIR
@click.option("--into", type=click.Path(path_type=Path), metavar="DIR", help="Write there and not beside the records.")
@NO_IMAGES
@LANG
def report(run_dir: str, into: Path | None, no_images: bool, lang: str) -> int:
    """Write tables, figures and the reports again from the records of DIR (or run.tar.gz); measures nothing."""
    from farm.present.report_run import report_run
    from farm.store import RunFolder

    report_run(RunFolder(run_dir), images=not no_images, lang=lang, into=into)
    return 0


@click.command()
@RUN_DIR
@click.option(
    "--into", type=click.Path(path_type=Path, exists=True), default=Path(), metavar="DIR", help="The project."
)
@NO_IMAGES
def publish(run_dir: str, into: Path, no_images: bool) -> int:
    """Put a run's results, figures and pages where this project keeps its own: benchmarks/, figures/, README ..."""
    from farm.present.publish import publish as publish_run
    from farm.store import RunFolder

    outputs = publish_run(RunFolder(run_dir), into.absolute(), images=not no_images)
    for line in (*(f"warning: {warning}" for warning in outputs.warnings), *map(str, outputs.files)):
        click.echo(line)
    return 0


@click.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--tolerance", type=click.FloatRange(0, 1, max_open=True), default=0.05, show_default=True)
def compare(old: str, new: str, tolerance: float) -> int:
    """Speed of run B against run A; exit code 1 if a configuration is worse by more than the tolerance, or broke."""
    from farm.compare import compare as compare_runs
    from farm.present.compare_view import print_comparison
    from farm.store import RunFolder

    comparison = compare_runs(RunFolder(old).results(), RunFolder(new).results(), tolerance)
    print_comparison(comparison)
    return 1 if comparison.regressions else 0


@click.command()
@RUN_DIR
@click.option("--max-ppl-loss", type=float, default=5.0, show_default=True, help="Percent against the 16-bit row.")
@click.option("--max-vram-gb", type=float, help="Peak memory of the device.")
@click.option("--context", type=int, help="Prompt tokens; default: the longest that was measured.")
@click.option("--batch", type=int, help="Batch size; default: the smallest that was measured.")
@LANG
def advise(run_dir: str, lang: str, **limits: float | None) -> int:
    """Which configuration to choose within these limits, by what DIR measured; exit code 1 if none is."""
    from farm.present.advise import Limits, advice
    from farm.reduce import cell_rows
    from farm.store import RunFolder

    given = advice(cell_rows(RunFolder(run_dir).results()), Limits(**limits), lang)  # type: ignore[arg-type]
    for sentence in given.sentences:
        click.echo(sentence.text)
    return 0 if given.has_choice else 1
