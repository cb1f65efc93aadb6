"""The engines by name. Opening one loads the model; adding one touches this table and its own file."""

from collections.abc import Callable

from farm.events import GroupRequest
from jobs.engines.base import Engine


def _open_eager(request: GroupRequest) -> Engine:
    from jobs.loading import load_engine  # torch and transformers: seconds of import that a fake group does not need

    return load_engine(request.load, None, request.seed)


def _open_compiled(request: GroupRequest) -> Engine:
    from jobs.engines.compiled import CompiledEngine
    from jobs.loading import load_engine

    return CompiledEngine(load_engine(request.load, None, request.seed))  # type: ignore[arg-type]


def _open_turbo(request: GroupRequest) -> Engine:
    from jobs.engines.turbo import load_turbo

    return load_turbo(request.load, None, request.seed)


def _open_fake(request: GroupRequest) -> Engine:
    from jobs.engines.fake import open_fake

    return open_fake(request.load.model.name, request.attempts[0])


_OPENERS: dict[str, Callable[[GroupRequest], Engine]] = {
    "eager": _open_eager,
    "compiled": _open_compiled,
    "turbo": _open_turbo,
    "fake": _open_fake,
}


def open_engine(request: GroupRequest) -> Engine:
    """Load what the request names. Raises what loading raises: Unsupported, ModelUnavailable, torch's OOM ..."""
    return _OPENERS[request.load.engine](request)
