"""The transports of the backup and restore pipelines without a network: the server's own files go this way.

Used by `services`. Implements ports.transport over a write session and a reader in this process; the rules are those of
the sessions themselves, so a server-run backup obeys what a client's does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from ibs.engine.datastore import Datastore
from ibs.engine.readers import Reader, ReaderObserver
from ibs.engine.session.facts import SessionObserver
from ibs.engine.session.session import WriteSession
from ibs.errors import ConflictError, UsageError
from ibs.ports.transport import NO_STAGES, Buffer
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened
from ibs.wire.session import (
    ArchiveClose,
    ArchiveClosed,
    CommitRequest,
    CommitResult,
    SessionOpen,
    SessionOpened,
    StageFigures,
    StageReport,
)

FindDatastore = Callable[[str], Awaitable[Datastore]]
"""`Datastores.get`: by name; raises NotFoundError, DatastoreOffline."""


class DirectBackupTransport:
    """One write session of the identity `auth_id`, whose rights the caller has checked. Implements BackupTransport."""

    def __init__(
        self, find: FindDatastore, auth_id: str, *, upid: str = "", observer: SessionObserver | None = None
    ) -> None:
        self._find = find
        self._auth_id = auth_id
        self._upid = upid
        self._observer = observer
        self._session: WriteSession | None = None

    @property
    def session(self) -> WriteSession:
        """The open session. Raises UsageError before `open`."""
        if self._session is None:
            raise UsageError("the session is not open")
        return self._session

    async def open(self, request: SessionOpen) -> SessionOpened:
        """Take the lease."""
        if self._session is not None:
            raise ConflictError("the session is open already")
        datastore = await self._find(request.store)
        self._session = await datastore.sessions.open(self._auth_id, request, upid=self._upid, observer=self._observer)
        return self._session.opened

    async def base_index(self, archive: str) -> bytes:
        return await self.session.base_index(archive)

    async def base_available(self, archive: str) -> bytes:
        return await self.session.base_available(archive)

    async def resumed_ids(self) -> bytes:
        return await self.session.resumed_ids()

    async def base_chunk(self, chunk_id: bytes) -> bytes:
        return await self.session.base_chunk(chunk_id)

    async def suspect(self, ids: Sequence[bytes]) -> None:
        await self.session.suspect(b"".join(ids))

    async def send(self, blobs: Sequence[Buffer]) -> None:
        await self.session.send(blobs)

    async def append(self, archive: str, first_record: int, records: Buffer) -> None:
        await self.session.append(archive, first_record, records)

    async def close_archive(self, archive: str, close: ArchiveClose) -> ArchiveClosed:
        return await self.session.close_archive(archive, close)

    async def put_blob(self, name: str, content: bytes) -> None:
        await self.session.put_blob(name, content)

    async def report(self, report: StageReport) -> None:
        await self.session.report(report)

    async def commit(self, request: CommitRequest) -> CommitResult:
        return await self.session.commit(request)

    async def abort(self, reason: str) -> None:
        await self.session.abort(reason)

    async def discard(self, reason: str) -> None:
        await self.session.abort(reason, discard=True)


class DirectRestoreTransport:
    """One reader of the identity `auth_id`. Implements RestoreTransport."""

    def __init__(
        self,
        find: FindDatastore,
        auth_id: str,
        *,
        everything: bool,
        upid: str = "",
        purpose: str = "restore",
        observer: ReaderObserver | None = None,
    ) -> None:
        """`everything`: the identity may read all groups, not only its own."""
        self._find = find
        self._auth_id = auth_id
        self._everything = everything
        self._upid = upid
        self._purpose = purpose
        self._observer = observer
        self._datastore: Datastore | None = None
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """The open reader. Raises UsageError before `open`."""
        if self._reader is None:
            raise UsageError("the reader is not open")
        return self._reader

    async def open(self, store: str, snapshot: str) -> ReaderOpened:
        """Take the read lease. `snapshot` in its full written form, or without a time for the group's newest."""
        if self._reader is not None:
            raise ConflictError("the reader is open already")
        self._datastore = await self._find(store)
        self._reader = await self._datastore.readers.open(
            self._auth_id,
            ReaderOpen(snapshot=snapshot, purpose=self._purpose),
            everything=self._everything,
            upid=self._upid,
            observer=self._observer,
        )
        return self._reader.opened

    async def file(self, name: str) -> bytes:
        return await self.reader.file(name)

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        return await self.reader.fetch(ids)

    async def close(
        self,
        status: str = "OK",
        warnings: int = 0,
        message: str = "",
        stages: Mapping[str, StageFigures] = NO_STAGES,
    ) -> None:
        """End the lease."""
        reader, datastore = self.reader, self._datastore
        assert datastore is not None  # noqa: S101 - set with the reader
        request = ReaderClose(status=status, warnings=warnings, message=message, stages=dict(stages))
        await datastore.readers.close_reader(reader.reader_id, self._auth_id, request)
