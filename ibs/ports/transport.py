"""How the backup and restore pipelines reach a datastore: over TLS (client) or in process (the server's own files).

Implemented by `client` (HTTP) and `engine` (direct). All methods raise errors of `ibs.errors` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from ibs.wire.reader import ReaderOpened
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

Buffer = bytes | bytearray | memoryview
NO_STAGES: Final[Mapping[str, StageFigures]] = MappingProxyType({})


class BackupTransport(Protocol):
    """One write session. Methods may be called from several tasks at once, `commit` last."""

    async def open(self, request: SessionOpen) -> SessionOpened:
        """Take the lease. Raises KeyNotRegistered, NotAuthorised, DatastoreOffline, BusyError, NoSpace."""
        ...

    async def base_index(self, archive: str) -> bytes:
        """The whole index file of `archive` in the base snapshot (see SessionOpened.bases)."""
        ...

    async def base_available(self, archive: str) -> bytes:
        """Bitmap over that index's records, least significant bit first: 1 = may be reused."""
        ...

    async def resumed_ids(self) -> bytes:
        """Concatenated 32-byte ids that an interrupted session of this group already delivered; reusable."""
        ...

    async def base_chunk(self, chunk_id: bytes) -> bytes:
        """A blob that a base index names (metadata blocks of the previous snapshot)."""
        ...

    async def suspect(self, ids: Sequence[bytes]) -> None:
        """Report chunks (at most FETCH_IDS_MAX) of a base that came whole and yet are not what they should be.

        They are reused no more and a new body replaces them; nothing is removed. Raises NotFoundError.
        """
        ...

    async def send(self, blobs: Sequence[Buffer]) -> None:
        """Deliver whole blobs, together at most CHUNK_BODY_BYTES_MAX. Returns when they are received and pinned."""
        ...

    async def append(self, archive: str, first_record: int, records: Buffer) -> None:
        """Append index records, idempotent by `first_record` (counted in records). Every id must be pinned."""
        ...

    async def close_archive(self, archive: str, close: ArchiveClose) -> ArchiveClosed:
        """Finish an index; no more records may follow. The caller compares the digest with its own."""
        ...

    async def put_blob(self, name: str, content: bytes) -> None:
        """A small blob of the snapshot, such as `client.log`."""
        ...

    async def report(self, report: StageReport) -> None:
        """Progress, stage figures and log lines for the task; also keeps the lease alive."""
        ...

    async def commit(self, request: CommitRequest) -> CommitResult:
        """Durable and visible when it returns."""
        ...

    async def abort(self, reason: str) -> None:
        """Give the session up; what was delivered is kept for a resumption."""
        ...

    async def discard(self, reason: str) -> None:
        """Give the session up for good: the server removes soon what only it delivered."""
        ...


class RestoreTransport(Protocol):
    """Read one snapshot under a read lease."""

    async def open(self, store: str, snapshot: str) -> ReaderOpened:
        """Take the read lease. `snapshot` without a time is the group's newest."""
        ...

    async def file(self, name: str) -> bytes:
        """A file of the snapshot: `etc.tree.idx`, `disk.img.idx` or a blob."""
        ...

    async def fetch(self, ids: Sequence[bytes]) -> Sequence[Buffer]:
        """Blobs in the order asked, at most FETCH_IDS_MAX, each the caller's. Raises ChunkNotFound, CorruptChunk."""
        ...

    async def close(
        self,
        status: str = "OK",
        warnings: int = 0,
        message: str = "",
        stages: Mapping[str, StageFigures] = NO_STAGES,
    ) -> None:
        """End the lease and the restore task; `stages`: where it spent its time."""
        ...
