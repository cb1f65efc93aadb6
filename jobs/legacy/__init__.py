"""Backends that today's packages have left behind, each in an environment of its own.

prepare_environment("auto-gptq")                        # what `farm prepare-env auto-gptq` does
with_own_interpreter(None, "auto-gptq").py_executable   # where Ray starts the worker
"""

from jobs.legacy.environments import (
    interpreter,
    lacks_environment,
    prepare_environment,
    why_not_in,
    with_own_interpreter,
)

__all__ = ["interpreter", "lacks_environment", "prepare_environment", "why_not_in", "with_own_interpreter"]
