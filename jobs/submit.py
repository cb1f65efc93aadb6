"""`farm run` as the entry point of a Ray job: the way into a cluster that only its head's dashboard port is open to.

    ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.submit SWEEP.yaml --out /shared/mine

An entry point like `farm/cli.py`, so it alone in this folder may reach the layers above; it does so through the `farm`
command and adds what only a job needs: an output that outlives the job, and the cluster that the job already runs on
(the resources of a running cluster cannot be set, so none are asked for). The farm's exit code is the job's: a sweep
with a cell that is not ok leaves a job FAILED, and submitting the same line again resumes it.

Ray's copy of the tree has no history: with `--runtime-env-json '{"env_vars": {"FARM_COMMIT": "..."}}'` the records name
the commit all the same.
"""

import os
from pathlib import Path

import click

from farm.cli import cli, main
from farm.errors import StoreError
from farm.storage import is_uri


@click.command(context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True})
@click.argument("sweep_path", metavar="SWEEP.yaml")
@click.option("--out", required=True, metavar="DIR", help="An absolute path, or a URI (s3://, gs://).")
@click.argument("more", metavar="[OPTIONS OF farm run]", nargs=-1, type=click.UNPROCESSED)
def submit(sweep_path: str, out: str, more: tuple[str, ...]) -> int:
    """Measure a sweep on the Ray cluster that this job was submitted to."""
    require_lasting(out)
    address = os.environ.get("RAY_ADDRESS", "auto")
    code: int = cli.main(["run", sweep_path, "--out", out, "--address", address, *more], standalone_mode=False)
    return code


def require_lasting(out: str) -> None:
    """Refuse what would be lost with the job. Raises StoreError."""
    if not (is_uri(out) or out.startswith("file://") or Path(out).is_absolute()):
        raise StoreError(
            f"--out {out}: a relative path lies in the job's working directory, which Ray deletes after the job; "
            "name an absolute path on the head node (or a folder that it mounts), or a URI such as s3://BUCKET/RUN"
        )


if __name__ == "__main__":
    main(command=submit)
