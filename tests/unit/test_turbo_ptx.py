"""The decode kernels compile for an H100 that is not there, and to what was meant: nothing byte by byte."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

Counts = dict[str, dict[str, int]]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton, to compile with it")


@pytest.fixture(scope="module")
def counts() -> Counts:
    """In a process of its own: here Triton was told to interpret (tests/conftest.py)."""
    command = [sys.executable, "-m", "tests.perf.turbo_ptx"]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: Counts = json.loads(done.stdout)
    return found


def test_every_kernel_compiles_in_both_types_and_every_kind_of_weight_and_cache(counts: Counts) -> None:
    assert len(counts) == 12
    assert all(any("mma" in name for name in kinds) for kinds in counts.values()), "products are the tensor cores'"


def test_an_8_bit_cache_is_not_read_byte_by_byte(counts: Counts) -> None:
    kinds = counts["attention, float16, cache 8 bit"]
    assert not [name for name in kinds if name.startswith("ld.shared") and name.endswith("b8")]
    assert any(name.startswith("ldmatrix") and ".trans" in name for name in kinds)


def test_int8_codes_are_not_converted_one_by_one(counts: Counts) -> None:
    for kind in ("int8, float16", "int8, bfloat16"):
        assert not [name for name in counts[kind] if name.endswith((".s8", ".s16"))]
