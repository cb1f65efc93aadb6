"""What is wrong with a validated file, as one sentence: pydantic's own report is a page.

one_sentence(error, lambda location: ["name", "models"])    # "unknown key 'modles'; valid: name, models; did ..."
"""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from farm.errors import unknown

Location = tuple[int | str, ...]


def one_sentence(error: ValidationError, keys_at: Callable[[Location], Sequence[str]]) -> str:
    """The first problem: where, what, the valid choices; then how many more there are. `keys_at`: the valid keys of the
    mapping that a location lies in."""
    problems = sorted(_own_problems(error.errors()), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    path = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in first["loc"]).replace(".[", "[")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return unknown("key", path, keys_at(first["loc"])) + more
    message = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] in ("value_error", "missing") else f" (given: {first['input']!r})"
    return f"{path}: {message}{given}{more}" if path else message + more


def _own_problems(problems: Sequence[Any]) -> list[Any]:
    """Without those that follow from others: a list that is empty once its wrong entries are taken out."""
    wrong = {problem["loc"][:-1] for problem in problems}
    return [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in wrong]
