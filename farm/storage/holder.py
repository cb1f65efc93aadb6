"""Who drives a run: told in `lock.json` beside the records, for the one who is refused.

str(this_process("", time.time()))      # 'pid 4242 on node-1'
"""

import json
import os
import platform
from dataclasses import asdict, dataclass

FILE = "lock.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """A driver, and when it last said so (Unix time)."""

    session: str
    host: str
    pid: int
    renewed_s: float

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


NOBODY = Holder("", "an unknown host", 0, 0.0)


def this_process(session: str, now_s: float) -> Holder:
    return Holder(session, platform.node(), os.getpid(), now_s)


def holder_in(data: bytes) -> Holder:
    """NOBODY when it cannot be read."""
    try:
        return Holder(**json.loads(data))
    except (ValueError, TypeError):
        return NOBODY
