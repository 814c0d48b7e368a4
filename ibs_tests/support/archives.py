"""Tree archives for tests: a chunk table, small valid trees, and a slow second writer made from the format's text."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from blake3 import blake3
from hypothesis import strategies as st

from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind, TreeBuilder, TreeReader, TreeRoot, path_key

FS_A = b"A" * 16
FS_B = b"B" * 16


def chunk(n: int) -> bytes:
    """A chunk id that tests can name."""
    return blake3(n.to_bytes(8, "little")).digest()


class Chunks(dict[bytes, bytes]):
    """Plaintexts by id, with what was asked for, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.emitted: list[bytes] = []
        self.fetched: list[bytes] = []

    def emit(self, data: bytes) -> bytes:
        chunk_id = blake3(data).digest()
        self[chunk_id] = data
        self.emitted.append(data)
        return chunk_id

    def fetch(self, chunk_id: bytes) -> bytes:
        self.fetched.append(chunk_id)
        return self[chunk_id]


def build(entries: Iterable[Entry]) -> tuple[Chunks, TreeRoot]:
    """The archive of these entries."""
    chunks = Chunks()
    builder = TreeBuilder(chunks.emit)
    for entry in entries:
        builder.add(entry)
    return chunks, builder.finish()


def reader(chunks: Chunks, root: TreeRoot) -> TreeReader:
    """A reader over what `build` gave."""
    return TreeReader(chunks.fetch, root.id, root.depth)


def folder(path: bytes, **values: object) -> Entry:
    return Entry(path=path, kind=Kind.DIR, mode=0o755, fs=FS_A, **values)  # type: ignore[arg-type]


def file(path: bytes, *extents: tuple[int, int, int], **values: object) -> Entry:
    """A file whose size is what its extents hold, unless given. Chunks are named by number."""
    resolved = tuple(Extent(chunk(n), offset, length) for n, offset, length in extents)
    values.setdefault("size", sum(extent.length for extent in resolved))
    return Entry(path=path, kind=Kind.FILE, mode=0o644, fs=FS_A, extents=resolved, **values)  # type: ignore[arg-type]


def every_kind() -> list[Entry]:
    """A small tree in which every field of the format is used, in canonical order."""
    acl = (b"system.posix_acl_access", b"\2\0\0\0")
    return [
        folder(b"", uid=0, mtime_ns=1_700_000_000_000_000_001, ctime_ns=1_700_000_000_000_000_002, inode=2),
        folder(b"etc", uid=4_294_967_295, gid=7, mtime_ns=-1, ctime_ns=-(2**63) + 1, inode=2**64 - 1),
        file(b"etc/fstab", (1, 0, 100), xattrs=(acl, (b"user.x", b"")), inode=11),
        file(b"etc/hosts", (1, 100, 41), flags=1, inode=12),
        Entry(path=b"etc/hosts.hard", kind=Kind.HARDLINK, fs=FS_A, inode=12, link=b"etc/hosts"),
        Entry(path=b"etc/mtab", kind=Kind.SYMLINK, mode=0o777, fs=FS_A, inode=13, link=b"../proc/self/mounts"),
        file(b"etc-old", inode=14),
        Entry(path=b"var", kind=Kind.DIR, mode=0o1777, fs=FS_B, inode=1),
        Entry(path=b"var/block", kind=Kind.BLOCK, mode=0o660, fs=FS_B, inode=2, rdev=8 << 32 | 1),
        Entry(path=b"var/char", kind=Kind.CHAR, mode=0o666, fs=FS_B, inode=3, rdev=2**64 - 1),
        Entry(path=b"var/fifo", kind=Kind.FIFO, mode=0o600, fs=FS_B, inode=4),
        file(b"var/hole", size=1 << 40, inode=5),
        Entry(path=b"var/socket", kind=Kind.SOCKET, mode=0o755, fs=FS_B, inode=6),
        file(b"var/sparse", (2, 0, 4096), (3, 7, 4097), size=1 << 41, ranges=((4096, 8000), (1 << 40, 193)), flags=2),
        file(b"var/\xff not utf-8\n", (4, 0, 4 * 1024 * 1024), (4, 0, 1), inode=8),
    ]


