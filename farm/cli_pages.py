"""The commands that open pages: `farm dashboard` and `farm demo`. They start no measurement by themselves.

cli.add_command(dashboard)
"""

from pathlib import Path

import click

POOL = click.option(
    "--pool",
    "pool_kind",
    type=click.Choice(["ray", "inline"]),
    default="ray",
    show_default=True,
    help="ray: a fresh process for each load group; inline: this process, under a debugger if you like.",
)
LANG = click.option(
    "--lang", type=click.Choice(["en", "es"]), default="en", show_default=True, help="English or Spanish words."
)


@click.command()
@click.argument("home", metavar="[DIR]", default="runs", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Anything but loopback needs the printed token.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--token", help="Asked for on every request; made and printed for any --host but loopback.")
@click.option("--model", "models", multiple=True, help="Offer this model on the page Try, too; before all others.")
@POOL
@LANG
def dashboard(
    home: Path, host: str, port: int, token: str | None, models: tuple[str, ...], pool_kind: str, lang: str
) -> int:
    """Watch sweeps live and try configurations side by side, in the browser. DIR: a run, or a folder of runs."""
    from farm.present.dashboard.serving import address_of, open_dashboard

    address = address_of(host, port, token)
    opened = "dashboard: {url}   (Ctrl-C ends it; runs go on)"
    open_dashboard(home, address, models, pool_kind, lang, lambda at: click.echo(opened.format(url=at.url)))
    return 0


@click.command()
@click.argument("home", metavar="[DIR]", default="runs", type=click.Path(path_type=Path))
@click.option("--record", "film", metavar="FILE.mp4", type=click.Path(path_type=Path), help="Film it instead.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@LANG
def demo(home: Path, film: Path | None, port: int, lang: str) -> int:
    """Tell a run as a show of five scenes, in the browser or as a film. DIR: a run, or a folder of runs."""
    from farm.present.dashboard.library import Library
    from farm.present.dashboard.recording import demo_run, record_demo
    from farm.present.dashboard.serving import address_of, open_dashboard

    library = Library(home)
    if film is not None:
        click.echo(f"film: {record_demo(library, film, lang)}")
        return 0
    told = f"demo: {{url}}demo?run={demo_run(library)}&play=1   (Ctrl-C ends it)"
    address = address_of("127.0.0.1", port, None)
    open_dashboard(home, address, (), "ray", lang, lambda at: click.echo(told.format(url=at.url)))
    return 0
