"""Quarantine and maintenance of configured datastores: who asks for what, noted, told, in good order.

The base of `engine.datastores.Datastores`, and used by nothing else. Invariants: what is forbidden is forbidden before
anything is waited for; a mode is noted before it is loosened; what is changed goes through the entry's lock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio
from msgspec import structs

from ibs.core import limits
from ibs.core.events import Severity
from ibs.core.modes import Maintenance, Quarantine, Release
from ibs.core.names import format_time
from ibs.engine import holding
from ibs.engine import reindex as reindexing
from ibs.engine.datastore import Datastore
from ibs.engine.modes import Mode, ModeRecord, Use
from ibs.errors import ConflictError, DatastoreOffline, IbsError, UsageError
from ibs.ports.catalog import DatastoreRecord
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.storage.local import drop_index
from ibs.wire.datastore import DatastoreView

OPENING = "it is being opened"


@dataclass
class Entry:
    """One configured datastore. `datastore` None: offline, and `reason` says why."""

    record: DatastoreRecord
    datastore: Datastore | None = None
    reason: str = OPENING
    held: ModeRecord = field(default_factory=ModeRecord)  # as found at the last attempt to open it
    lock: trio.Lock = field(default_factory=trio.Lock)

    @property
    def status(self) -> tuple[str, str]:
        """`online`, `read-only`, `quarantined` or `offline`, and why."""
        return self.datastore.status if self.datastore is not None else ("offline", self.reason)

    @property
    def record_of_mode(self) -> ModeRecord:
        """What it is held to, as far as is known."""
        return self.datastore.context.modes.record if self.datastore is not None else self.held

    @property
    def mode(self) -> Mode:
        """In one word."""
        return self.record_of_mode.mode


class ModeKeeper(ABC):
    """The public methods are called from the trio thread only."""

    _clock: Clock
    _pool: Pool

    @abstractmethod
    def _entry(self, name: str) -> Entry: ...

    @abstractmethod
    async def get(self, name: str) -> Datastore: ...

    @abstractmethod
    async def _open(self, entry: Entry, *, even_in_maintenance: bool = False) -> None: ...

    @abstractmethod
    async def _view(self, entry: Entry, warnings: Sequence[str] = ()) -> DatastoreView: ...

    @abstractmethod
    def _tell(self, entry: Entry, severity: Severity, kind: str, text: str) -> None: ...

    async def quarantine(self, name: str, by: str, reason: str = "") -> DatastoreView:
        """Stop whatever changes a datastore; reading, verifying and repairing go on. Durable, in force at once.

        Backups under way are interrupted with the reason and can be resumed after the release. `warnings` of the answer
        say when it could not be noted in the store. Raises NotFoundError, DatastoreOffline, ConflictError, UsageError.
        *Cancellation*: once begun it is finished.
        """
        _check_words("reason", reason)
        entry = self._entry(name)
        async with entry.lock:
            datastore = self._held_open(entry)
            record = datastore.context.modes.record
            if record.quarantine is not None:
                raise ConflictError(f"datastore {name} is quarantined already: {record.reason}")
            now = format_time(self._clock.now())
            quarantine = Quarantine(reason=reason or "suspected damage", since=now, by=by)
            why = f"datastore {name} is quarantined: {quarantine.reason}"
            # Whoever asked may hang up: what was begun is ended, or backups would go on in a quarantined store.
            with trio.CancelScope(shield=True):
                warning = await holding.tighten(datastore, structs.replace(record, quarantine=quarantine))
                await holding.end_forbidden(datastore, why)
            self._tell(entry, Severity.CRITICAL, "datastore.quarantined", f"{why} (by {by})")
        return await self._view(entry, [warning] if warning else [])

    async def release(self, name: str, by: str, cause: str) -> DatastoreView:
        """End a quarantine; `cause` says what had gone wrong, and is kept. Raises as `quarantine` and the store do."""
        _check_words("cause", cause)
        if not cause.strip():
            raise UsageError("the cause is empty", hint="say what went wrong and how it was cured: --cause TEXT")
        entry = self._entry(name)
        async with entry.lock:
            datastore = self._held_open(entry)
            record = datastore.context.modes.record
            if record.quarantine is None:
                raise ConflictError(f"datastore {name} is not quarantined")
            now = format_time(self._clock.now())
            released = Release(cause=cause, time=now, by=by, quarantine=record.quarantine)
            await holding.loosen(datastore, structs.replace(record, quarantine=None, released=released))
        self._tell(entry, Severity.NOTICE, "datastore.released", f"datastore {name} was released by {by}: {cause}")
        return await self._view(entry)

    async def maintain(self, name: str, by: str, mode: Mode, reason: str = "") -> DatastoreView:
        """Hold a datastore to `mode` (read-only, offline; normal ends it). Durable, in force at once for what is new.

        What is under way goes on: see `settle`. Raises NotFoundError, DatastoreOffline, UsageError, and for the end of
        a maintenance what writing the store raises.
        """
        _check_words("reason", reason)
        if mode is Mode.QUARANTINED:
            raise UsageError("quarantined is not a maintenance mode", hint="see: ironcore-backup datastore quarantine")
        entry = self._entry(name)
        warning = ""
        async with entry.lock:
            if entry.datastore is None and entry.held.mode is Mode.OFFLINE and mode is not Mode.OFFLINE:
                await self._open(entry, even_in_maintenance=True)
            datastore = self._held_open(entry)
            record = datastore.context.modes.record
            if mode is Mode.NORMAL:
                await self._loosen_or_close(entry, structs.replace(record, maintenance=None))
            else:
                now = format_time(self._clock.now())
                maintenance = Maintenance(mode=mode, reason=reason, since=now, by=by)
                warning = await holding.tighten(datastore, structs.replace(record, maintenance=maintenance))
        text = f"datastore {name} is {datastore.status[0]}" + (f", {datastore.context.modes.reason}" if warning else "")
        self._tell(entry, Severity.NOTICE, "datastore.maintenance", f"{text} (by {by})")
        return await self._view(entry, [warning] if warning else [])

    async def _loosen_or_close(self, entry: Entry, record: ModeRecord) -> None:
        datastore = self._held_open(entry)
        try:
            await holding.loosen(datastore, record)
        except IbsError:
            if datastore.context.modes.mode is Mode.OFFLINE:
                await self._close_for_maintenance(entry)
            raise

    async def settle(self, name: str, seconds: float, tell: Callable[[str], None]) -> str:
        """Let what a maintenance forbids come to its end, end it after `seconds`; an offline datastore is then closed.

        Returns in words what was done. Raises NotFoundError; ConflictError when the maintenance ended meanwhile.
        *Cancellation*: the mode stays; what is under way goes on.
        """
        entry = self._entry(name)
        datastore = entry.datastore
        if datastore is None:
            return f"datastore {name} is offline: {entry.reason}"
        modes = datastore.context.modes
        wanted = modes.record.maintenance
        in_time = await holding.drain(datastore, seconds, tell)
        async with entry.lock:
            if entry.datastore is not datastore or modes.record.maintenance != wanted or wanted is None:
                raise ConflictError(f"the maintenance of datastore {name} was changed meanwhile")
            left = holding.under_way(datastore)
            await holding.end_forbidden(datastore, f"datastore {name} is {modes.reason}")
            if wanted.mode is Mode.OFFLINE:
                await self._close_for_maintenance(entry)
        done = "nothing was interrupted" if in_time else f"interrupted after {seconds:.0f} s: {', '.join(left)}"
        return f"datastore {name} is {wanted.mode.value} for maintenance; {done}"

    async def reindex(
        self, name: str, tell: Callable[[str], None], progress: reindexing.Progress
    ) -> reindexing.Rebuilt:
        """Rebuild what is derived from the store: the chunk index, and what is remembered of snapshots.

        Online; only where the index file itself is damaged the datastore is closed, and opened with a new one; also
        one that could not be opened for that. Raises NotFoundError, DatastoreOffline and what `reindex_online` does.
        Harmless to be stopped at any point.
        """
        entry = self._entry(name)
        if entry.datastore is None and entry.mode is not Mode.OFFLINE and entry.reason != OPENING:
            tell(f"the datastore is offline ({entry.reason}): its chunk index is made anew from the chunks")
            async with entry.lock:
                if entry.datastore is None:
                    await self._drop_index(entry)
        datastore = await self.get(name)
        datastore.context.modes.require(Use.REPAIR)
        damage = await datastore.context.pool.disk(datastore.store.index_damage)
        if damage:
            tell(f"the chunk index is damaged ({damage[:200]}): it is made anew from the chunks")
            await self._make_index_anew(entry, datastore)
            datastore = await self.get(name)
        return await reindexing.reindex_online(datastore, progress)

    async def _make_index_anew(self, entry: Entry, datastore: Datastore) -> None:
        """Close the store, drop the index, open it again. Sessions are interrupted and can be resumed."""
        record = entry.record
        async with entry.lock:
            if entry.datastore is not datastore:
                return  # it was closed and opened meanwhile, which made the index anew
            with trio.CancelScope(shield=True):
                entry.datastore, entry.reason = None, OPENING
                await datastore.close(f"the index of datastore {record.name} is rebuilt", clean=False)
                await self._drop_index(entry)

    async def _drop_index(self, entry: Entry) -> None:
        """Without its index, opening rebuilds it. The caller holds the entry's lock; the store is closed."""
        record = entry.record
        try:
            await self._pool.disk(drop_index, record.path, record.uuid, record.name)
        finally:
            await self._open(entry)

    async def _close_for_maintenance(self, entry: Entry) -> None:
        """Let go of the store, so that its file system can be unmounted. The caller holds the entry's lock."""
        datastore = self._held_open(entry)
        entry.held = datastore.context.modes.record
        entry.datastore, entry.reason = None, entry.held.reason
        with trio.CancelScope(shield=True):
            await datastore.close(f"datastore {entry.record.name} is {entry.reason}")

    def _held_open(self, entry: Entry) -> Datastore:
        if entry.datastore is None:
            raise DatastoreOffline(entry.record.name, entry.reason)
        return entry.datastore


def _check_words(what: str, text: str) -> None:
    if len(text) > limits.COMMENT_CHARS_MAX:
        raise UsageError(f"the {what} is too long", hint=f"use at most {limits.COMMENT_CHARS_MAX} characters")
