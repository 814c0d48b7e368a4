"""The configured datastores of a server: made, opened, watched, closed. An offline one stays listed with its reason.

Used by `app`, `services` and `control`. Invariants: opening at server start never fails the server; a datastore
is given out only while its store is open; whatever changes about one goes through its entry's lock.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import check_name, format_time
from ibs.engine import holding
from ibs.engine.context import StoreContext, no_one
from ibs.engine.datastore import Datastore
from ibs.engine.folders import SnapshotFolders
from ibs.engine.modekeeper import OPENING, Entry, ModeKeeper
from ibs.engine.modes import Mode, ModeRecord, Modes, Use
from ibs.engine.placing import check_place
from ibs.errors import BusyError, ConflictError, DatastoreOffline, IbsError, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.ports.catalog import DatastoreRecord, DatastoreRecords, KeyRegistry, NoKeys
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.storage.local import Check, Expected, LocalStore, Options, find_existing, probe_path
from ibs.wire.datastore import DatastoreStats, DatastoreView, ProbeCheck, ProbeResult, UsageRow

_log = get_logger("api")
Views = list[DatastoreView]
Checks = list[Check]
Usage = list[UsageRow]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What every datastore is built from. `server_uuid` owns the stores, `signing_seed` signs plain manifests."""

    pool: Pool
    clock: Clock
    publish: Callable[[Event], None]
    server_uuid: str
    signing_seed: bytes = field(repr=False)
    keys: KeyRegistry = field(default_factory=NoKeys)
    entropy: Callable[[int], bytes] = os.urandom
    options: Options = field(default_factory=Options)
    own_folders: Sequence[str] = ()
    """State and logs of the server: no datastore may lie in them or hold them."""


