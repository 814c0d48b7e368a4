"""Reading snapshots under a lease: the use case behind every restore.

Used by `engine`, `services` and `control` as `Datastore.readers`. PROTOCOLS 11: a read lease keeps the
chunks of the snapshot alive until it is closed or expires. A reader gives out only chunks that its snapshot's indexes
name.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import trio

from ibs.core import limits
from ibs.core.access import owns
from ibs.core.idtable import IdTable
from ibs.core.names import Namespace, SnapshotName, format_time
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.indexes import IndexFile
from ibs.engine.leases import Lease, LeaseRecord
from ibs.engine.modes import Use
from ibs.errors import (
    BusyError,
    ChunkNotFound,
    CorruptChunk,
    DatastoreReadOnly,
    IbsError,
    NotFoundError,
    RefusedError,
    SessionLost,
    UsageError,
)
from ibs.ports.chunkstore import Address
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened


class ReaderObserver(Protocol):
    """Whoever shows the reader as a task. Called after the fact; must not raise."""

    async def fetched(self, chunks: int, stored_bytes: int) -> None:
        """Chunks were given out."""
        ...

    async def ended(self, status: str, warnings: int, message: str) -> None:
        """`status` is OK, WARNING, FAILED or CANCELLED."""
        ...


@dataclass(frozen=True)
class _Part:
    """The chunks of one archive."""

    archive: str
    domain: bytes
    rows: IdTable
    held: bool


class Reader:
    """Made by `ReaderTable.open`; its methods are those of ports.transport.RestoreTransport."""

    def __init__(
        self,
        context: StoreContext,
        auth_id: str,
        stored: StoredSnapshot,
        lease: Lease,
        opened: ReaderOpened,
        *,
        observer: ReaderObserver | None,
    ) -> None:
        self.auth_id = auth_id
        self.stored = stored
        self.opened = opened
        self.touched = context.clock.monotonic()
        self.over = False
        self._context = context
        self._lease = lease
        self._observer = observer
        self._parts: list[_Part] | None = None
        self._parts_lock = trio.Lock()
        self._reads = trio.CapacityLimiter(limits.READER_READS_MAX)
        self._calls = 0
        self._why = ""

    @property
    def reader_id(self) -> str:
        return self.opened.reader_id

    def idle_seconds(self, now: float) -> float:
        """Since the last call began or ended; 0 while one is in progress."""
        return 0.0 if self._calls else now - self.touched

    async def file(self, name: str) -> bytes:
        """A file of the snapshot: `etc.tree.idx` or a blob such as `client.log`. Raises NotFoundError."""
        size = self._size_of(name)
        return await self.file_part(name, 0, size)

    async def file_part(self, name: str, offset: int, count: int) -> bytes:
        """`count` bytes of it from `offset`, for streaming; fewer at its end."""
        self._size_of(name)
        with self.held():
            return await self._context.pool.disk(self._lease.read, name, offset, count)

    def pinned(self, name: str, limit: int) -> bytes:
        """Up to `limit` bytes of a file under the lease, wherever the snapshot has been moved since. Blocks.

        Raises NotFoundError.
        """
        return self._lease.read(name, 0, limit)

    def pinned_index(self, archive: str) -> IndexFile:
        """The index of an archive under the lease. Blocks. Raises NotFoundError, FormatError."""
        return self._lease.index(archive)

    def _size_of(self, name: str) -> int:
        """Bytes of a file as the manifest lists it. Raises NotFoundError."""
        manifest = self.stored.manifest
        sizes = {f"{archive.name}.idx": archive.index_bytes for archive in manifest.archives}
        sizes.update({blob.name: blob.bytes for blob in manifest.blobs})
        if name not in sizes:
            raise NotFoundError(f"snapshot {self.stored.name} has no file {name[:128]!r}")
        return sizes[name]

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        """Blobs in the order asked, digests checked; at most FETCH_IDS_MAX, read several at once.

        Raises RefusedError for chunks the snapshot does not name; ChunkNotFound, CorruptChunk naming chunk, snapshot
        and archive. *Cancellation*: at once, except for reads under way.
        """
        return [blob async for blob in self.stream(ids)]

    async def stream(self, ids: Sequence[bytes]) -> AsyncIterator[bytes]:
        """As `fetch`, one blob after the other; at most one run of READER_RUN_BYTES and a chunk is held."""
        if not 1 <= len(ids) <= limits.FETCH_IDS_MAX:
            raise UsageError(f"{len(ids)} chunks were asked for", hint=f"ask for 1 to {limits.FETCH_IDS_MAX} at once")
        with self.held():
            places = await self._places(ids)
            while places:
                async with self._reads:
                    blobs = await self._context.pool.disk(self._read_run, places[: limits.READER_RUN_CHUNKS])
                places = places[len(blobs) :]
                if self._observer is not None:
                    await self._observer.fetched(len(blobs), sum(map(len, blobs)))
                for blob in blobs:
                    yield blob

    def _read_run(self, places: Sequence[tuple[_Part, bytes]]) -> list[bytes]:
        """The first few of `places`, at least one: a hop to a thread for each chunk would cost more than reading it."""
        blobs: list[bytes] = []
        size = 0
        for part, chunk in places:
            blobs.append(self._get(part, chunk))
            size += len(blobs[-1])
            if size >= limits.READER_RUN_BYTES:
                break
        return blobs

    def _get(self, part: _Part, chunk: bytes) -> bytes:
        try:
            return self._context.store.get(Address(part.domain, chunk))
        except (ChunkNotFound, CorruptChunk) as error:
            error.message += f" (snapshot {self.stored.name}, archive {part.archive})"
            error.details.update(snapshot=str(self.stored.name), archive=part.archive)
            raise

    async def _places(self, ids: Sequence[bytes]) -> list[tuple[_Part, bytes]]:
        """For each id the archive that names it. Raises RefusedError."""
        async with self._parts_lock:
            if self._parts is None:
                self._parts = await self._context.pool.disk(self._look_up)
        if all(part.held for part in self._parts):
            return self._find(self._parts, ids)
        return await self._context.pool.disk(self._find, self._parts, ids)

    def _find(self, parts: Sequence[_Part], ids: Sequence[bytes]) -> list[tuple[_Part, bytes]]:
        places = []
        for chunk in ids:
            part = next((part for part in parts if chunk in part.rows), None)
            if part is None:
                # The same words whether the store has it or not: nobody can probe for chunks (P8).
                raise RefusedError(
                    f"chunk {chunk.hex()} is not part of snapshot {self.stored.name}",
                    hint="a reader gives out only what its snapshot's indexes name",
                )
            places.append((part, chunk))
        return places

    def _look_up(self) -> list[_Part]:
        parts = []
        for archive in self.stored.manifest.archives:
            index = self._lease.index(archive.name)
            parts.append(_Part(archive.name, index.header.domain, index.prove().rows, index.held))
        return parts

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the lease does not expire. Raises SessionLost when it has ended."""
        if self.over:
            raise SessionLost(f"the reader has ended: {self._why}")
        self._calls += 1
        self.touched = self._context.clock.monotonic()
        try:
            yield
        finally:
            self._calls -= 1
            self.touched = self._context.clock.monotonic()

    async def end(self, request: ReaderClose) -> None:
        """Give the lease back and tell the observer. A second call does nothing. *Cancellation*: finished first."""
        if self.over:
            return
        self.over, self._why = True, request.message or f"it was closed ({request.status})"
        with trio.CancelScope(shield=True):
            # Reads under way are finished or fail; nothing they return is wrong.
            try:
                await self._context.pool.disk(self._lease.release)
            finally:
                self._context.modes.note_end()
                if self._observer is not None:
                    await self._observer.ended(request.status, request.warnings, request.message)


