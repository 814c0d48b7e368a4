"""One backup being written: bodies in, index records in, then one commit. The use case behind every data path.

Used by `engine`; reached through `SessionTable`. Invariants (tests name them):

* An index names only ids this session pinned (PROTOCOLS 6), checked as records arrive.
* Each call touches the lease; a call that began is finished before the session ends (`_quiet`).
* States go OPEN → COMMITTING → COMMITTED, or back to OPEN when a commit is refused, or OPEN → INTERRUPTED.
  State changes and their book-keeping happen without an await in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

import numpy as np
import trio
from msgspec import structs
from numpy.typing import NDArray

from ibs.core import limits
from ibs.core.events import EventSource, Severity
from ibs.core.ids import ID_BYTES, digest
from ibs.core.index import IdArray
from ibs.core.names import archive_kind, check_blob_name
from ibs.engine.context import StoreContext
from ibs.engine.session import commit as committing
from ibs.engine.session.bases import Base, present
from ibs.engine.session.facts import Foreign, SessionFacts, SessionObserver, SessionState
from ibs.engine.session.ingest import Ingest
from ibs.engine.session.journal import id_array
from ibs.engine.session.opening import Prepared
from ibs.engine.session.records import GrowingIndex
from ibs.errors import BusyError, ConflictError, NotFoundError, RefusedError, SessionLost, UsageError
from ibs.ports.chunkstore import Address
from ibs.ports.transport import Buffer
from ibs.wire.session import ArchiveClose, ArchiveClosed, CommitRequest, CommitResult, StageReport


class WriteSession:
    """Made by `SessionTable.open`; its methods are those of ports.transport.BackupTransport."""

    def __init__(
        self,
        context: StoreContext,
        ready: Prepared,
        *,
        observer: SessionObserver | None,
        ended: Callable[[WriteSession], None],
    ) -> None:
        """`ended` is called once, synchronously, when the session is committed or interrupted."""
        facts = ready.facts
        self.facts = facts
        self.opened = ready.opened
        self.state = SessionState.OPEN
        self.reason = ""
        self.keep = True
        """Whether what was delivered waits for a resumption when the session ends without a snapshot."""
        self.left: SessionFacts | None = None
        self.touched = context.clock.monotonic()
        self._context = context
        self._folder = ready.folder
        self._pins = ready.pins
        self._bases = dict(ready.bases)
        self._resumed = ready.resumed
        self._observer = observer
        self._ended = ended
        self._ingest = Ingest(context, ready.pins)
        self._indexes: dict[str, GrowingIndex] = {}
        self._blobs: dict[str, committing.StagedBlob] = {}
        self._sends = trio.CapacityLimiter(limits.SESSION_SENDS_MAX)
        self._archive_locks = {archive: trio.Lock() for archive in facts.archives}
        self._blob_lock = trio.Lock()
        self._commit_lock = trio.Lock()
        self.over = trio.Event()
        self._calls = 0
        self._quiet_event = trio.Event()
        self._result: CommitResult | None = None

    @property
    def session_id(self) -> str:
        return self.facts.session_id

    @property
    def calls(self) -> int:
        """Calls in progress."""
        return self._calls

    def idle_seconds(self, now: float) -> float:
        """Since the last call began or ended; 0 while one is in progress."""
        return 0.0 if self._calls or self.state is SessionState.COMMITTING else now - self.touched

    def lose_peer(self) -> None:
        """A connection of the client broke without a farewell. Unless it is heard again, a new backup of the same
        identity may take over at once instead of waiting out the silence. For whoever serves connections.
        """
        long_ago = self._context.clock.monotonic() - limits.SESSION_SUPERSEDE_IDLE_SECONDS
        self.touched = min(self.touched, long_ago)

    # --- guard ---

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        self._require_open()
        self._calls += 1
        self.touched = self._context.clock.monotonic()
        try:
            yield
        finally:
            self._calls -= 1
            self.touched = self._context.clock.monotonic()
            if not self._calls:
                self._quiet_event.set()
                self._quiet_event = trio.Event()

    def _require_open(self) -> None:
        if self.state is SessionState.INTERRUPTED:
            raise SessionLost(f"the backup session has ended: {self.reason}")
        if self.state is SessionState.COMMITTING:
            raise BusyError("the session is being committed", hint="wait for the commit to end")
        if self.state is SessionState.COMMITTED:
            raise ConflictError("the session is committed", hint="nothing more can be added; start another backup")

    async def _quiet(self) -> None:
        """Wait until no call is in progress. New ones must be refused already."""
        while self._calls:
            await self._quiet_event.wait()

    # --- data ---

    async def send(self, blobs: Sequence[Buffer]) -> None:
        """Take whole blobs; they are received and pinned when this returns. See `send_body`."""
        await self._send(blobs)

    async def send_body(self, body: Buffer) -> int:
        """Take concatenated whole blobs; return how many there were.

        They are received and pinned when this returns. *Cancellation*: a body that is being worked on is finished;
        it is then pinned though not acknowledged. Raises FormatError, CorruptChunk, RefusedError, NoSpace.
        """
        return await self._send([body])

    async def _send(self, bodies: Sequence[Buffer]) -> int:
        with self._call():
            async with self._sends:
                self._require_open()  # it may have ended while we waited for a slot
                return await self._context.pool.disk(self._ingest.receive, bodies)

    async def append(self, archive: str, first_record: int, records: Buffer) -> None:
        """Add index records from number `first_record` on; those sent before must be the same.

        Raises UsageError on gaps, RefusedError on ids that are not pinned, ConflictError, FormatError, NoSpace.
        """
        with self._call():
            async with self._archive_lock(archive):
                self._require_open()
                await self._context.pool.disk(self._append, archive, first_record, memoryview(records).cast("B"))

    def _append(self, archive: str, first_record: int, records: memoryview) -> None:
        index = self._index(archive)
        new = index.check(first_record, records)
        if not new:
            return
        ids = index.ids(new)
        missing = self._pins.missing(ids)
        if len(missing):
            chunk = ids[missing[0]].tobytes().hex()
            raise RefusedError(
                f"archive {archive} names chunk {chunk}, which this session has not delivered",
                hint="send the chunk first; only own uploads and available chunks of the base may be named",
                chunk=chunk,
                missing=len(missing),
            )
        index.append(new)

    async def close_archive(self, archive: str, close: ArchiveClose) -> ArchiveClosed:
        """Finish an index. Idempotent. Raises UsageError when figures and records disagree."""
        with self._call():
            async with self._archive_lock(archive):
                self._require_open()
                return await self._context.pool.disk(lambda: self._index(archive).close_archive(close))

    def _archive_lock(self, archive: str) -> trio.Lock:
        lock = self._archive_locks.get(archive)
        if lock is None:
            raise UsageError(f"archive {archive!r} was not named when the session was opened")
        return lock

    def _index(self, archive: str) -> GrowingIndex:
        """The growing index, made at its first use. The caller holds the archive's lock."""
        index = self._indexes.get(archive)
        if index is None:
            index = GrowingIndex(self._folder, archive, archive_kind(archive), self.facts.domain_bytes)
            self._indexes[archive] = index
        return index

    async def put_blob(self, name: str, content: bytes) -> None:
        """A small blob of the snapshot; sending it again replaces it. Raises UsageError."""
        check_blob_name(name)
        if len(content) > limits.SNAPSHOT_BLOB_BYTES_MAX:
            raise UsageError(f"blob {name} is too long", hint=f"at most {limits.SNAPSHOT_BLOB_BYTES_MAX} bytes")
        with self._call():
            async with self._blob_lock:
                self._require_open()
                if name not in self._blobs and len(self._blobs) >= limits.SNAPSHOT_BLOBS_MAX:
                    raise UsageError("too many blobs", hint=f"a snapshot holds at most {limits.SNAPSHOT_BLOBS_MAX}")
                file = f"blob-{name}"
                await self._context.pool.disk(self._folder.write, file, bytes(content))
                self._blobs[name] = committing.StagedBlob(file, len(content), digest(content).hex())

    # --- the base ---

    async def base_index(self, archive: str) -> bytes:
        """The whole index file of `archive` in the base snapshot. Raises NotFoundError."""
        return await self.base_index_part(archive, 0, self._base(archive).view.index_bytes)

    async def base_index_part(self, archive: str, offset: int, count: int) -> bytes:
        """`count` bytes of it from `offset`, for streaming; fewer at its end."""
        base = self._base(archive)
        with self._call():
            return await self._context.pool.disk(lambda: self._folder.read(base.file, offset=offset, length=count))

    async def base_available(self, archive: str) -> bytes:
        """Bitmap over that index's records, least significant bit first: 1 = may be reused."""
        base = self._base(archive)
        with self._call():
            return base.bitmap

    async def resumed_ids(self) -> bytes:
        """Concatenated ids that interrupted sessions of this group delivered and that are still there."""
        with self._call():
            return self._resumed

    async def base_chunk(self, chunk_id: bytes) -> bytes:
        """A blob that a base index names, or that this session delivered. Raises NotFoundError, CorruptChunk."""
        with self._call():
            return await self._context.pool.disk(self._base_chunk, chunk_id)

    async def suspect(self, ids: bytes) -> None:
        """The client could not authenticate these chunks (32-byte ids): reused no more, replaced by a new body.

        The server cannot judge what is encrypted, so it believes the report as far as it does no harm: nothing is
        renamed or removed (PROTOCOLS 7). Raises UsageError, NotFoundError for chunks that this session may not read.
        """
        if not ids or len(ids) % ID_BYTES or len(ids) > limits.FETCH_IDS_MAX * ID_BYTES:
            raise UsageError(f"{len(ids)} bytes are not 1 to {limits.FETCH_IDS_MAX} ids", hint="send whole ids")
        with self._call():
            await self._context.pool.disk(self._mark_suspect, ids)

    def _mark_suspect(self, ids: bytes) -> None:
        chunks = [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]
        for chunk_id in chunks:
            self._require_known(chunk_id)
        for chunk_id in chunks:
            self._context.store.mark_suspect(Address(self.facts.domain_bytes, chunk_id))
        self._context.emit(
            EventSource.BACKUP,
            Severity.ERROR,
            "chunk.suspect",
            f"a client could not authenticate {len(chunks)} chunks of its previous snapshot, first {chunks[0].hex()}",
            snapshot=self.facts.snapshot,
            chunks=len(chunks),
        )

    def _base_chunk(self, chunk_id: bytes) -> bytes:
        self._require_known(chunk_id)
        return self._context.store.get(Address(self.facts.domain_bytes, chunk_id))

    def _require_known(self, chunk_id: bytes) -> None:
        known = len(chunk_id) == ID_BYTES and not len(self._pins.missing(id_array(chunk_id)))
        if not known:
            # The same answer whether the store has it or not: a client cannot probe (P8).
            raise NotFoundError(
                f"chunk {chunk_id.hex()} is not one this session may read",
                hint="only available chunks of the base and own uploads can be read",
            )

    def _base(self, archive: str) -> Base:
        base = self._bases.get(archive)
        if base is None:
            raise NotFoundError(f"archive {archive!r} has no base", hint="see `bases` in the answer to open")
        return base

    # --- what comes from another datastore ---

    async def adopt(self, ids: IdArray) -> NDArray[np.bool_]:
        """Promise all of these; tells which are here, good, and need not be sent. For snapshots brought from elsewhere.

        It is the caller who may read them all there: nobody learns here what others have. Raises NoSpace.
        """
        with self._call():
            return await self._context.pool.disk(self._adopt, ids)

    def _adopt(self, ids: IdArray) -> NDArray[np.bool_]:
        fresh = ids[self._pins.missing(ids)]
        if len(fresh):
            # As for what is inherited: in the journal, and told to deletions, before the store is asked.
            first = self._pins.promise(fresh)
            self._pins.inherit(first, fresh, present(self._context.store, self._pins.domain, fresh))
        usable = np.ones(len(ids), dtype=np.bool_)
        usable[self._pins.missing(ids)] = False
        return usable

    async def commit_foreign(self, foreign: Foreign) -> CommitResult:
        """As `commit`, of a manifest that was made elsewhere. Raises what `session.commit_foreign` finds wrong."""
        async with self._commit_lock:
            self._require_open()
            result = await self._conclude(lambda: committing.commit_foreign(self._context, self._staged(), foreign))
        return await self._told(result)

    # --- progress and end ---

    async def report(self, report: StageReport) -> None:
        """Pass figures and log lines on; also keeps the lease alive."""
        with self._call():
            if self._observer is not None:
                await self._observer.reported(report)

    async def commit(self, request: CommitRequest) -> CommitResult:
        """Durable and visible when it returns; the same request again gets the same answer.

        Raises what `session.commit` finds wrong; the session is open again then. *Cancellation*: before anything is
        visible it stops; once the store publishes it finishes.
        """
        async with self._commit_lock:
            if self._result is not None:
                return committing.repeated(self._result, request)
            self._require_open()
            if request.report is not None:
                await self.report(request.report)
            result = await self._conclude(lambda: committing.commit(self._context, self._staged(), request))
        return await self._told(result)

    async def _conclude(self, work: Callable[[], Awaitable[committing.Committed]]) -> CommitResult:
        """The commit itself. The caller holds the commit lock."""
        self.state = SessionState.COMMITTING
        try:
            await self._quiet()
            async with self._context.locks.of(self.facts.name.namespace, self.facts.name.group):
                done = await work()
                # From here to `_ended` there is no await: visible on disk and ended in memory are one step.
                result = self._result = structs.replace(done.result, healed_chunks=self._ingest.healed_chunks)
                self.left = done.left
                self.state = SessionState.COMMITTED
                self._end()
        finally:
            if self.state is SessionState.COMMITTING:
                self.state = SessionState.OPEN
                self.touched = self._context.clock.monotonic()
        return result

    async def _told(self, result: CommitResult) -> CommitResult:
        if result.healed_chunks:
            text = f"{result.healed_chunks} damaged or missing chunks were replaced by backup {result.snapshot}"
            self._context.emit(EventSource.DATASTORE, Severity.NOTICE, "datastore.healed", text)
        await self._tell_end(result.status, f"snapshot {result.snapshot}")
        return result

    def _staged(self) -> committing.Staged:
        return committing.Staged(
            self.facts,
            dict(self._indexes),
            dict(self._blobs),
            self._ingest.new_chunks,
            self._ingest.new_bytes,
            self._pins,
        )

    async def abort(self, reason: str, *, discard: bool = False) -> None:
        """Give the session up; what was delivered is kept for a resumption, unless it is to be discarded.

        Raises ConflictError when committed.
        """
        self._require_open()
        self.keep = not discard
        await self.interrupt(reason or "given up by the client", status="CANCELLED")

    async def interrupt(self, reason: str, *, status: str = "FAILED") -> None:
        """End an open session without a snapshot. Nothing happens to one that has ended, or is being committed."""
        if self.state is not SessionState.OPEN:
            return
        self.state = SessionState.INTERRUPTED
        self.reason = reason
        with trio.CancelScope(shield=True):  # calls in progress end soon: each is one bounded piece of pool work
            await self._quiet()
            self._end()
            await self._tell_end(status, reason)

    async def stop(self, reason: str) -> None:
        """Interrupt the session, after a commit in progress has ended one way or the other."""
        async with self._commit_lock:
            await self.interrupt(reason)
        if self.state is SessionState.INTERRUPTED:
            await self.over.wait()

    def _end(self) -> None:
        """Free what an ended session needs no more, and tell the table. No await in here."""
        self._pins.release()
        self._bases, self._indexes, self._resumed = {}, {}, b""
        self._ended(self)
        self.over.set()

    async def _tell_end(self, status: str, message: str) -> None:
        if self._observer is not None:
            with trio.CancelScope(shield=True):
                await self._observer.ended(status, message)
