"""A lock for places that have none: an object that its holder renews, and that others may take once it is stale.

What it promises: of two drivers that start together exactly one gets in, because the store creates `lock.json` only
once, and so the claim to a dead driver's. A driver that died holds the place for at most `VALID_S` more. The clocks of
the drivers' machines must agree to within `VALID_S - RENEW_S`. A driver that could not renew in time and was replaced
notices at its next record and stops.

    with Lease(ObjectStore("s3://bucket/run"), new_session()) as lease:
        lease.check()
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Protocol

from farm.errors import StoreError
from farm.storage.holder import FILE, NOBODY, Holder, holder_in, this_process

VALID_S = 120.0
RENEW_S = 30.0


class LockStore(Protocol):
    """What a lease needs: `create` must raise FileExistsError when the object is there."""

    name: str

    def read(self, file: str) -> bytes: ...
    def create(self, file: str, data: bytes) -> None: ...
    def replace(self, file: str, data: bytes) -> None: ...
    def remove(self, file: str) -> None: ...


def new_session() -> str:
    """A name for this driver that sorts by its start: `20260131T120000-9f3a1c`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


class Lease:
    """Held while the context lasts; a thread renews it."""

    def __init__(self, store: LockStore, session: str, clock: Callable[[], float] = time.time) -> None:
        self.store, self.session, self.clock = store, session, clock
        self._over = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._renew_until_over, daemon=True, name="lease")

    def __enter__(self) -> "Lease":
        try:
            self.store.create(FILE, self._mine())
        except FileExistsError:
            self._take_over()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._lost is None and self._holder().session == self.session:
            self.store.remove(FILE)

    def check(self) -> None:
        """Raises StoreError when the lease went to another driver."""
        if self._lost:
            raise StoreError(self._lost)

    def renew(self) -> None:
        """Say again that this driver lives, unless another one has taken over."""
        holder = self._holder()
        if holder.session != self.session:
            self._lost = f"{self.store.name}: {holder} took over while this run could not be heard; it stops here"
        else:
            self.store.replace(FILE, self._mine())

    def _renew_until_over(self) -> None:
        while not self._over.wait(RENEW_S) and self._lost is None:
            with suppress(StoreError):  # the store is away for a moment: the next renewal tells who holds the lease
                self.renew()

    def _take_over(self) -> None:
        holder = self._holder()
        if self.clock() - holder.renewed_s < VALID_S:
            raise StoreError(
                f"{self.store.name}: another run is writing here ({holder}); wait for it, or give this one another "
                f"--out. If it is dead, its claim ends {VALID_S:.0f} s after its last sign of life"
            )
        try:
            with self._heir_of(holder):
                self.store.remove(FILE)
                self.store.create(FILE, self._mine())
        except (FileExistsError, FileNotFoundError):
            raise StoreError(f"{self.store.name}: another run has just started here; wait for it") from None

    @contextmanager
    def _heir_of(self, dead: Holder) -> Iterator[None]:
        """Of several that saw the same stale lease only one may remove it: the others would remove the new one.

        An heir that dies meanwhile stands in the way for `VALID_S` at most: its claim is one of its own time.
        """
        claim = f"lock-{hashlib.sha256(dead.session.encode()).hexdigest()[:16]}-{self.clock() // VALID_S:.0f}.json"
        self.store.create(claim, self._mine())
        try:
            if self._holder() != dead:  # somebody has been here since it was read
                raise FileExistsError(FILE)
            yield
        finally:
            self.store.remove(claim)

    def _holder(self) -> Holder:
        """NOBODY when the object is gone or unreadable."""
        try:
            return holder_in(self.store.read(FILE))
        except FileNotFoundError:
            return NOBODY

    def _mine(self) -> bytes:
        return this_process(self.session, self.clock()).to_json()
