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