def reference_blocks(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Where the format's text says blocks end: each block is encoded anew after each entry. Slow on purpose."""
    blocks: list[list[Entry]] = []
    block: list[Entry] = []
    for entry in entries:
        block.append(entry)
        size = len(reference_encode(block))
        if (
            size >= limits.METADATA_BLOCK_BYTES_MAX
            or (size >= limits.METADATA_BLOCK_BYTES_MIN and zlib.crc32(entry.path) % 2048 == 2047)
            or sum(len(each.path) for each in block) >= limits.METADATA_BLOCK_PATH_BYTES_MAX
        ):
            blocks.append(block)
            block = []
    return [*blocks, block] if block else blocks


def reference_encode(block: Sequence[Entry]) -> bytes:
    """One block as MessagePack, straight from the format's text, continuations already split."""
    file_systems: list[bytes] = []
    ids: list[bytes] = []
    rows = []
    before: bytes | None = None
    for entry in block:
        continuation = entry.kind is Kind.CONTINUATION
        if not continuation and entry.fs not in file_systems:
            file_systems.append(entry.fs)
        flat = []
        for extent in entry.extents:
            if extent.id not in ids:
                ids.append(extent.id)
            flat += [ids.index(extent.id), extent.offset, extent.length]
        shared = 0
        while before is not None and before[shared : shared + 1] == entry.path[shared : shared + 1] != b"":
            shared += 1
        before = entry.path
        rows.append([
            int(entry.kind), shared, entry.path[shared:], entry.mode, entry.uid, entry.gid,
            entry.mtime_ns, entry.ctime_ns, entry.size, 0 if continuation else file_systems.index(entry.fs),
            entry.inode, entry.flags, [list(pair) for pair in entry.xattrs], entry.link, entry.rdev,
            flat, [n for pair in entry.ranges for n in pair],
        ])  # fmt: skip
    return msgspec.msgpack.encode([1, file_systems, b"".join(ids), rows])


NAMES = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"ab", b"a.", b"a!", b"a-b", b"...", b".a", b"\x01", b"\xff\xfe", b"a b\n", b"A" * 255]
    ),
    st.binary(min_size=1, max_size=6).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    ),
)
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)


@st.composite
def data_of_file(draw: st.DrawFn) -> tuple[int, tuple[Extent, ...], tuple[tuple[int, int], ...]]:
    """Size, extents and ranges that add up."""
    shape = draw(st.sampled_from(["empty", "hole", "whole", "sparse"]))
    if shape == "empty":
        return 0, (), ()
    if shape == "hole":
        return draw(st.integers(1, 2**63 - 1)), (), ()
    extents = draw(
        st.lists(
            st.builds(Extent, st.integers(0, 5).map(chunk), st.integers(0, 1000), st.integers(1, 100_000)),
            min_size=1,
            max_size=6,
        )
    )
    total = sum(extent.length for extent in extents)
    if shape == "whole":
        return total, tuple(extents), ()
    cuts = sorted(draw(st.sets(st.integers(1, total), max_size=4)) | {0, total})
    ranges, offset = [], 0
    for begin, end in pairwise(cuts):
        offset += draw(st.integers(1, 1 << 40))
        ranges.append((offset, end - begin))
        offset += end - begin
    return offset + draw(st.integers(0, 9)), tuple(extents), tuple(ranges)


@st.composite
def whole_entry(draw: st.DrawFn, path: bytes, kind: Kind, earlier: Sequence[bytes]) -> Entry:
    """An entry of this path and kind with any values that the format allows."""
    size, extents, ranges = draw(data_of_file()) if kind is Kind.FILE else (0, (), ())
    link = b""
    if kind is Kind.HARDLINK:
        link = draw(st.sampled_from(list(earlier)))
    elif kind is Kind.SYMLINK:
        link = draw(st.binary(min_size=1, max_size=9).filter(lambda target: b"\0" not in target))
    xattrs = draw(
        st.dictionaries(
            st.binary(min_size=1, max_size=4).filter(lambda name: b"\0" not in name), st.binary(max_size=4), max_size=2
        )
    )
    return Entry(
        path=path,
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(UINT32),
        gid=draw(UINT32),
        mtime_ns=draw(INT64),
        ctime_ns=draw(INT64),
        size=size,
        fs=draw(st.sampled_from([FS_A, FS_B])),
        inode=draw(UINT64),
        flags=draw(st.integers(0, 3)),
        xattrs=tuple(sorted(xattrs.items())),
        link=link,
        rdev=draw(UINT64) if kind in (Kind.CHAR, Kind.BLOCK) else 0,
        extents=extents,
        ranges=ranges,
    )


@st.composite
def trees(draw: st.DrawFn, max_entries: int = 25) -> list[Entry]:
    """A valid archive's entries in canonical order."""
    kinds: dict[bytes, Kind] = {b"": Kind.DIR}
    folders = [b""]
    for _ in range(draw(st.integers(0, max_entries - 1))):
        above = folders[draw(st.integers(0, len(folders) - 1))]
        path = (above + b"/" if above else b"") + draw(NAMES)
        if path in kinds:
            continue
        kind = draw(st.sampled_from([kind for kind in Kind if kind is not Kind.CONTINUATION]))
        kinds[path] = kind
        if kind is Kind.DIR:
            folders.append(path)
    paths = sorted(kinds, key=path_key)
    entries = []
    for n, path in enumerate(paths):
        kind = kinds[path]
        earlier = [before for before in paths[:n] if before]
        if kind is Kind.HARDLINK and not earlier:
            kind = Kind.FIFO
        entries.append(draw(whole_entry(path, kind, earlier)))
    return entries
