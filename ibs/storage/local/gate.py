"""Who may enter the store now: counts calls in progress, latches read-only and offline, lets `close` wait.

Used inside `storage.local`. Descriptors are closed only when no call is inside, so that a late call can never
meet a descriptor number that the process has reused for something else.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ibs.errors import DatastoreOffline, DatastoreReadOnly


class Gate:
    """Thread-safe. Reasons are clauses in plain words; the first of a kind is kept."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._change = threading.Condition()
        self._inside = 0
        self._read_only = ""
        self._offline = ""

    @property
    def read_only_reason(self) -> str:
        """Why the store takes no writes; empty while it does."""
        return self._read_only

    @property
    def offline_reason(self) -> str:
        """Why the store takes no calls; empty while it does."""
        return self._offline

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, the store stays open. Raises DatastoreOffline."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """As `reading`; raises DatastoreReadOnly too."""
        self._enter()
        try:
            self.check_writable()
            yield
        finally:
            self._leave()

    def check_writable(self) -> None:
        """Raises DatastoreReadOnly when the store takes no writes."""
        if self._read_only:
            raise DatastoreReadOnly(
                f"datastore {self._store} is read-only: {self._read_only}",
                hint="cure the cause, then restart the server so that every received chunk is checked",
            )

    def go_read_only(self, reason: str) -> None:
        """Take no writes from now on, until the store is opened again."""
        self._read_only = self._read_only or reason

    def go_offline(self, reason: str) -> None:
        """Take no calls from now on."""
        self._offline = self._offline or reason

    def drain(self) -> None:
        """Wait until nobody is inside. The caller has made the store offline first."""
        with self._change:
            self._change.wait_for(lambda: self._inside == 0)

    def _enter(self) -> None:
        with self._change:
            if self._offline:
                raise DatastoreOffline(self._store, self._offline)
            self._inside += 1

    def _leave(self) -> None:
        with self._change:
            self._inside -= 1
            if self._inside == 0:
                self._change.notify_all()
