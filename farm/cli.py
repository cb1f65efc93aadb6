"""The `farm` command. Each command is a table of contents; heavy imports happen inside it, so `farm --help` is quick.

Exit codes: 0 all well, 1 the sweep ran and some cell is not ok, 2 bad input (one sentence, nothing lost), 130 Ctrl-C.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from farm import __version__
from farm.cli_pages import POOL, dashboard, demo
from farm.cli_runs import NO_IMAGES, RUN_DIR, advise, compare, publish, report
from farm.errors import FarmError, Interrupted
from farm.interruption import noted_interruption

SWEEP = click.argument("sweep_path", metavar="SWEEP.yaml", type=click.Path(path_type=Path))
ADDRESS = click.option("--address", help="A running Ray cluster ('auto' finds it); without it a local Ray is started.")
DEVICE = click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), help="Overrides the sweep's device.")
RETRY = click.option(
    "--retry",
    "retry",
    multiple=True,
    metavar="STATUS",
    help="Run cells of this status again; `suspect`: rows not valid for a reason that may pass.",
)
WAIT = click.option(
    "--wait-for-gpus",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Ask the cluster's autoscaler for the GPUs that are missing, and wait for them.",
)
CANARY = click.option("--canary", is_flag=True, help="Measure one cell alone and among neighbours: do they disturb?")
SERIALIZE = click.option(
    "--serialize-on-interference",
    "serialize",
    is_flag=True,
    help="With a canary: what was disturbed is measured again, one group at a time.",
)
STOP_AFTER = click.option(
    "--stop-after",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End then, the groups with the least time a cell first; resume goes on.",
)
SHOW = click.option(
    "--show", is_flag=True, help="Each cell first generates once, untimed, token by token for `farm dashboard`."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="farm")
def cli() -> None:
    """How much faster can this model run on my GPUs, and what does it cost in quality?"""


cli.add_command(dashboard)
cli.add_command(demo)


@cli.command()
@SWEEP
@click.option("--out", metavar="DIR", help="Run folder, or a URI (s3://, gs://); default: runs/<name of the sweep>.")
@POOL
@ADDRESS
@DEVICE
@RETRY
@WAIT
@CANARY
@SERIALIZE
@STOP_AFTER
@NO_IMAGES
@SHOW
@click.option("--num-gpus", type=int, hidden=True, help="Tell the local Ray how many GPUs there are (tests).")
def run(sweep_path: Path, out: str | None, device: str | None, **how: Any) -> int:
    """Measure a sweep; what DIR already holds is not measured again."""
    from farm.sweep import load_sweep

    sweep = load_sweep(sweep_path)
    if device:
        sweep = sweep.model_copy(update={"device": device})
    return _run(sweep, out or f"runs/{sweep.name}", sweep.device, **how)


@cli.command()
@RUN_DIR
@POOL
@ADDRESS
@RETRY
@WAIT
@CANARY
@SERIALIZE
@STOP_AFTER
@NO_IMAGES
@SHOW
@click.option("--num-gpus", type=int, hidden=True)
def resume(run_dir: str, **how: Any) -> int:
    """Go on with a run: cells that are ok or cannot change are kept, the rest is measured."""
    from farm.store import RunFolder

    manifest = RunFolder(run_dir).manifest()
    return _run(manifest.sweep, run_dir, manifest.device, **how)


def _run(
    sweep: Any,
    out: str,
    device: str,
    pool_kind: str,
    address: str | None,
    retry: tuple[str, ...],
    stop_after: float | None,
    no_images: bool,
    num_gpus: int | None,
    wait_s: float,
    canary: bool,
    serialize: bool,
    show: bool,
) -> int:
    from cluster.run import open_pool, run_sweep
    from farm.present.progress import TerminalProgress
    from farm.present.report_run import report_run
    from farm.store import RunFolder

    folder = RunFolder(out)
    again = _statuses(retry)
    sweep = sweep.model_copy(update={"canary": sweep.canary or canary or serialize})
    with (
        _resumable(folder.name),
        TerminalProgress() as progress,
        open_pool(pool_kind, device, address, num_gpus, wait_s) as pool,
    ):
        summary = run_sweep(sweep, folder, pool, again, progress, show, stop_after, serialize)
    report_run(folder, images=not no_images)
    progress.summary(summary, folder.name)
    return summary.exit_code


@cli.command()
@SWEEP
@POOL
@ADDRESS
@DEVICE
def prepare(sweep_path: Path, pool_kind: str, address: str | None, device: str | None) -> int:
    """Fetch a sweep's models and make its GPTQ and AWQ checkpoints, once a node; `farm run` does it by itself."""
    from cluster.run import open_pool
    from cluster.run import prepare as prepare_cells
    from farm.expand import expand
    from farm.present.progress import TerminalProgress
    from farm.sweep import load_sweep

    sweep = load_sweep(sweep_path)
    with (
        TerminalProgress() as progress,
        open_pool(pool_kind, device or sweep.device, address) as pool,
    ):
        problems = prepare_cells(pool, expand(sweep, pool.device), progress)
    if not problems:
        click.echo("ready: every model and checkpoint that this sweep needs is here")
    return 1 if problems else 0


@cli.command("prepare-env")
@click.argument("name")
def prepare_env(name: str) -> int:
    """Make the environment of a legacy backend (auto-gptq, autoawq) on this machine; a second call costs nothing."""
    from jobs.legacy import prepare_environment

    click.echo(prepare_environment(name))
    return 0


@cli.command()
@SWEEP
@DEVICE
def plan(sweep_path: Path, device: str | None) -> int:
    """Show cells, load groups, predicted memory and estimated time; run nothing."""
    from farm.expand import expand
    from farm.plan import make_plan
    from farm.present.plan_view import print_plan
    from farm.sweep import load_sweep
    from jobs.devices import device_memory_bytes, resolve_device

    sweep = load_sweep(sweep_path)
    resolved = resolve_device(device or sweep.device)
    memory_bytes = device_memory_bytes(resolved)
    cells = expand(sweep, resolved)
    print_plan(sweep.name, make_plan(cells, [], device_memory_bytes=memory_bytes), resolved, memory_bytes)
    return 0


@cli.command()
def doctor() -> int:
    """What this machine can run: one line each; exit code 1 when the core cannot work."""
    from farm.doctor import checkup
    from farm.present.doctor_view import print_checkup

    checks = checkup()
    print_checkup(checks)
    return 0 if all(check.ok for check in checks if check.required) else 1


cli.add_command(advise)
cli.add_command(compare)
cli.add_command(publish)
cli.add_command(report)


def _statuses(names: tuple[str, ...]) -> frozenset[str]:
    from farm.errors import SweepError, unknown
    from farm.plan import SUSPECT
    from farm.records import Status

    valid = [*(status.value for status in Status), SUSPECT]
    for name in names:
        if name not in valid:
            raise SweepError(unknown("status", name, valid, "--retry"))
    return frozenset(names)


@contextmanager
def _resumable(place: str) -> Iterator[None]:
    """Turns Ctrl-C and SIGTERM into one sentence that says how to go on."""
    try:
        with noted_interruption():
            yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; finished points are safe. Go on with: farm resume {place}") from None


def main(args: list[str] | None = None, command: click.Command = cli) -> None:
    """Entry point: a FarmError is one line on stderr and its exit code; anything else is a bug with a traceback."""
    try:
        sys.exit(command.main(args, standalone_mode=False) or 0)
    except FarmError as error:
        click.echo(f"farm: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
