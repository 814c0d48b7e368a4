"""Which uses of an open datastore are allowed now, and who is at work in it, so that a change of mode can end them.

Used by all of `engine` as `StoreContext.modes`, by `services` through `Datastore.context`. The record itself is durable
in the store; here it is in memory, so asking costs nothing. Invariant: after `set` no use that the record forbids
begins; one that had begun under `using` is cancelled by `interrupt`, and then says why in the words of the refusal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio

from ibs.core.modes import Mode, ModeRecord, Use
from ibs.errors import IbsError

__all__ = ["Mode", "ModeRecord", "Modes", "Use"]


class Modes:
    """One a datastore. `require`, `allows`, `mode` and `reason` from any thread; the rest from the trio thread."""

    def __init__(self, store: str = "", record: ModeRecord | None = None) -> None:
        self._store = store
        self._record = record or ModeRecord()
        self._at_work: dict[trio.CancelScope, Use] = {}
        self._interrupted: dict[trio.CancelScope, IbsError] = {}
        self._changed = trio.Event()

    @property
    def record(self) -> ModeRecord:
        return self._record

    @property
    def mode(self) -> Mode:
        return self._record.mode

    @property
    def reason(self) -> str:
        """Why, in one clause; empty in normal mode."""
        return self._record.reason

    def allows(self, use: Use) -> bool:
        """For those who would rather wait than be refused, such as timers."""
        return self._record.allows(use)

    def require(self, use: Use) -> None:
        """Raises Quarantined, UnderMaintenance or DatastoreOffline when the datastore's mode forbids it."""
        refusal = self._record.refusal(use, self._store)
        if refusal is not None:
            raise refusal

    @contextlib.contextmanager
    def using(self, use: Use) -> Iterator[None]:
        """Work that a change of mode may end: inside, it is cancelled then. Raises what `require` does, also then.

        Long work holds this all along, and asks `require` before each step it does in a thread.
        """
        self.require(use)
        scope = trio.CancelScope()
        self._at_work[scope] = use
        try:
            with scope:
                yield
        finally:
            del self._at_work[scope]
            refusal = self._interrupted.pop(scope, None)
            self.note_end()
        # As of the interruption: by now the mode may allow it again, and the work is not done all the same.
        if scope.cancelled_caught and refusal is not None:
            raise refusal

    @property
    def uses(self) -> int:
        """How much work is under way beside sessions and readers."""
        return len(self._at_work)

    def at_work(self) -> list[Use]:
        """Uses under way that the record forbids."""
        return [use for use in self._at_work.values() if not self.allows(use)]

    def set(self, record: ModeRecord) -> None:
        """From now on. Nothing under way is ended by this; who waits for an end looks again."""
        self._record = record
        self.note_end()

    def interrupt(self) -> None:
        """Cancel everything under way that the record forbids."""
        for scope, use in self._at_work.items():
            refusal = self._record.refusal(use, self._store)
            if refusal is not None:
                self._interrupted.setdefault(scope, refusal)
                scope.cancel()

    async def progress(self) -> None:
        """Wait until something that was under way has ended."""
        await self._changed.wait()

    def note_end(self) -> None:
        """A session, a reader or other work has ended."""
        self._changed.set()
        self._changed = trio.Event()