class ReaderTable:
    """All readers of one datastore. Its methods are called from the trio thread only."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._readers: dict[str, Reader] = {}
        self._opening = 0
        self._closing = ""

    @property
    def readers(self) -> list[Reader]:
        return list(self._readers.values())

    async def open(
        self,
        auth_id: str,
        request: ReaderOpen,
        *,
        everything: bool,
        upid: str = "",
        observer: ReaderObserver | None = None,
    ) -> Reader:
        """Take a read lease on a snapshot (without a time: the group's newest); the answer is `.opened`.

        Without `everything` only on groups the identity owns. Raises NotFoundError (also for a group of others),
        BusyError, FormatError, NoSpace, DatastoreOffline (also for maintenance).
        """
        name = SnapshotName.parse(request.snapshot, Namespace.parse(request.namespace))
        self._context.modes.require(Use.READ)
        if self._closing:
            raise BusyError(self._closing)
        if len(self._readers) + self._opening >= limits.READERS_PER_STORE_MAX:
            raise BusyError(
                f"datastore {self._context.name} has {limits.READERS_PER_STORE_MAX} readers",
                hint="wait until one of them ends",
            )
        self._opening += 1
        try:
            record = LeaseRecord(
                snapshot="",
                auth_id=auth_id,
                purpose=request.purpose[:64],
                opened=format_time(self._context.clock.now()),
                upid=upid,
            )
            reader_id = self._context.new_id()
            owner = None if everything else auth_id
            stored, lease = await self._context.pool.disk(self._take, name, owner, reader_id, record)
            opened = ReaderOpened(
                reader_id=reader_id,
                upid=upid,
                snapshot=str(stored.name),
                manifest=stored.manifest_bytes.decode(),
                signature=stored.signature.signature,
                signer=stored.signature.signer,
            )
            if self._closing:  # the datastore is being closed since; the lease goes when it is opened next
                raise BusyError(self._closing)
            if not self._context.modes.allows(Use.READ):
                await self._context.pool.disk(lease.release)
                self._context.modes.require(Use.READ)
            reader = Reader(self._context, auth_id, stored, lease, opened, observer=observer)
            self._readers[reader.reader_id] = reader
            return reader
        finally:
            self._opening -= 1

    def _take(
        self, name: SnapshotName, owner: str | None, reader_id: str, record: LeaseRecord
    ) -> tuple[StoredSnapshot, Lease]:
        """Pin first, then look: if the snapshot still exists after that, the lease protects all of it."""
        context, folders = self._context, self._context.folders
        found = folders.resolve(name)
        if owner is not None:
            whose = folders.owner(found.namespace, found.group)
            if not whose or not owns(owner, whose):
                raise NotFoundError(f"snapshot {name} not found")
        stored = folders.load(found)
        record = msgspec.structs.replace(record, snapshot=str(found))
        lease = context.leases.take(context.store, stored, reader_id, record)
        try:
            self._announce(stored, lease)
            if not folders.exists(found):
                raise NotFoundError(f"snapshot {name} was removed just now")
        except BaseException:
            lease.release()
            raise
        return stored, lease

    def _announce(self, stored: StoredSnapshot, lease: Lease) -> None:
        """A deletion under way that read the leases before us hears of our chunks at the gate."""
        if self._context.gate.busy:
            for archive in stored.manifest.archives:
                index = lease.index(archive.name)
                for ids in index.ids():
                    self._context.gate.announce(index.header.domain, ids)

    def get(self, reader_id: str, auth_id: str) -> Reader:
        """The reader of the identity that opened it. Raises SessionLost."""
        reader = self._readers.get(reader_id)
        if reader is None or reader.auth_id != auth_id:
            raise SessionLost("there is no such reader", hint="start the command again")
        return reader

    async def close_reader(self, reader_id: str, auth_id: str, request: ReaderClose) -> None:
        """End the lease. Raises SessionLost."""
        reader = self.get(reader_id, auth_id)
        del self._readers[reader_id]
        await reader.end(request)

    async def expire(self, now: float | None = None) -> None:
        """End readers that were silent too long."""
        moment = self._context.clock.monotonic() if now is None else now
        for reader in self.readers:
            idle = reader.idle_seconds(moment)
            if idle > limits.READER_IDLE_SECONDS_MAX:
                self._readers.pop(reader.reader_id, None)
                await reader.end(ReaderClose(status="FAILED", message=f"no request for {int(idle)} seconds"))

    async def recover(self) -> int:
        """After the store was opened: leases of the last run protect nobody any more. Returns how many went."""

        def remove() -> int:
            names = self._context.store.leases.names()
            with contextlib.suppress(DatastoreReadOnly):  # nothing can be deleted there, so nothing is kept too long
                for name in names:
                    self._context.store.leases.remove(name)
            return len(names)

        return await self._context.pool.disk(remove)

    async def close(self, reason: str = "the server stops") -> None:
        """End every reader and take no new ones. Call before the store is closed."""
        self._closing = f"datastore {self._context.name} takes no readers: {reason}"
        await self.end_all(reason)

    async def end_all(self, reason: str) -> None:
        """End every reader; new ones may be opened."""
        for reader in self.readers:
            self._readers.pop(reader.reader_id, None)
            with contextlib.suppress(IbsError):  # a lease that stays behind goes when the store is opened next
                await reader.end(ReaderClose(status="FAILED", message=reason))
