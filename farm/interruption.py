"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. Where that is a destructor or a callback out of
C code, it is printed as "ignored" and forgotten, and the process goes on as if nobody had asked. So the signal is also
noted, and a loop that runs for long looks at the note.

    with noted_interruption():
        while work:
            raise_if_asked()
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = False


@contextmanager
def noted_interruption() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, and are noted. In the main thread only, as Python has it."""
    global _asked
    before = {number: signal.signal(number, _note) for number in _SIGNALS}
    try:
        yield
    except Exception:
        raise_if_asked()  # C code may have made an error of its own of it
        raise
    finally:
        _asked = False  # answered: a later run in this process was not asked to end
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_asked() -> None:
    """Raises KeyboardInterrupt where a signal came whose exception got lost. Once for each signal."""
    global _asked
    if _asked:
        _asked = False
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
