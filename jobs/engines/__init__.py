"""The engines by name. Opening one loads the model; adding one touches this table and its own file."""

from collections.abc import Callable

from farm.events import GroupRequest
from jobs.engines.base import Engine


def _open_eager(request: GroupRequest) -> Engine:
    from jobs.loading import load_engine  # torch and transformers: seconds of import that a fake group does not need

    return load_engine(request.load, None, request.seed)


def _open_fake(request: GroupRequest) -> Engine:
    from jobs.engines.fake import open_fake

    return open_fake(request.load.model.name, request.attempts[0])


_OPENERS: dict[str, Callable[[GroupRequest], Engine]] = {"eager": _open_eager, "fake": _open_fake}


def open_engine(request: GroupRequest) -> Engine:
    """Load what the request names. Raises what loading raises: Unsupported, ModelUnavailable, torch's OOM ..."""
    return _OPENERS[request.load.engine](request)
