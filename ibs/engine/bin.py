"""The recycle bin of a store: forget, undo, and the end after the grace (PROTOCOLS 10, 11, 14).

Used by `engine` and `services` as `Datastore.bin`. Forgetting moves a snapshot's folder by one durable rename; until
its grace has passed, by the store's own clock, it can be moved back whole, and its chunks stay. Invariants: a
protected or locked snapshot never gets here; whatever moves is announced at the gate, so that no deletion under
way misses it; nothing leaves the bin for good while the store's clock is frozen or its mode forbids pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ibs.core import limits, manifest
from ibs.core.access import owns
from ibs.core.index import IdArray
from ibs.core.manifest import MANIFEST_FILE
from ibs.core.names import SnapshotName, format_time
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.engine.references import of_snapshot
from ibs.errors import ConflictError, DatastoreReadOnly, FormatError, IbsError, NotFoundError, RefusedError
from ibs.storage.local.layout import BIN_RECORD, snapshot_folder


class BinRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`bin.json` of an entry (contrib/docs/formats.md). `forgotten`: seconds of the store's clock, `time`: RFC 3339."""

    snapshot: str
    owner: str
    forgotten: int
    time: str
    by: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class BinEntry:
    """A forgotten snapshot. `forgotten` None: its record is lost, and it stays until somebody decides."""

    entry: str
    snapshot: SnapshotName
    owner: str
    forgotten: int | None
    time: str
    by: str
    why: str
    plain_bytes: int = 0
    key: str = ""
    """Fingerprint of the key that alone can read it; "" when none is needed."""

    @property
    def due(self) -> int | None:
        """When its grace ends, in seconds of the store's clock."""
        return None if self.forgotten is None else self.forgotten + limits.BIN_GRACE_SECONDS


