"""Wall-clock moments as they are written everywhere: ISO 8601, UTC, milliseconds."""

from datetime import UTC, datetime


def now() -> str:
    """`2026-01-31T12:00:00.000+00:00`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
