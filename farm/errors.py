"""Every error the farm raises on purpose, in one tree.

Why: the CLI catches exactly `FarmError` and prints one sentence; anything else is a bug and keeps its traceback.
A message says what is wrong, where, which choices are valid and what to do next.

    raise SweepError(unknown("quantization", "int9", ["fp16", "int8"], where="sweep.yaml: quantizations[0]"))
"""

import difflib
from collections.abc import Iterable


class FarmError(Exception):
    """Root of the tree. `exit_code` is what the process returns when the CLI reports it."""

    exit_code = 2


class SweepError(FarmError):
    """The sweep file or a command-line value is not usable; nothing was run."""


class StoreError(FarmError):
    """The output folder cannot be used: locked by another run, of another sweep, not writable."""


class ClusterError(FarmError):
    """The Ray cluster cannot serve this sweep: unreachable, or lacks what the sweep demands."""


class Unsupported(FarmError):
    """A finding, not a fault: this configuration cannot run here (missing kernel, package, device feature)."""


class ModelNotFound(Unsupported):
    """The source answered that there is no such model; asking again will not change that."""


class ModelUnavailable(FarmError):
    """The model may exist but could not be had now: no network, gated, damaged download."""


class EnvironmentUnavailable(FarmError):
    """The environment of a legacy backend could not be made: no network, or a package that does not install here."""


class Interrupted(FarmError):
    """The user stopped the run; finished points are safe and `farm resume` goes on."""

    exit_code = 130


def unknown(noun: str, value: object, choices: Iterable[str], where: str = "") -> str:
    """One sentence for a value outside a closed set, with the nearest valid one as the hint."""
    valid = list(choices)
    near = difflib.get_close_matches(str(value), valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    prefix = f"{where}: " if where else ""
    return f"{prefix}unknown {noun} {str(value)!r}; valid: {', '.join(valid)}{hint}"