class Bin:
    """Made by `Datastore`. Methods raise DatastoreOffline besides what they say, and DatastoreReadOnly when they
    change something. *Cancellation*: a move that has begun is finished.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._files = context.store.bin

    # --- looking ---

    async def entries(self) -> Sequence[BinEntry]:
        """Everything in the bin, by snapshot, the latest forgotten first among equals."""
        return await self._context.pool.disk(self._entries)

    async def find(self, key: str) -> BinEntry:
        """An entry by its own name or its snapshot's; of several the one forgotten last. Raises NotFoundError."""
        found = [one for one in await self.entries() if key in (one.entry, str(one.snapshot))]
        if not found:
            raise NotFoundError(f"{key} is not in the bin", hint="list it: ironcore-backup bin list STORE")
        return found[0]

    def due(self, entry: BinEntry) -> datetime | None:
        """When the entry goes for good, by the wall clock, as things look now; None: not by itself."""
        return None if entry.due is None else self._context.time.wall(entry.due)

    async def expired(self, now: int) -> Sequence[BinEntry]:
        """Entries whose grace has passed at `now` of the store's clock."""
        return [one for one in await self.entries() if one.due is not None and one.due <= now]

    # --- moving ---

    async def put(self, name: SnapshotName, by: str, why: str = "") -> BinEntry:
        """Forget a snapshot (its name holds a time). *Durability*: durable when it returns.

        Raises NotFoundError; RefusedError when it is protected or locked; BusyError when it is damaged while chunks are
        deleted.
        """
        async with self._context.locks.of(name.namespace, name.group):
            return await self.put_held(name, by, why)

    async def put_held(self, name: SnapshotName, by: str, why: str = "") -> BinEntry:
        """As `put`, for who holds the group's lock: between what it decided and this, nothing happens to the group."""
        self._context.modes.require(Use.PRUNE)
        return await self._context.pool.disk(self._put, name, by, why)

    async def undo(self, key: str, allowed: Callable[[BinEntry], None] | None = None) -> SnapshotName:
        """Move an entry (by its name, or its snapshot's) back to its place. *Durability*: durable when it returns.

        `allowed` raises when the caller may not. Raises NotFoundError; ConflictError when a snapshot of that name
        exists, or its group belongs to another identity by now.
        """
        self._context.modes.require(Use.PRUNE)
        entry = await self.find(key)
        if allowed is not None:
            allowed(entry)
        async with self._context.locks.of(entry.snapshot.namespace, entry.snapshot.group):
            await self._context.pool.disk(self._undo, entry)
        return entry.snapshot

    async def purge(self, entry: str) -> None:
        """Remove an entry for good; its chunks go with the next garbage collection. Raises NotFoundError."""
        self._context.modes.require(Use.PRUNE)
        found = await self.find(entry)
        async with self._context.locks.of(found.snapshot.namespace, found.snapshot.group):
            await self._context.pool.disk(self._files.purge, found.entry)

    async def expire(self) -> int:
        """Remove what has been here for its grace; returns how many. Nothing while the clock or the mode forbids it."""
        time = self._context.time
        if time.frozen or not self._context.modes.allows(Use.PRUNE):
            return 0
        expired = await self.expired(time.now())
        for entry in expired:
            try:
                await self.purge(entry.entry)
            except NotFoundError:
                continue  # somebody was faster
            except DatastoreReadOnly:
                return 0  # it waits until the disk is cured
        return len(expired)

    # --- in the pool ---

    def _entries(self) -> list[BinEntry]:
        found = []
        for entry in self._files.entries():
            try:
                found.append(self._entry(entry))
            except NotFoundError:
                continue  # gone since
        return sorted(found, key=lambda one: (str(one.snapshot), -(one.forgotten or 0), one.entry))

    def _entry(self, entry: str) -> BinEntry:
        """Raises NotFoundError. What is damaged is shown as far as it can be read."""
        snapshot, owner, plain, key = SnapshotName.parse("host/unreadable"), "", 0, ""
        try:
            stated = manifest.decode(self._files.read(entry, MANIFEST_FILE))
            snapshot, owner = SnapshotName.parse(stated.snapshot), stated.owner
            plain = sum(archive.plain_bytes for archive in stated.archives)
            key = stated.key_fingerprint if stated.mode == "encrypted" else ""
        except FormatError:
            pass
        try:
            record = _decode(self._files.read(entry, BIN_RECORD, limit=limits.STATE_BYTES_MAX))
        except (NotFoundError, FormatError):
            self._files.read(entry, MANIFEST_FILE)  # raises NotFoundError when it is the entry that is gone
            return BinEntry(entry, snapshot, owner, None, "", "", "its record is lost", plain, key)
        snapshot = SnapshotName.parse(record.snapshot)
        return BinEntry(
            entry, snapshot, record.owner or owner, record.forgotten, record.time, record.by, record.why, plain, key
        )

    def _put(self, name: SnapshotName, by: str, why: str) -> BinEntry:
        context, folders = self._context, self._context.folders
        name = folders.resolve(name)
        self._check_unprotected(name)
        context.retained.check(name)
        record = BinRecord(
            snapshot=str(name),
            owner=self._owner_or_nobody(name),
            forgotten=context.time.keep(),
            time=format_time(context.clock.now()),
            by=by,
            why=why[: limits.COMMENT_CHARS_MAX],
        )
        folders.note_leaving(name)
        entry = context.new_id()
        content = msgspec.json.encode(record) + b"\n"
        with context.gate.moving(self._ids(name)):
            context.moved(context.uuid, str(name), False)
            try:
                self._files.put(snapshot_folder(name), entry, content)
            except BaseException:
                if folders.exists(name):
                    context.moved(context.uuid, str(name), True)
                raise
            finally:
                folders.forget(name)
        return self._entry(entry)

    def _check_unprotected(self, name: SnapshotName) -> None:
        try:
            protected = self._context.folders.state(name).protected
        except FormatError as error:
            raise RefusedError(
                f"whether snapshot {name} is protected cannot be told: {error.message}",
                hint=f"say so: ironcore-backup snapshot unprotect {self._context.name} {name}",
            ) from error
        if protected:
            raise RefusedError(
                f"snapshot {name} is protected",
                hint=f"first: ironcore-backup snapshot unprotect {self._context.name} {name}",
            )

    def _owner_or_nobody(self, name: SnapshotName) -> str:
        try:
            return self._context.folders.owner(name.namespace, name.group)
        except FormatError:
            return ""  # then its manifest tells

    def _ids(self, name: SnapshotName) -> list[tuple[bytes, IdArray]] | None:
        """What the snapshot refers to; None when that cannot be told."""
        try:
            return [(one.domain, one.ids) for one in of_snapshot(self._context, name) if one.domain is not None]
        except FormatError:
            return None

    def _undo(self, entry: BinEntry) -> None:
        context, folders, name = self._context, self._context.folders, entry.snapshot
        if name.time is None:
            raise FormatError(f"entry {entry.entry} of the bin does not tell which snapshot it was")
        owner = folders.owner(name.namespace, name.group)
        if owner and not owns(entry.owner or owner, owner):
            raise ConflictError(
                f"group {name.group} belongs to {owner} by now, snapshot {name} was {entry.owner}'s",
                hint="move the group of the new owner away first",
            )
        if not owner and entry.owner:
            folders.set_owner(name.namespace, name.group, entry.owner)
        # The bin is read before the snapshots, so what comes back is seen in one or the other place.
        self._files.undo(entry.entry, snapshot_folder(name))
        folders.forget(name)
        context.moved(context.uuid, str(name), True)


def _decode(data: bytes) -> BinRecord:
    """Raises FormatError."""
    try:
        record = msgspec.json.decode(data, type=BinRecord)
        SnapshotName.parse(record.snapshot)
    except (msgspec.MsgspecError, IbsError) as error:
        raise FormatError(f"{BIN_RECORD} cannot be read: {error}") from error
    return record