class Datastores(ModeKeeper):
    """One a server. Its methods are called from the trio thread only."""

    def __init__(self, records: DatastoreRecords, parts: Parts) -> None:
        self._records = records
        self._parts = parts
        self._clock, self._pool = parts.clock, parts.pool
        self._entries: dict[str, Entry] = {}
        self._moved: Callable[[str, str, bool], None] = no_one
        self._creating = trio.Lock()

    def on_move(self, moved: Callable[[str, str, bool], None]) -> None:
        """Tell `moved` of every snapshot that the server itself takes away or brings back (see StoreContext.moved)."""
        self._moved = moved

    # --- opening ---

    async def open_all(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open every configured datastore, side by side. One that cannot be opened is offline, with its reason.

        `task_status` is started when all are listed, as offline until they are open.
        """
        for record in await self._records.list():
            self._entries.setdefault(record.name, Entry(record))
        task_status.started()
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the openings
            for entry in list(self._entries.values()):
                nursery.start_soon(self._open_at_start, entry)

    async def _open_at_start(self, entry: Entry) -> None:
        async with entry.lock:
            if entry.datastore is None:
                try:
                    await self._open(entry)
                except Exception as error:  # noqa: BLE001 - one store's trouble must not keep the server from starting
                    entry.reason = f"opening it failed unexpectedly ({type(error).__name__}: {error})"
                    text = f"datastore {entry.record.name} is offline: {entry.reason}"[:1000]
                    self._tell(entry, Severity.CRITICAL, "datastore.offline", text)

    async def _open(self, entry: Entry, *, even_in_maintenance: bool = False, takeover: bool = False) -> None:
        """Try to open; the entry says what came of it. The caller holds the entry's lock."""
        record = entry.record
        try:
            now = format_time(self._parts.clock.now())
            entry.held = await self._parts.pool.disk(holding.peek, record.path, record.uuid, record.name, now)
            if entry.held.mode is Mode.OFFLINE and not even_in_maintenance:
                raise DatastoreOffline(record.name, entry.held.reason)
            store = await self._parts.pool.disk(self._open_store, record, takeover)
        except IbsError as error:
            reason = str(error.details.get("reason", error.message))
            if entry.reason != reason:
                self._tell(entry, Severity.ERROR, "datastore.offline", f"datastore {record.name} is offline: {reason}")
            entry.reason = reason
            return
        datastore = Datastore(self._context(record, store, entry.held))
        try:
            await datastore.recover()
        except IbsError as error:
            entry.reason = f"what the last run left cannot be read: {error.message}"
            self._tell(entry, Severity.ERROR, "datastore.offline", f"datastore {record.name}: {entry.reason}"[:1000])
            await self._parts.pool.disk(lambda: store.close(clean=False))
            return
        entry.datastore, entry.reason = datastore, ""
        status, reason = entry.status
        severity = Severity.NOTICE if status == "online" else Severity.ERROR
        text = f"datastore {record.name} is {status}" + (f": {reason}" if reason else "")
        self._tell(entry, severity, f"datastore.{status}", text)

    def _open_store(self, record: DatastoreRecord, takeover: bool) -> LocalStore:
        options = replace(self._parts.options, takeover=takeover)
        return LocalStore.open(record.path, record.uuid, self._parts.server_uuid, name=record.name, options=options)

    def _context(self, record: DatastoreRecord, store: LocalStore, held: ModeRecord) -> StoreContext:
        return StoreContext(
            name=record.name,
            uuid=record.uuid,
            generation=store.epoch,
            store=store,
            folders=SnapshotFolders(store.snapshots),
            pool=self._parts.pool,
            clock=self._parts.clock,
            entropy=self._parts.entropy,
            keys=self._parts.keys,
            publish=self._parts.publish,
            signing_seed=self._parts.signing_seed,
            moved=lambda *move: self._moved(*move),  # noqa: PLW0108 - whoever listens comes later
            modes=Modes(record.name, held),
        )

    async def create(self, name: str, path: str, comment: str = "") -> DatastoreView:
        """Make a datastore in an empty folder, and open it; `warnings` of the answer are for its owner.

        Raises UsageError, ConflictError (name taken; folder not empty, nested, or shared with another datastore).
        Nothing is left behind when it does.
        """
        check_name(name, "datastore")
        if len(comment) > limits.COMMENT_CHARS_MAX:
            raise UsageError("the comment is too long", hint=f"use at most {limits.COMMENT_CHARS_MAX} characters")
        async with self._creating:
            if name in self._entries:
                raise ConflictError(f"datastore {name} exists already", hint="choose another name")
            others = await self._records.list()
            warnings = await self._parts.pool.disk(check_place, path, others, self._parts.own_folders)
            path = os.path.normpath(path)  # noqa: ASYNC240 - looks at the text only
            record = DatastoreRecord(name, path, str(uuid.UUID(bytes=self._parts.entropy(16), version=4)), comment)
            # The record first: a crash in between leaves a datastore that is offline and can be removed, while a
            # store without a record could neither be used nor made again.
            await self._records.add(record)
            with trio.CancelScope(shield=True):  # short; and half of it is worse than all of it
                entry = await self._make(record)
        for warning in warnings:
            self._tell(entry, Severity.WARNING, "datastore.placing", f"datastore {name}: {warning}")
        return await self._view(entry, warnings)

    async def _make(self, record: DatastoreRecord) -> Entry:
        created = self._parts.clock.now()
        try:
            await self._parts.pool.disk(
                lambda: LocalStore.create(record.path, record.name, record.uuid, created=created)
            )
        except BaseException:
            await self._records.remove(record.name)
            raise
        entry = self._entries[record.name] = Entry(record)
        async with entry.lock:
            await self._open(entry)
        return entry

    async def adopt(self, name: str, path: str, comment: str = "", *, takeover: bool = False) -> DatastoreView:
        """Attach an existing store under `name`, with all that is in it; `warnings` as for `create`.

        One that belongs to another server only with `takeover`: its fence is raised, and that server, should it still
        run, stops at its next write. Raises UsageError (no datastore), ConflictError (name or store attached already,
        in use on this host, owned by another server), DatastoreOffline; nothing has changed then.
        """
        check_name(name, "datastore")
        if len(comment) > limits.COMMENT_CHARS_MAX:
            raise UsageError("the comment is too long", hint=f"use at most {limits.COMMENT_CHARS_MAX} characters")
        async with self._creating:
            if name in self._entries:
                raise ConflictError(f"datastore {name} exists already", hint="choose another name")
            others = await self._records.list()
            warnings = await self._pool.disk(lambda: check_place(path, others, self._parts.own_folders, existing=True))
            path = os.path.normpath(path)  # noqa: ASYNC240 - looks at the text only
            found = await self._pool.disk(find_existing, path)
            twin = next((other for other in others if other.uuid == found.uuid), None)
            if twin is not None:
                raise ConflictError(
                    f"{path} holds datastore {twin.name}, which is attached already at {twin.path}",
                    hint=f"if it has moved: ironcore-backup datastore remove {twin.name}, then adopt it",
                )
            if found.owner not in ("", self._parts.server_uuid) and not takeover:
                raise ConflictError(
                    f"{path} belongs to server {found.owner}",
                    hint="detach it there (datastore remove); if that server is gone, adopt it with --takeover",
                )
            entry = Entry(DatastoreRecord(name, path, found.uuid, comment))
            foreign = found.owner not in ("", self._parts.server_uuid)
            with trio.CancelScope(shield=True):
                await self._attach(entry, takeover=foreign)
        whose = f", taken over from server {found.owner}" if foreign else ""
        self._tell(entry, Severity.NOTICE, "datastore.adopted", f"datastore {name} was adopted from {path}{whose}")
        return await self._view(entry, warnings)

    async def _attach(self, entry: Entry, *, takeover: bool) -> None:
        """Note it, then open it; when that fails it is not attached."""
        await self._records.add(entry.record)
        async with entry.lock:
            await self._open(entry, even_in_maintenance=True, takeover=takeover)
            if entry.datastore is None:
                await self._records.remove(entry.record.name)
                raise DatastoreOffline(entry.record.name, entry.reason)
            self._entries[entry.record.name] = entry
            if entry.mode is Mode.OFFLINE:
                await self._close_for_maintenance(entry)

    # --- asking ---

    async def get(self, name: str) -> Datastore:
        """An open datastore; one that is just being opened is waited for, DATASTORE_OPENING_SECONDS_MAX at most.

        Raises NotFoundError; DatastoreOffline with the exact reason.
        """
        entry = self._entry(name)
        with trio.move_on_after(limits.DATASTORE_OPENING_SECONDS_MAX):
            # Whoever opens holds the lock. After a restart clients come back before their datastore does.
            while entry.datastore is None and entry.reason == OPENING:
                async with entry.lock:
                    pass
        status, reason = entry.status
        refusal = entry.record_of_mode.refusal(Use.READ, name)
        if refusal is not None:
            raise refusal
        if entry.datastore is None or status == "offline":
            raise DatastoreOffline(name, reason)
        return entry.datastore

    def opened(self) -> Sequence[Datastore]:
        """Every datastore that is open now; also one that is about to go offline, while work in it comes to an end."""
        return [
            entry.datastore
            for entry in self._entries.values()
            if entry.datastore is not None and entry.datastore.store.status[0] != "offline"
        ]

    def standing(self) -> Sequence[tuple[str, str, str]]:
        """Name, status and mode of each configured datastore, by name. From memory: looks at no disk, never waits."""
        return [(name, entry.status[0], entry.mode.value) for name, entry in sorted(self._entries.items())]

    async def list(self) -> Views:
        """All configured datastores by name, offline ones with their reason."""
        return [await self._view(self._entries[name]) for name in sorted(self._entries)]

    async def view(self, name: str) -> DatastoreView:
        """One of them. Raises NotFoundError."""
        return await self._view(self._entry(name))

    async def stats(self, name: str) -> DatastoreStats:
        """Space, inodes, chunks, snapshots, savings. Raises NotFoundError, DatastoreOffline."""
        return await (await self.get(name)).stats()

    async def usage(self, name: str, by: str) -> Usage:
        """What each group or namespace of it takes. Raises NotFoundError, UsageError, DatastoreOffline."""
        return await (await self.get(name)).usage(by)

    async def _view(self, entry: Entry, warnings: Sequence[str] = ()) -> DatastoreView:
        record, datastore = entry.record, entry.datastore
        status, reason = entry.status
        bytes_total = bytes_free = snapshots = 0
        if datastore is not None and status != "offline":
            try:
                space = await self._parts.pool.disk(datastore.store.space)
                bytes_total, bytes_free = space.bytes_total, space.bytes_free
                snapshots = await datastore.snapshot_count()
            except IbsError as error:  # it went away while we looked; the next probe settles it
                status, reason = "offline", error.message
        return DatastoreView(
            name=record.name,
            path=record.path,
            uuid=record.uuid,
            status=status,
            reason=reason,
            comment=record.comment,
            bytes_total=bytes_total,
            bytes_free=bytes_free,
            snapshots=snapshots,
            warnings=list(warnings),
            mode=entry.mode.value,
        )

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise NotFoundError(f"datastore {name!r} not found", hint="list them: ironcore-backup datastore list")
        return entry

    # --- watching ---

    async def probe(self, name: str) -> ProbeResult:
        """Look at a datastore again: one that went away goes offline, one whose trouble is over comes back.

        A read-only one is opened anew when nobody uses it. Raises NotFoundError.
        """
        entry = self._entry(name)
        async with entry.lock:
            checks = await (self._probe_open(entry) if entry.datastore is not None else self._probe_offline(entry))
        status, reason = entry.status
        rows = [ProbeCheck(check=check.check, ok=check.ok, detail=check.detail) for check in checks]
        return ProbeResult(name=name, status=status, reason=reason, checks=rows, mode=entry.mode.value)

    async def probe_all(self) -> Sequence[ProbeResult]:
        """Probe every datastore, one after the other."""
        return [await self.probe(name) for name in sorted(self._entries) if name in self._entries]

    async def _probe_open(self, entry: Entry) -> Checks:
        datastore = entry.datastore
        assert datastore is not None  # noqa: S101 - asked for open ones only
        checks = await self._parts.pool.disk(datastore.store.probe)
        wrong = next((check for check in checks if not check.ok), None)
        if wrong is not None:
            await self._take_down(entry, wrong.detail)
        elif datastore.store.status[0] == "read-only" and not datastore.in_use:
            await datastore.close("it is opened anew", clean=False)
            entry.datastore = None
            await self._open(entry)
        return checks

    async def _take_down(self, entry: Entry, reason: str) -> None:
        """The store is gone: end everything on it without writing to it, and remember why."""
        datastore, entry.datastore, entry.reason = entry.datastore, None, reason
        name = entry.record.name
        self._tell(entry, Severity.ERROR, "datastore.offline", f"datastore {name} is offline: {reason}"[:1000])
        if datastore is not None:
            with trio.CancelScope(shield=True):
                await datastore.close(f"datastore {name} went offline: {reason}", clean=False)

    async def _probe_offline(self, entry: Entry) -> Checks:
        record = entry.record
        if entry.held.mode is Mode.OFFLINE:
            await self._open(entry)  # looks only, and opens it when its maintenance has been ended elsewhere
            if entry.datastore is None:
                return [Check("maintenance", ok=False, detail=entry.reason)]
        expected = Expected(record.uuid, self._parts.server_uuid)
        checks = await self._parts.pool.disk(probe_path, record.path, record.name, expected)
        wrong = next((check for check in checks if not check.ok), None)
        if wrong is not None:
            entry.reason = wrong.detail
            return checks
        await self._open(entry)
        if entry.datastore is None:
            checks.append(Check("open", ok=False, detail=entry.reason))
        return checks

    async def expire(self) -> None:
        """End sessions and readers that were silent too long, everywhere. Call it now and then."""
        for datastore in self.opened():
            await datastore.expire()

    # --- ending ---

    async def detach(self, name: str) -> None:
        """Forget a datastore; its data stays, and any server may adopt it. Raises NotFoundError, BusyError."""
        entry = self._entry(name)
        async with entry.lock:
            datastore = entry.datastore
            if datastore is not None:
                used = datastore.in_use
                if used:
                    raise BusyError(f"datastore {name} is in use by {used} tasks", hint="wait for them, or stop them")
                entry.datastore, entry.reason = None, "it was removed"
                with trio.CancelScope(shield=True):
                    with contextlib.suppress(IbsError):  # it stays ours then, and needs --takeover elsewhere
                        await self._pool.disk(datastore.store.give_up)
                    await datastore.close("it is removed")
            await self._records.remove(name)
            self._entries.pop(name, None)
        self._tell(entry, Severity.NOTICE, "datastore.removed", f"datastore {name} was removed; its data stays")

    async def close(self) -> None:
        """Close every store in order, so that the next start finds it clean. Raises nothing: what fails is told."""
        for entry in self._entries.values():
            async with entry.lock:
                datastore, entry.datastore, entry.reason = entry.datastore, None, "the server stops"
                if datastore is None:
                    continue
                try:
                    await datastore.close("the server stops")
                except IbsError as error:
                    text = f"datastore {entry.record.name} could not be closed cleanly: {error.message}"
                    self._tell(entry, Severity.WARNING, "datastore.unclean-stop", text[:1000])

    def _tell(self, entry: Entry, severity: Severity, kind: str, text: str) -> None:
        text = text[: limits.EVENT_TEXT_CHARS_MAX]
        fields = {"datastore": entry.record.name, "path": entry.record.path}
        # The guide sends people to the api log for the exact reason: it must be there whoever else listens.
        tell = _log.error if severity in (Severity.ERROR, Severity.CRITICAL) else _log.info
        tell(text, kind=kind, **fields)
        self._parts.publish(Event(self._parts.clock.now(), EventSource.DATASTORE, severity, kind, text, fields))
