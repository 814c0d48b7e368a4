"""Snapshots made in memory, and a transport that reads them, so that restores can be tested without a server.

The archiver here is simple on purpose (fixed cuts, no threads) and shares nothing with the backup pipeline but
the core formats.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from blake3 import blake3

from ibs.core import index, limits
from ibs.core.blob import BlobEncoder
from ibs.core.ids import PLAIN_DOMAIN, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import Manifest, ManifestArchive, encode, sign
from ibs.core.tree import Entry, Extent, Kind, TreeBuilder
from ibs.errors import ChunkNotFound, IbsError, NotFoundError
from ibs.restore.tree.folders import FolderKeeper, Overwrite
from ibs.restore.tree.jobs import Item, LinkJob, SpanJob
from ibs.restore.tree.plan import TreePlanner
from ibs.restore.tree.report import RestoreReport
from ibs.restore.tree.safe_path import SafeRoot
from ibs.restore.tree.select import Selection
from ibs.restore.tree.writer import TreeWriter
from ibs.runtime.clock import SystemClock
from ibs.wire.reader import ReaderOpened

SNAPSHOT = "host/web01/2026-11-22T19:00:00Z"
STORE = "ibs-primary"
SERVER_SEED = b"s" * 32
CLOCK = SystemClock()

KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}


@dataclass
class MemorySnapshot:
    """Blobs by id, files by name, and what the manifest will say. `cut` is the chunk size of files in bytes."""

    keys: DataKeys | None = None
    cut: int = 256 * 1024
    name: str = SNAPSHOT
    sequence: int = 1
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    plain: dict[bytes, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    archives: list[ManifestArchive] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._encoder = BlobEncoder(level=1, keys=self.keys)
        self.domain = self.keys.fingerprint if self.keys else PLAIN_DOMAIN
        self._records: dict[bytes, bytes] = {}

    # --- chunks ---

    def chunk(self, data: bytes, kind: int = index.KIND_DATA) -> bytes:
        """Store a chunk, list it in the index of the archive being made, return its id."""
        chunk_id = self._encoder.identify(data)
        if chunk_id not in self.blobs:
            self.blobs[chunk_id] = bytes(self._encoder.encode(data, chunk_id))
            self.plain[chunk_id] = data
        self._records.setdefault(chunk_id, index.tree_record(chunk_id, len(data), kind))
        return chunk_id

    def extents(self, data: bytes) -> tuple[Extent, ...]:
        """`data` cut into chunks."""
        pieces = [data[at : at + self.cut] for at in range(0, len(data), self.cut)]
        return tuple(Extent(self.chunk(piece), 0, len(piece)) for piece in pieces)

    def packed(self, contents: Sequence[bytes]) -> list[tuple[Extent, ...]]:
        """Small files in common chunks, as backups pack them."""
        together = b"".join(contents)
        ids = [(at, self.chunk(together[at : at + self.cut])) for at in range(0, len(together), self.cut)]
        found, at = [], 0
        for content in contents:
            extents = []
            end = at + len(content)
            for first, chunk_id in ids:
                begin, stop = max(at, first), min(end, first + self.cut)
                if begin < stop:
                    extents.append(Extent(chunk_id, begin - first, stop - begin))
            found.append(tuple(extents))
            at = end
        return found

    # --- archives ---

    def add_tree(self, name: str, entries: Iterable[Entry]) -> None:
        """A tree archive of these entries; data chunks made since the last archive belong to it."""
        builder = TreeBuilder(lambda data: self.chunk(data, index.KIND_METADATA))
        total = 0
        for entry in entries:
            builder.add(entry)
            total += entry.size
        root = builder.finish()
        self._add(name, "tree", b"".join(self._records.values()), total, root.id, root.depth, root.entries)

    def add_tree_blocks(self, name: str, blocks: Sequence[bytes]) -> None:
        """A tree archive of one hand-made block: what no builder would write."""
        (data,) = blocks
        root = self.chunk(data, index.KIND_METADATA)
        self._add(name, "tree", b"".join(self._records.values()), 0, root, 0, 1)

    def add_folder(self, name: str, path: str | bytes) -> None:
        """A tree archive of a real folder."""
        self.add_tree(name, list(archive_folder(self, os.fsencode(path))))

    def add_image(self, name: str, data: bytes) -> None:
        """An image archive; chunks of zeros are not stored."""
        step = limits.IMAGE_CHUNK_BYTES
        records = []
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            records.append(self.chunk(piece) if piece.strip(b"\0") else index.ZERO_ID)
        self._add(name, "img", b"".join(records), len(data), index.ZERO_ID, 0, 0)

    def _add(self, name: str, kind: str, records: bytes, total: int, root: bytes, depth: int, entries: int) -> None:
        self._records = {}
        width = index.RECORD_BYTES[kind]
        header = index.IndexHeader(
            kind,
            width,
            len(records) // width,
            total,
            limits.IMAGE_CHUNK_BYTES if kind == "img" else 0,
            depth,
            self.domain,
            root,
            blake3(records).digest(),
        )
        raw = index.encode_header(header) + records
        self.files[f"{name}.idx"] = raw
        self.archives.append(
            ManifestArchive(
                name=name,
                kind=kind,  # type: ignore[arg-type]
                plain_bytes=total,
                records=header.records,
                index_bytes=len(raw),
                index_digest=blake3(raw).hexdigest(),
                entries=entries,
                key_fingerprint=hex_fingerprint(self.domain) if self.keys else "",
            )
        )

    # --- reading ---

    def manifest(self) -> Manifest:
        return Manifest(
            datastore=str(uuid.UUID(int=7)),
            snapshot=self.name,
            sequence=self.sequence,
            created="2026-11-22T19:00:00Z",
            client="web01 ironcore-backup-client 0.1",
            owner="root@ibs",
            mode="encrypted" if self.keys else "plain",
            key_fingerprint=hex_fingerprint(self.domain) if self.keys else "",
            archives=tuple(self.archives),
        )

    def transport(self) -> MemoryTransport:
        return MemoryTransport(self)


class MemoryTransport:
    """A RestoreTransport over a MemorySnapshot; records what was asked and how it was closed."""

    def __init__(self, snapshot: MemorySnapshot) -> None:
        self.snapshot = snapshot
        self.manifest_text = encode(snapshot.manifest()).decode()
        keys = snapshot.keys
        seed, by = (keys.signing_seed, "client") if keys else (SERVER_SEED, "server")
        self.signature = sign(self.manifest_text.encode(), seed, by)  # type: ignore[arg-type]
        self.fetched: list[bytes] = []
        self.requests = 0
        self.closed: tuple[str, int, str] | None = None
        self.stages: object = None
        self.replies: dict[str, str] = {}

    async def open(self, store: str, snapshot: str) -> ReaderOpened:
        assert store == STORE
        opened = {
            "reader_id": "r1",
            "upid": "UPID:test",
            "snapshot": self.snapshot.name,
            "manifest": self.manifest_text,
            "signature": self.signature.signature,
            "signer": self.signature.signer,
            **self.replies,
        }
        return ReaderOpened(**opened)

    async def file(self, name: str) -> bytes:
        try:
            return self.snapshot.files[name]
        except KeyError:
            raise NotFoundError(f"{name} is not there") from None

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        assert 0 < len(ids) <= limits.FETCH_IDS_MAX
        self.requests += 1
        self.fetched += ids
        for chunk_id in ids:
            if chunk_id not in self.snapshot.blobs:
                raise ChunkNotFound(chunk_id.hex())
        return [self.snapshot.blobs[chunk_id] for chunk_id in ids]

    async def close(self, status: str = "OK", warnings: int = 0, message: str = "", stages: object = None) -> None:
        self.closed = (status, warnings, message)
        self.stages = stages


# --- archiving a real folder ---


def archive_folder(snapshot: MemorySnapshot, root: bytes) -> Iterable[Entry]:
    """Entries of everything below `root`, in canonical order, their data in `snapshot`."""
    first_names: dict[tuple[int, int], bytes] = {}
    small: list[tuple[int, bytes]] = []
    entries: list[Entry] = []
    way: list[bytes] = [b""]
    while way:
        path = way.pop()
        full = root + b"/" + path if path else root
        found = os.lstat(full)
        entry = _entry(snapshot, full, path, found, first_names)
        if entry.kind is Kind.FILE and entry.size <= 65536 and _ranges(full, entry.size) == ((0, entry.size),):
            with open(full, "rb") as file:
                small.append((len(entries), file.read()))
        entries.append(entry)
        if entry.kind is Kind.DIR:
            names = sorted((os.fsencode(name) for name in os.listdir(full)), reverse=True)
            way += [path + b"/" + name if path else name for name in names]
    for (at, _), extents in zip(small, snapshot.packed([data for _, data in small]), strict=True):
        entries[at] = replace_extents(entries[at], extents)
    return entries


def replace_extents(entry: Entry, extents: tuple[Extent, ...]) -> Entry:
    values = {name: getattr(entry, name) for name in Entry.__struct_fields__}
    return Entry(**{**values, "extents": extents})


def _entry(
    snapshot: MemorySnapshot, full: bytes, path: bytes, found: os.stat_result, first_names: dict[tuple[int, int], bytes]
) -> Entry:
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    extents: tuple[Extent, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    link = b""
    size = 0
    if kind is not Kind.DIR and found.st_nlink > 1:
        link = first_names.setdefault((found.st_dev, found.st_ino), path)
        if link != path:
            kind = Kind.HARDLINK
        else:
            link = b""
    if kind is Kind.SYMLINK:
        link = os.readlink(full)
    elif kind is Kind.FILE:
        size = found.st_size
        ranges = _ranges(full, size)
        if ranges == ((0, size),):
            ranges = ()
            if size > 65536:
                with open(full, "rb") as file:
                    extents = snapshot.extents(file.read())
        elif ranges:
            with open(full, "rb") as file:
                extents = snapshot.extents(b"".join(os.pread(file.fileno(), n, at) for at, n in ranges))
    device = kind in (Kind.CHAR, Kind.BLOCK)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        size=size,
        inode=found.st_ino,
        xattrs=() if kind is Kind.HARDLINK else _xattrs(full),
        link=link,
        rdev=os.major(found.st_rdev) << 32 | os.minor(found.st_rdev) if device else 0,
        extents=extents,
        ranges=ranges,
    )


def _ranges(full: bytes, size: int) -> tuple[tuple[int, int], ...]:
    found = []
    fd = os.open(full, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                first = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = min(os.lseek(fd, first, os.SEEK_HOLE), size)
            found.append((first, at - first))
    finally:
        os.close(fd)
    return tuple(found)


def _xattrs(full: bytes) -> tuple[tuple[bytes, bytes], ...]:
    names = os.listxattr(full, follow_symlinks=False)
    return tuple(sorted((os.fsencode(name), os.getxattr(full, name, follow_symlinks=False)) for name in names))


class SyncRestore:
    """Planner, keeper and writer over a real folder, run in this thread: for archives that no reader would let pass."""

    def __init__(
        self,
        target: str,
        *,
        overwrite: Overwrite = Overwrite.NEVER,
        fresh: bool = True,
        resumed: bool = False,
        patterns: Sequence[str] = (),
        paths_max: int = 1000,
    ) -> None:
        os.makedirs(target, exist_ok=True)
        self.root = SafeRoot(target)
        self.report = RestoreReport(paths_max=paths_max)
        self.selection = Selection(patterns)
        self.keeper = FolderKeeper(self.root, self.report, overwrite=overwrite, fresh=fresh, resumed=resumed)
        self.writer = TreeWriter(self.keeper, nonce="0123456789abcdef", selected=self.selection)
        self.chunks: dict[bytes, bytes | IbsError] = {}
        self.planner = TreePlanner(self.keeper, self.writer, self.selection, self._lengths)
        self.unresolved: list[Item] = []

    def _lengths(self, ids: Sequence[bytes]) -> dict[bytes, int]:
        found = {each: self.chunks.get(each) for each in ids}
        return {each: len(data) if isinstance(data, bytes) else 1 for each, data in found.items() if data is not None}

    def chunk(self, data: bytes | IbsError, name: bytes = b"") -> bytes:
        """A chunk for extents to refer to."""
        chunk_id = blake3(name or (data if isinstance(data, bytes) else str(data).encode())).digest()
        self.chunks[chunk_id] = data
        return chunk_id

    def file(self, path: bytes, data: bytes = b"", **values: object) -> Entry:
        """A file entry with its data in one chunk."""
        extents = (Extent(self.chunk(data), 0, len(data)),) if data else ()
        given: dict[str, object] = {"mode": 0o644, "size": len(data), "extents": extents, "uid": os.geteuid()}
        return Entry(path=path, kind=Kind.FILE, **{**given, "gid": os.getegid(), **values})  # type: ignore[arg-type]

    def run(self, *entries: Entry) -> dict[str, list[str]]:
        """Restore, and return the paths by reason."""
        try:
            for job in itertools.chain(self.planner.plan(entries), self.planner.finish()):
                if isinstance(job, LinkJob):
                    self.unresolved += self.writer.run_links(job)
                elif isinstance(job, SpanJob):
                    self.writer.run_span(job, self.chunks)
                else:
                    self.writer.run_batch(job, self.chunks)
            self.keeper.complete()
        finally:
            self.writer.abandon()
            self.root.close()
        return {problem.reason.value: [path for path, _ in problem.paths] for problem in self.report.problems()}


def folder(path: bytes, **values: object) -> Entry:
    """A folder entry owned by whoever runs the test."""
    given: dict[str, object] = {"mode": 0o755, "uid": os.geteuid(), "gid": os.getegid(), "mtime_ns": 10**18}
    return Entry(path=path, kind=Kind.DIR, **{**given, **values})  # type: ignore[arg-type]


def at_time(snapshot: MemorySnapshot, moment: datetime) -> MemorySnapshot:
    """The same content under another time."""
    return replace(snapshot, name=f"host/web01/{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
