"""`python -m jobs.submit`: what would be lost with the job is refused before anything starts."""

import pytest

from farm.cli import main
from farm.errors import StoreError
from jobs.submit import require_lasting, submit


@pytest.mark.parametrize("out", ["/shared/runs/x", "s3://bucket/x", "memory://x", "file:///shared/x"])
def test_what_outlives_the_job_is_taken(out: str) -> None:
    require_lasting(out)


@pytest.mark.parametrize("out", ["runs/x", "./x", "~/x", "s3:/bucket/x", ""])
def test_what_the_job_would_take_along_is_refused(out: str) -> None:
    with pytest.raises(StoreError, match="a relative path lies in the job's working directory"):
        require_lasting(out)


def test_the_refusal_is_one_sentence_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["jobs/sweeps/demo.yaml", "--out", "runs/x"], submit)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("farm: --out runs/x: a relative path")


def test_options_of_farm_run_are_handed_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["jobs/sweeps/demo.yaml", "--out", "/nowhere", "--retry", "bad"], submit)
    assert left.value.code == 2
    assert "--retry: unknown status 'bad'" in capsys.readouterr().err
