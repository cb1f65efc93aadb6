"""What `farm doctor` says of a host that others share. Its other lines: tests/integration/test_cli.py."""

import pytest

from farm.doctor import host_checks


@pytest.mark.parametrize(("quiet", "is_ok"), [(20, True), (5, True), (4, False), (0, False)])
def test_a_host_is_fit_for_launch_bound_cells_when_a_quarter_of_its_time_is_quiet(quiet: int, is_ok: bool) -> None:
    (check,) = host_checks({"host": {"quiet": quiet, "stretches": 20}})
    assert check.ok is is_ok
    assert not check.required
    assert check.detail.startswith(f"{quiet} of 20 stretches")
    assert ("try another machine" in check.detail) is not is_ok


def test_no_line_where_the_measuring_side_could_not_start() -> None:
    assert host_checks({}) == []
