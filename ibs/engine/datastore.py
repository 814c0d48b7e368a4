"""One open datastore: its store, snapshots, sessions and readers, from opening to closing.

Used by `engine.datastores`, which makes it, and by `services` through `Datastores.get`.
"""

from __future__ import annotations

from ibs.core.events import EventSource, Severity
from ibs.core.names import Namespace, SnapshotName
from ibs.engine.bin import Bin
from ibs.engine.context import StoreContext
from ibs.engine.gc.collector import GarbageCollector
from ibs.engine.gc.record import read as read_gc_record
from ibs.engine.modes import Mode, Use
from ibs.engine.namespaces import Namespaces
from ibs.engine.readers import ReaderTable
from ibs.engine.retention import Retention
from ibs.engine.schedules import Schedules
from ibs.engine.session.discard import Discarded, find_unreferenced
from ibs.engine.session.table import SessionTable
from ibs.engine.snapshots import SnapshotCatalog
from ibs.engine.usage import fills_on, note_day, usage
from ibs.errors import DatastoreReadOnly, FormatError, NoSpace, NotFoundError
from ibs.ports.chunkstore import Address
from ibs.storage.local import LocalStore
from ibs.wire.datastore import DatastoreStats, UsageRow


class Datastore:
    """`store` is the chunk store; `snapshots`, `sessions` and `readers` the use cases on it."""

    def __init__(self, context: StoreContext) -> None:
        self.context = context
        self.name = context.name
        self.uuid = context.uuid
        self.store: LocalStore = context.store
        self.snapshots = SnapshotCatalog(context)
        self.sessions = SessionTable(context)
        self.readers = ReaderTable(context)
        self.bin = Bin(context)
        self.gc = GarbageCollector(context, self.bin)
        self.retention = Retention(context)
        self.schedules = Schedules(context)
        self.namespaces = Namespaces(context, self.bin)

    @property
    def in_use(self) -> int:
        """Sessions, readers and other work under way."""
        return len(self.sessions.open_sessions) + len(self.readers.readers) + self.context.modes.uses

    @property
    def status(self) -> tuple[str, str]:
        """`online`, `read-only`, `quarantined` or `offline`, and why. What the disk refuses comes before its mode."""
        status, reason = self.store.status
        modes = self.context.modes
        if status == "online" and modes.mode is not Mode.NORMAL:
            return modes.mode.value, modes.reason
        return status, reason

    async def recover(self) -> None:
        """Call once after opening, before anything else: sessions of the last run become interrupted, leases go."""
        await self.context.pool.disk(self.context.time.load)
        await self.sessions.recover()
        await self.readers.recover()

    async def expire(self) -> None:
        """End what was silent too long. Call it now and then."""
        await self.sessions.expire()
        await self.readers.expire()
        await self.context.pool.disk(note_day, self.context)
        await self.keep_time()
        await self.bin.expire()
        await self.gc.expire()

    async def keep_time(self) -> None:
        """Remember the store's clock now and then; tell when it has come to stand still."""
        context = self.context
        try:
            froze = await context.pool.disk(context.time.keep_sometimes)
        except (DatastoreReadOnly, NoSpace):
            return  # nothing expires there, and a later start believes less
        if froze:
            text = f"nothing expires in {self.name}: {context.time.frozen}"
            context.emit(EventSource.DATASTORE, Severity.ERROR, "datastore.clock-frozen", text)

    async def cleanup(self) -> Discarded:
        """Remove what interrupted sessions left behind. Raises FormatError when a reference cannot be read."""
        return await self.sessions.cleanup()

    async def find_unreferenced(self) -> list[Address]:
        """Chunks that nothing refers to, by a full mark of the store."""
        return await self.context.pool.disk(find_unreferenced, self.context)

    async def stats(self) -> DatastoreStats:
        """Figures for `datastore stats`. Raises DatastoreOffline."""
        return await self.context.pool.disk(self._stats)

    async def usage(self, by: str) -> list[UsageRow]:
        """What each group or namespace takes; reads every index. Raises UsageError, DatastoreOffline."""
        with self.context.modes.using(Use.READ):
            return await self.context.pool.disk(usage, self.context, by)

    def _stats(self) -> DatastoreStats:
        counts, space = self.store.counts(), self.store.space()
        trash, seen = self.store.trash(), read_gc_record(self.context).seen
        frozen, now = self.context.time.frozen, self.context.time.now()
        due = [one for one in trash if not frozen and (until := self.gc.trash.until(one)) is not None and until <= now]
        growth, fills = fills_on(note_day(self.context))
        groups, snapshots, plain = self._totals()
        return DatastoreStats(
            name=self.name,
            status=self.status[0],
            mode=self.context.modes.mode.value,
            bytes_total=space.bytes_total,
            bytes_free=space.bytes_free,
            inodes_total=space.inodes_total,
            inodes_free=space.inodes_free,
            quota=space.quota,
            quota_bytes_free=space.quota_bytes_free,
            quota_bytes_total=space.quota_bytes_total,
            quota_inodes_free=space.quota_inodes_free,
            quota_inodes_total=space.quota_inodes_total,
            chunks=counts.chunks,
            chunk_bytes=counts.stored_bytes,
            bad_chunks=counts.bad,
            received_chunks=counts.received,
            groups=groups,
            snapshots=snapshots,
            plain_bytes=plain,
            dedup_ratio=round(plain / counts.stored_bytes, 3) if counts.stored_bytes else 0.0,
            open_sessions=len(self.sessions.open_sessions),
            interrupted_sessions=len(self.sessions.interrupted_sessions),
            trash_chunks=sum(one.chunks for one in trash),
            trash_bytes=sum(one.bytes for one in trash),
            trash_due_chunks=sum(one.chunks for one in due),
            trash_due_bytes=sum(one.bytes for one in due),
            unreferenced_chunks=seen.chunks if seen is not None else None,
            unreferenced_bytes=seen.bytes if seen is not None else None,
            unreferenced_as_of=seen.time if seen is not None else "",
            reclaimable_bytes=sum(one.bytes for one in trash) + (seen.bytes if seen is not None else 0),
            growth_bytes_per_day=growth,
            fills_on=fills,
        )

    def _totals(self) -> tuple[int, int, int]:
        """Groups, snapshots, and the bytes these would take without deduplication and compression."""
        groups: set[tuple[Namespace, str]] = set()
        snapshots = plain = 0
        for name in self.context.folders.every():
            groups.add((name.namespace, str(name.group)))
            snapshots += 1
            plain += self._plain_bytes(name)
        return len(groups), snapshots, plain

    def _plain_bytes(self, name: SnapshotName) -> int:
        try:
            stored = self.context.folders.load(name)
        except (FormatError, NotFoundError):
            return 0
        return sum(archive.plain_bytes for archive in stored.manifest.archives)

    async def snapshot_count(self) -> int:
        """How many snapshots there are."""
        return await self.context.pool.disk(lambda: sum(1 for _ in self.context.folders.every()))

    async def close(self, reason: str, *, clean: bool = True) -> None:
        """End sessions and readers, then the store. With `clean` False nothing is written to it any more."""
        await self.sessions.close(reason)
        await self.readers.close(reason)
        await self.context.pool.disk(lambda: self.store.close(clean=clean))
