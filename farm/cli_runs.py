"""Commands that only read finished runs; `farm.cli` adds them to `farm`."""

import click


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
@click.argument("run_dir", metavar="DIR")
@click.option("--max-ppl-loss", type=float, default=5.0, show_default=True, help="Percent against the 16-bit row.")
@click.option("--max-vram-gb", type=float, help="Peak memory of the device.")
@click.option("--context", type=int, help="Prompt tokens; default: the longest that was measured.")
@click.option("--batch", type=int, help="Batch size; default: the smallest that was measured.")
@click.option("--lang", type=click.Choice(["en", "es"]), default="en", show_default=True)
def advise(run_dir: str, lang: str, **limits: float | None) -> int:
    """Which configuration to choose within these limits, by what DIR measured; exit code 1 if none is."""
    from farm.present.advise import Limits, advice
    from farm.reduce import cell_rows
    from farm.store import RunFolder

    given = advice(cell_rows(RunFolder(run_dir).results()), Limits(**limits), lang)  # type: ignore[arg-type]
    for sentence in given.sentences:
        click.echo(sentence.text)
    return 0 if given.has_choice else 1
