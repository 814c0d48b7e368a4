"""A backup server in memory: implements the backup transport port strictly, so that a client's mistakes fail loudly.

It holds real blobs, checks every rule a real server checks on arrival (sizes, ids, pins, order), and reads snapshots
back as entries with content.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import trio

from ibs.core import index, limits
from ibs.core import manifest as manifests
from ibs.core.blob import BlobDecoder, split_blobs
from ibs.core.ids import PLAIN_DOMAIN, Address, digest, parse_fingerprint
from ibs.core.index import IndexHeader
from ibs.core.keys import DataKeys
from ibs.core.manifest import Manifest
from ibs.core.names import archive_kind, format_time
from ibs.core.tree import Entry, TreeReader
from ibs.errors import ChunkNotFound, SessionLost
from ibs.ports.transport import Buffer
from ibs.wire.session import (
    ArchiveClose,
    ArchiveClosed,
    BaseArchive,
    CommitRequest,
    CommitResult,
    LogLine,
    SessionOpen,
    SessionOpened,
    StageReport,
)


@dataclass
class Snapshot:
    """One committed snapshot."""

    name: str
    manifest: Manifest
    raw: bytes
    signature: str
    indexes: dict[str, bytes]
    blobs: dict[str, bytes]


@dataclass
class MemoryServer:
    """All state of one group. `unavailable` chunks may not be reused until they are sent again."""

    chunks: dict[Address, bytes] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    unavailable: set[bytes] = field(default_factory=set)
    resumable: set[bytes] = field(default_factory=set)
    run: int = 0
    keep: bool = True
    strict: bool = True
    uuid: str = "11111111-2222-3333-4444-555555555555"
    started: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def transport(self, **hooks: Callable[..., Any]) -> MemoryTransport:
        return MemoryTransport(self, hooks)

    def entries(self, archive: str, keys: DataKeys | None = None, snapshot: int = -1) -> list[Entry]:
        """All entries of a tree archive, checked."""
        content = self.snapshots[snapshot].indexes[archive]
        header = index.parse_header(content, file_bytes=len(content))
        index.check_records(header, content[index.HEADER_BYTES :])
        return list(TreeReader(self._plain(keys), header.root, header.depth).entries())

    def files(self, archive: str, keys: DataKeys | None = None, snapshot: int = -1) -> dict[bytes, bytes]:
        """Content of all files of a tree archive, holes filled with zeros."""
        fetch = self._plain(keys)
        found = {}
        for entry in self.entries(archive, keys, snapshot):
            data = b"".join(fetch(one.id)[one.offset : one.offset + one.length] for one in entry.extents)
            whole = bytearray(entry.size)
            at = 0
            for offset, length in entry.data_ranges():
                whole[offset : offset + length] = data[at : at + length]
                at += length
            assert at == len(data)
            found[entry.path] = bytes(whole)
        return found

    def image(self, archive: str, keys: DataKeys | None = None, snapshot: int = -1) -> Iterator[bytes]:
        """The chunks of an image archive in order; b"" for one of zeros."""
        content = self.snapshots[snapshot].indexes[archive]
        header = index.parse_header(content, file_bytes=len(content))
        index.check_records(header, content[index.HEADER_BYTES :])
        fetch = self._plain(keys)
        for one in index.record_ids(content[index.HEADER_BYTES :], 32):
            yield b"" if not one.any() else fetch(one.tobytes())

    def _plain(self, keys: DataKeys | None) -> Callable[[bytes], bytes]:
        decoder = BlobDecoder(keys=keys)
        domain = keys.fingerprint if keys else PLAIN_DOMAIN

        def fetch(chunk_id: bytes) -> bytes:
            blob = self.chunks.get(Address(domain, chunk_id))
            if blob is None:
                raise ChunkNotFound(chunk_id.hex())
            return decoder.decode(blob, want=Address(domain, chunk_id))

        return fetch


@dataclass
class MemoryTransport:
    """One write session. A hook named like a method is awaited or called before it, with the same arguments."""

    server: MemoryServer
    hooks: dict[str, Callable[..., Any]]
    opened: SessionOpened | None = None
    pinned: set[bytes] = field(default_factory=set)
    records: dict[str, bytearray] = field(default_factory=dict)
    closed: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    reports: list[StageReport] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    suspects: list[bytes] = field(default_factory=list)
    bodies: int = 0
    fetched: int = 0
    aborted: str = ""
    committed: bool = False
    request: SessionOpen | None = None
    in_call: int = 0

    @property
    def lines(self) -> list[LogLine]:
        return [line for report in self.reports for line in report.lines]

    @property
    def domain(self) -> bytes:
        assert self.request is not None
        return parse_fingerprint(self.request.key_fingerprint) if self.request.key_fingerprint else PLAIN_DOMAIN

    async def _called(self, name: str, *arguments: object) -> None:
        await trio.lowlevel.checkpoint()
        if self.aborted or self.committed:
            raise SessionLost("the session has ended")
        hook = self.hooks.get(name)
        if hook is not None:
            result = hook(*arguments)
            if result is not None:
                await result

    async def open(self, request: SessionOpen) -> SessionOpened:
        self.request = request
        await self._called("open", request)
        previous = self.server.snapshots[-1] if self.server.snapshots else None
        bases = []
        for archive in request.archives:
            if previous and archive in previous.indexes and request.use_base:
                content = previous.indexes[archive]
                header = index.parse_header(content)
                if header.domain == self.domain:
                    ids = index.record_ids(content[index.HEADER_BYTES :], header.record_bytes)
                    self.pinned |= {one.tobytes() for one in ids} - self.server.unavailable
                    bases.append(
                        BaseArchive(
                            archive=archive, snapshot=previous.name, index_bytes=len(content), records=header.records
                        )
                    )
        self.pinned |= self.server.resumable
        number = len(self.server.snapshots) + 1
        name = f"{request.group}/{format_time(self.server.started + timedelta(seconds=number))}"
        self.opened = SessionOpened(
            session_id=str(uuid.UUID(int=number)),
            upid="UPID:test",
            datastore_uuid=self.server.uuid,
            snapshot=f"ns:{request.namespace}/{name}" if request.namespace else name,
            sequence=number,
            previous_manifest_digest=digest(previous.raw).hex() if previous else "",
            bases=bases,
            base_run=self.server.run,
            resumed_chunks=len(self.server.resumable),
        )
        return self.opened

    async def base_index(self, archive: str) -> bytes:
        await self._called("base_index", archive)
        return self.server.snapshots[-1].indexes[archive]

    async def base_available(self, archive: str) -> bytes:
        await self._called("base_available", archive)
        content = self.server.snapshots[-1].indexes[archive]
        header = index.parse_header(content)
        ids = index.record_ids(content[index.HEADER_BYTES :], header.record_bytes)
        bits = np.array([one.tobytes() not in self.server.unavailable for one in ids], dtype=np.bool_)
        return np.packbits(bits, bitorder="little").tobytes()

    async def resumed_ids(self) -> bytes:
        await self._called("resumed_ids")
        return b"".join(sorted(self.server.resumable))

    async def base_chunk(self, chunk_id: bytes) -> bytes:
        await self._called("base_chunk", chunk_id)
        self.fetched += 1
        blob = self.server.chunks.get(Address(self.domain, chunk_id))
        if blob is None or chunk_id in self.server.unavailable:
            raise ChunkNotFound(chunk_id.hex())
        return blob

    async def suspect(self, ids: Sequence[bytes]) -> None:
        await self._called("suspect", ids)
        assert set(ids) <= self.pinned
        self.suspects += ids
        self.server.unavailable |= set(ids)

    async def send(self, blobs: Sequence[Buffer]) -> None:
        assert sum(len(blob) for blob in blobs) <= limits.CHUNK_BODY_BYTES_MAX
        assert 0 < len(blobs) <= limits.BODY_BLOBS_MAX
        await self._called("send", blobs)
        self.bodies += 1
        for blob in blobs:
            for header, view in split_blobs(blob):
                assert header.domain == self.domain
                assert header.id not in self.sent, "a chunk was sent twice"
                known = header.id in self.pinned and header.id not in self.server.unavailable
                assert not (known and self.server.strict), "a known chunk was sent"
                self.sent.append(header.id)
                self.pinned.add(header.id)
                self.server.unavailable.discard(header.id)
                if self.server.keep:
                    self.server.chunks[header.address] = bytes(view)

    async def append(self, archive: str, first_record: int, records: Buffer) -> None:
        await self._called("append", archive, first_record, records)
        assert self.request is not None
        assert archive in self.request.archives
        assert archive not in self.closed
        assert 0 < len(records) <= limits.RECORDS_BODY_BYTES_MAX
        kind = archive_kind(archive)
        size = index.RECORD_BYTES[kind]
        known = self.records.setdefault(archive, bytearray())
        assert first_record * size == len(known), "records with a gap"
        for one in index.record_ids(bytes(records), size):
            assert one.tobytes() in self.pinned or (kind == "img" and not one.any()), "a record names an unpinned chunk"
        known += records

    async def close_archive(self, archive: str, close: ArchiveClose) -> ArchiveClosed:
        await self._called("close_archive", archive, close)
        kind = archive_kind(archive)
        records = bytes(self.records.get(archive, b""))
        assert close.records * index.RECORD_BYTES[kind] == len(records)
        header = IndexHeader(
            kind=kind,
            record_bytes=index.RECORD_BYTES[kind],
            records=close.records,
            plain_bytes=close.plain_bytes,
            chunk_bytes=close.chunk_bytes,
            depth=close.depth,
            domain=self.domain,
            root=bytes.fromhex(close.root) if close.root else bytes(32),
            records_digest=digest(records),
        )
        content = index.encode_header(header) + records
        self.closed[archive] = content
        return ArchiveClosed(archive=archive, index_bytes=len(content), index_digest=digest(content).hex())

    async def put_blob(self, name: str, content: bytes) -> None:
        await self._called("put_blob", name, content)
        self.blobs[name] = content

    async def report(self, report: StageReport) -> None:
        await self._called("report", report)
        self.reports.append(report)

    async def commit(self, request: CommitRequest) -> CommitResult:
        await self._called("commit", request)
        assert self.opened is not None
        assert self.request is not None
        if request.report is not None:
            await self.report(request.report)
        raw = request.manifest.encode()
        manifest = manifests.decode(raw)
        assert manifest.snapshot == self.opened.snapshot
        assert {one.name: (one.index_digest, one.index_bytes) for one in manifest.archives} == {
            name: (digest(content).hex(), len(content)) for name, content in self.closed.items()
        }
        assert sorted(self.closed) == sorted(self.request.archives)
        assert {one.name: one.digest for one in manifest.blobs} == {
            name: digest(content).hex() for name, content in self.blobs.items()
        }
        self.server.snapshots.append(
            Snapshot(manifest.snapshot, manifest, raw, request.signature, dict(self.closed), dict(self.blobs))
        )
        self.server.resumable = set()
        self.server.run = manifest.run
        self.committed = True
        return CommitResult(
            snapshot=manifest.snapshot,
            manifest_digest=digest(raw).hex(),
            status="WARNING" if request.warnings else "OK",
            new_chunks=len(self.sent),
            new_bytes=sum(len(self.server.chunks.get(Address(self.domain, one), b"")) for one in self.sent),
        )

    async def abort(self, reason: str) -> None:
        await self._called("abort", reason)
        self.aborted = reason
        self.server.resumable |= set(self.sent)

    async def discard(self, reason: str) -> None:
        await self._called("discard", reason)
        self.aborted = reason
