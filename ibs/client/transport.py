"""The transport ports over the network: control over HTTP, chunks over the data plane.

Used by `cli` and `services.sync`. Chunks take the data plane of the same port; where a server or something between
does not let it through, they take the HTTP routes, at a lower speed and with the same rules. Both classes are async
context managers; leaving one closes its data connections and nothing else: sessions end by commit or abort, readers
by close, or by the server's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
import trio

from ibs.client.dataplane import DataPlane, Line
from ibs.client.http import ApiClient
from ibs.core import limits
from ibs.core.blob import split_blobs
from ibs.core.names import SnapshotName
from ibs.errors import FormatError, ServerUnreachable
from ibs.ports.transport import NO_STAGES, Buffer
from ibs.wire.frames import Hello
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened
from ibs.wire.session import (
    ArchiveClose,
    ArchiveClosed,
    CommitRequest,
    CommitResult,
    Received,
    SessionOpen,
    SessionOpened,
    StageFigures,
    StageReport,
)

_LONG_LINE_SECONDS = 0.05


class _Bulk:
    """The data connections of one session or reader, given up for good when the data plane cannot be had at all.

    An async context manager; outside of one no connection is made ahead of the first chunk.
    """

    def __init__(self, api: ApiClient, *, use: bool, connections: int) -> None:
        self._api = api
        self._use = use
        self._connections = connections
        self._worked = False
        self.line: Line | None = None
        """How another process would make such connections; None before `open`, or when they are not to be used."""
        self._plane: DataPlane | None = None
        self._ahead: trio.Nursery | None = None
        self._nursery = trio.open_nursery()  # noqa: TID251 - owner of the task that makes connections ahead

    async def __aenter__(self) -> Self:
        self._ahead = await self._nursery.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ahead is not None  # noqa: S101 - entered before it is left
        self._ahead.cancel_scope.cancel()
        self._ahead = None
        try:
            await self._nursery.__aexit__(None, None, None)
        finally:
            await self.close()  # outside of the scope that was just cancelled

    def open(self, answer_seconds: float, *, session_id: str = "", reader_id: str = "") -> None:
        """From now on chunks can travel. Where an answer took long the line is long: connections are made at once."""
        if not self._use:
            return
        api = self._api
        hello = Hello(authorization=api.authorization, session_id=session_id, reader_id=reader_id)
        self.line = Line(api.host, api.port, api.pins, hello)
        self._plane = DataPlane(api.host, api.port, api.pins, hello, connections=self._connections)
        if self._ahead is not None and answer_seconds > _LONG_LINE_SECONDS:
            self._ahead.start_soon(self._plane.warm)

    async def send(self, blobs: Sequence[Buffer]) -> bool:
        """Deliver; False when HTTP has to do it."""
        if self._plane is None:
            return False
        try:
            await self._plane.send(blobs)
        except ServerUnreachable:
            if self._worked:
                raise
            await self.close()  # HTTP will tell whether it is the server or only the data plane that is not there
            return False
        self._worked = True
        return True

    async def fetch(self, ids: Sequence[bytes]) -> Sequence[Buffer] | None:
        """Fetch; None when HTTP has to do it."""
        if self._plane is None:
            return None
        try:
            blobs = await self._plane.fetch(ids)
        except ServerUnreachable:
            if self._worked:
                raise
            await self.close()
            return None
        self._worked = True
        return blobs

    async def close(self) -> None:
        if self._plane is not None:
            plane, self._plane = self._plane, None
            await plane.aclose()


class HttpBackupTransport:
    """`ports.transport.BackupTransport` to a server. One session; an async context manager."""

    def __init__(self, api: ApiClient, *, data_plane: bool = True, task: str = "") -> None:
        """`task`: the session belongs to this task of the server, which was given to the caller, an agent."""
        self._api = api
        self._task = task
        self._bulk = _Bulk(api, use=data_plane, connections=limits.BACKUP_SENDERS)
        self._session = ""

    async def __aenter__(self) -> Self:
        await self._bulk.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._bulk.__aexit__(kind, error, trace)

    async def open(self, request: SessionOpen) -> SessionOpened:
        """See the port."""
        asked = trio.current_time()
        path = f"/agent/tasks/{self._task}/sessions" if self._task else f"/datastores/{request.store}/sessions"
        opened = await self._api.post(path, SessionOpened, request)
        self._session = f"/sessions/{opened.session_id}"
        self._bulk.open(trio.current_time() - asked, session_id=opened.session_id)
        return opened

    async def base_index(self, archive: str) -> bytes:
        """See the port."""
        return await self._api.octets("GET", f"{self._session}/base/{archive}")

    async def base_available(self, archive: str) -> bytes:
        """See the port."""
        return await self._api.octets("GET", f"{self._session}/available/{archive}")

    async def resumed_ids(self) -> bytes:
        """See the port."""
        return await self._api.octets("GET", f"{self._session}/resumed")

    async def base_chunk(self, chunk_id: bytes) -> bytes:
        """See the port."""
        return await self._api.octets("GET", f"{self._session}/chunks/{chunk_id.hex()}")

    async def suspect(self, ids: Sequence[bytes]) -> None:
        """See the port."""
        await self._api.octets("POST", f"{self._session}/suspects", content=b"".join(ids))

    async def send(self, blobs: Sequence[Buffer]) -> None:
        """See the port."""
        if await self._bulk.send(blobs):
            return
        answer = await self._api.octets("POST", f"{self._session}/chunks", content=b"".join(blobs))
        received = msgspec.json.decode(answer, type=Received).received
        if received != len(blobs):
            raise FormatError(f"the server received {received} chunks where {len(blobs)} were sent")

    async def append(self, archive: str, first_record: int, records: Buffer) -> None:
        """See the port."""
        path = f"{self._session}/archives/{archive}/records"
        await self._api.octets("POST", path, content=records, params={"first": first_record})

    async def close_archive(self, archive: str, close: ArchiveClose) -> ArchiveClosed:
        """See the port."""
        path = f"{self._session}/archives/{archive}/close"
        return await self._api.post(path, ArchiveClosed, close, repeat=True)

    async def put_blob(self, name: str, content: bytes) -> None:
        """See the port."""
        await self._api.octets("PUT", f"{self._session}/blobs/{name}", content=content)

    async def report(self, report: StageReport) -> None:
        """See the port. Repeated after a broken connection: a line told twice is better than a backup given up."""
        await self._api.post(f"{self._session}/report", type(None), report, repeat=True)

    async def commit(self, request: CommitRequest) -> CommitResult:
        """See the port."""
        return await self._api.post(f"{self._session}/commit", CommitResult, request, repeat=True)

    async def abort(self, reason: str) -> None:
        """See the port."""
        await self._api.delete(self._session, params={"reason": reason[: limits.MESSAGE_CHARS_MAX]})

    async def discard(self, reason: str) -> None:
        """See the port."""
        await self._api.delete(self._session, params={"reason": reason[: limits.MESSAGE_CHARS_MAX], "discard": 1})


class HttpRestoreTransport:
    """`ports.transport.RestoreTransport` to a server. One reader; an async context manager."""

    def __init__(self, api: ApiClient, *, data_plane: bool = True) -> None:
        self._api = api
        self._bulk = _Bulk(api, use=data_plane, connections=limits.RESTORE_FETCHES)
        self._reader = ""

    async def __aenter__(self) -> Self:
        await self._bulk.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._bulk.__aexit__(kind, error, trace)

    async def open(self, store: str, snapshot: str) -> ReaderOpened:
        """See the port."""
        name = SnapshotName.parse(snapshot)
        request = ReaderOpen(snapshot=str(name), namespace=str(name.namespace))
        asked = trio.current_time()
        opened = await self._api.post(f"/datastores/{store}/readers", ReaderOpened, request)
        self._reader = f"/readers/{opened.reader_id}"
        self._bulk.open(trio.current_time() - asked, reader_id=opened.reader_id)
        return opened

    def line(self) -> Line | None:
        """See `_Bulk.line`."""
        return self._bulk.line

    async def file(self, name: str) -> bytes:
        """See the port."""
        return await self._api.octets("GET", f"{self._reader}/files/{name}")

    async def fetch(self, ids: Sequence[bytes]) -> Sequence[Buffer]:
        """See the port."""
        found = await self._bulk.fetch(ids)
        if found is not None:
            return found
        body = await self._api.octets("POST", f"{self._reader}/chunks", content=b"".join(ids))
        blobs = [view for _, view in split_blobs(body)]
        if len(blobs) != len(ids):
            raise FormatError(f"the server answered {len(blobs)} chunks where {len(ids)} were asked for")
        return blobs

    async def close(
        self,
        status: str = "OK",
        warnings: int = 0,
        message: str = "",
        stages: Mapping[str, StageFigures] = NO_STAGES,
    ) -> None:
        """See the port."""
        close = ReaderClose(status=status, warnings=warnings, message=message, stages=dict(stages))
        await self._api.post(f"{self._reader}/close", type(None), close, repeat=True)
