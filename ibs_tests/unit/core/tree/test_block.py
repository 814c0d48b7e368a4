"""Decoding metadata blocks, above all hostile ones: refused, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind, decode_block
from ibs.core.tree.block import iter_block, parse_block
from ibs.core.tree.entry import path_key
from ibs.errors import FormatError
from ibs_tests.support.archives import FS_A, FS_B, chunk, every_kind, file, folder, reference_encode

FIELDS = [
    "kind",
    "shared",
    "suffix",
    "mode",
    "uid",
    "gid",
    "mtime",
    "ctime",
    "size",
    "fs",
    "inode",
    "flags",
    "xattrs",
    "link",
    "rdev",
    "extents",
    "ranges",
]


def row(path: bytes, kind: int = 0, shared: int = 0, **fields: Any) -> list[Any]:
    """An entry as stored, by field name."""
    values = [kind, shared, path, 0 if kind == 8 else 0o644, 0, 0, 0, 0, 0, 0, 0, 0, [], b"", 0, [], []]
    for name, value in fields.items():
        values[FIELDS.index(name)] = value
    return values


def block(*rows: list[Any], ids: bytes = chunk(1) + chunk(2), version: Any = 1) -> bytes:
    return msgspec.msgpack.encode([version, [FS_A, FS_B], ids, list(rows)])


def full(first: int = 0) -> list[int]:
    """Exactly as many extents as an entry may hold, one byte each."""
    return [n for i in range(limits.ENTRY_EXTENTS_MAX) for n in (first, 2 * i, 1)]


def test_a_block_with_everything_is_read_back() -> None:
    entries = every_kind()
    assert decode_block(reference_encode(entries)) == entries


def test_fields_that_later_versions_append_are_ignored() -> None:
    longer = [1, [FS_A], b"", [[*row(b"a"), "new", {"x": [1, 2]}]], "more", None]
    assert [entry.path for entry in decode_block(msgspec.msgpack.encode(longer))] == [b"a"]


def test_reading_from_a_place_on_leaves_out_what_is_before() -> None:
    parsed = parse_block(reference_encode(every_kind()))
    assert [entry.path for entry in iter_block(parsed, path_key(b"var/fif"))][:2] == [b"var/fifo", b"var/hole"]
    assert list(iter_block(parsed, path_key(b"zzz"))) == []


def test_continuations_are_given_as_they_are_stored() -> None:
    size = limits.ENTRY_EXTENTS_MAX + 3
    first, second = decode_block(
        block(row(b"big", size=size, flags=5, extents=full()), row(b"", 8, 3, extents=[1, 0, 3]))
    )
    assert (first.kind, first.flags, len(first.extents)) == (Kind.FILE, 5, limits.ENTRY_EXTENTS_MAX)
    assert second == Entry(path=b"big", kind=Kind.CONTINUATION, extents=(Extent(chunk(2), 0, 3),))
    alone = decode_block(block(row(b"big", 8, extents=[1, 0, 3]), row(b"c", 1)))
    assert [entry.kind for entry in alone] == [Kind.CONTINUATION, Kind.DIR]


ONE = [0, 0, 5]
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no array": msgspec.msgpack.encode({"a": 1}),
    "cut short": block(row(b"a"))[:-1],
    "trailing bytes": block(row(b"a")) + b"\0",
    "version 2": block(row(b"a"), version=2),
    "version true": block(row(b"a"), version=True),
    "version text": block(row(b"a"), version="1"),
    "no entries": block(),
    "too few items": msgspec.msgpack.encode([1, [], b""]),
    "node instead": msgspec.msgpack.encode([1, 1, [[b"", chunk(1), 1, 1]]]),
    "file system of 15 bytes": msgspec.msgpack.encode([1, [FS_A[:15]], b"", [row(b"a")]]),
    "file systems no array": msgspec.msgpack.encode([1, FS_A, b"", [row(b"a")]]),
    "ids not of 32": block(row(b"a"), ids=bytes(33)),
    "ids as text": msgspec.msgpack.encode([1, [FS_A], "x" * 32, [row(b"a")]]),
    "entry too short": block(row(b"a")[:-1]),
    "entry of another type": msgspec.msgpack.encode([1, [FS_A], b"", [b"a"]]),
    "kind 9": block(row(b"a", 9)),
    "kind -1": block(row(b"a", -1)),
    "kind text": block(row(b"a", "0")),  # type: ignore[arg-type]
    "first shares": block(row(b"a", shared=1)),
    "shares more than there is": block(row(b"a"), row(b"c", shared=2)),
    "shares 2^63": block(row(b"a"), row(b"c", shared=2**63)),
    "shares less than it could": block(row(b"ab"), row(b"ac")),
    "shares -1": block(row(b"a"), row(b"c", shared=-1)),
    "path twice": block(row(b"a"), row(b"", shared=1)),
    "order": block(row(b"b"), row(b"a")),
    "order at a slash": block(row(b"a", 1), row(b"!", shared=1), row(b"/b", shared=1)),
    "child of a file": block(row(b"a"), row(b"/b", shared=1)),
    "child of a link": block(row(b"a", 2, link=b"/etc"), row(b"/passwd", shared=1)),
    "folder missing": block(row(b"a", 1), row(b"/b/c", shared=1)),
    "absolute": block(row(b"/a")),
    "dot": block(row(b"a/./b")),
    "dot dot": block(row(b"..")),
    "dot dot later": block(row(b"a", 1), row(b"/..", shared=1)),
    "dot dot by suffix": block(row(b"a/.!"), row(b".", shared=3)),
    "double slash": block(row(b"a//b")),
    "trailing slash": block(row(b"a/")),
    "NUL": block(row(b"a\0")),
    "NUL later": block(row(b"a"), row(b"b\0")),
    "path too long": block(row(b"x" * (limits.PATH_BYTES_MAX + 1))),
    "path grown too long": block(row(b"x" * limits.PATH_BYTES_MAX), row(b"x", shared=limits.PATH_BYTES_MAX)),
    "mode": block(row(b"a", mode=0o10000)),
    "uid": block(row(b"a", uid=2**32)),
    "gid": block(row(b"a", gid=-1)),
    "mtime": block(row(b"a", mtime=2**63)),
    "ctime": block(row(b"a", ctime=-(2**63))),
    "mtime a float": block(row(b"a", mtime=1.5)),
    "size": block(row(b"a", size=2**63)),
    "size negative": block(row(b"a", size=-1)),
    "file system out of range": block(row(b"a", fs=2)),
    "inode negative": block(row(b"a", inode=-1)),
    "flags": block(row(b"a", flags=8)),
    "xattrs unsorted": block(row(b"a", xattrs=[[b"b", b""], [b"a", b""]])),
    "xattr of three": block(row(b"a", xattrs=[[b"b", b"", b""]])),
    "xattrs too big": block(row(b"a", xattrs=[[b"b", bytes(limits.ENTRY_XATTR_BYTES_MAX)]])),
    "link of a file": block(row(b"a", link=b"b")),
    "symlink without target": block(row(b"a", 2)),
    "hard link forwards": block(row(b"a", 3, link=b"b")),
    "hard link outside": block(row(b"a", 3, link=b"../../etc/shadow")),
    "device number of a file": block(row(b"a", rdev=1)),
    "device number negative": block(row(b"a", 4, rdev=-1)),
    "extents not in threes": block(row(b"a", size=5, extents=[0, 0])),
    "extents of four": block(row(b"a", size=5, extents=[*ONE, 0])),
    "chunk out of range": block(row(b"a", size=5, extents=[2, 0, 5])),
    "chunk out of range among several": block(row(b"a", size=10, extents=[*ONE, 2, 0, 5])),
    "chunk negative": block(row(b"a", size=5, extents=[-1, 0, 5])),
    "extent of nothing": block(row(b"a", size=5, extents=[*ONE, 0, 0, 0])),
    "extent past the chunk": block(row(b"a", size=5, extents=[0, limits.CHUNK_PLAIN_BYTES_MAX - 4, 5])),
    "extent of 2^63": block(row(b"a", size=5, extents=[0, 0, 2**63])),
    "extents short": block(row(b"a", size=6, extents=ONE)),
    "extents long": block(row(b"a", size=4, extents=ONE)),
    "extents of an empty file": block(row(b"a", extents=ONE)),
    "extents of a folder": block(row(b"a", 1, extents=ONE)),
    "size of a folder": block(row(b"a", 1, size=5)),
    "too many extents": block(row(b"a", size=limits.ENTRY_EXTENTS_MAX + 1, extents=[*full(), 1, 0, 1])),
    "ranges not in pairs": block(row(b"a", size=5, extents=ONE, ranges=[0, 5, 6])),
    "ranges not ascending": block(row(b"a", size=9, extents=ONE, ranges=[4, 3, 0, 2])),
    "ranges touching": block(row(b"a", size=9, extents=ONE, ranges=[0, 3, 3, 2])),
    "range past the end": block(row(b"a", size=9, extents=ONE, ranges=[5, 5])),
    "range of nothing": block(row(b"a", size=9, extents=ONE, ranges=[0, 5, 7, 0])),
    "ranges that wrap": block(row(b"a", size=9, extents=ONE, ranges=[2**63 - 1, 2**63 - 1])),
    "ranges other than extents": block(row(b"a", size=9, extents=ONE, ranges=[0, 6])),
    "ranges without extents": block(row(b"a", size=9, ranges=[0, 5])),
    "continuation of nothing": block(row(b"a", size=5, extents=ONE), row(b"", 8, 1, extents=ONE)),
    "continued by nothing": block(row(b"a", size=9999, flags=4, extents=full()), row(b"b")),
    "continued while not full": block(row(b"a", size=9, flags=4, extents=ONE), row(b"", 8, 1, extents=ONE)),
    "continued although complete": block(
        row(b"a", size=limits.ENTRY_EXTENTS_MAX, flags=4, extents=full()), row(b"", 8, 1, extents=ONE)
    ),
    "continued folder with a size": block(row(b"a", 1, size=9999, flags=4, extents=full())),
    "continued folder": block(row(b"a", 1, flags=4, extents=full())),
    "continuation with another path": block(
        row(b"a", size=9999, flags=4, extents=full()), row(b"b", 8, 1, extents=ONE)
    ),
    "continuation sharing less": block(row(b"a", size=9999, flags=4, extents=full()), row(b"a", 8, 0, extents=ONE)),
    "continuation without extents": block(row(b"a", 8)),
    "continuation with a mode": block(row(b"a", 8, mode=1, extents=ONE)),
    "continuation with ranges": block(row(b"a", 8, extents=ONE, ranges=[0, 5])),
    "continuation with flags": block(row(b"a", 8, extents=ONE, flags=1)),
    "continuation not full": block(row(b"a", 8, extents=ONE, flags=4)),
    "continuation past a chunk": block(row(b"a", 8, extents=[0, 0, limits.CHUNK_PLAIN_BYTES_MAX + 1])),
    "too long for a chunk": b"\x94\x01\x90\xc6\x00\x40\x00\x00" + bytes(limits.CHUNK_PLAIN_BYTES_MAX),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_blocks_are_refused(what: str) -> None:
    with pytest.raises(FormatError):
        decode_block(HOSTILE[what])


def _head(entries: bytes) -> bytes:
    return b"\x94\x01\x91\xc4\x10" + FS_A + b"\xc4\x20" + chunk(1) + entries


def _entry(extents: bytes, ranges: bytes = b"\x90", xattrs: bytes = b"\x90") -> bytes:
    return b"\xdc\x00\x11" + b"\0\0\xc4\x01a" + b"\0" * 9 + xattrs + b"\xc4\0\0" + extents + ranges


def _unfolding() -> bytes:
    """30,000 short suffixes on one path of 200 kB: 6 GB when unfolded."""
    names = [b"%05d" % i for i in range(30_000)]
    deep = b"d" * 200_000
    rows = [row(deep, 1)]
    for before, name in zip([b"", *names], names, strict=False):
        shared = next((i for i in range(5) if before[i : i + 1] != name[i : i + 1]), 5)
        rows.append(row(name[shared:] if before else b"/" + name, shared=200_001 + shared if before else 200_000))
    return block(*rows)


HUGE = b"\xdd\xff\xff\xff\xff"
BOMBS: dict[str, Callable[[], bytes]] = {
    "count of file systems": lambda: b"\x94\x01" + HUGE,
    "length of ids": lambda: b"\x94\x01\x90\xc6\xff\xff\xff\xff",
    "count of entries": lambda: _head(HUGE),
    "count of extents": lambda: _head(b"\x91" + _entry(HUGE)),
    "count of ranges": lambda: _head(b"\x91" + _entry(b"\x90", HUGE)),
    "count of xattrs": lambda: _head(b"\x91" + _entry(b"\x90", b"\x90", HUGE)),
    "map of 2^32": lambda: b"\xdf\xff\xff\xff\xff",
    "nesting": lambda: b"\x91" * limits.CHUNK_PLAIN_BYTES_MAX,
    "nesting in a trailing field": lambda: (
        block(row(b"a"))[:1].replace(b"\x94", b"\x95") + block(row(b"a"))[1:] + b"\x91" * 1_000_000
    ),
    "more entries than a block can have": lambda: _head(
        b"\xdd" + (70_000).to_bytes(4, "big") + _entry(b"\x90") * 70_000
    ),
    "paths that unfold to gigabytes": _unfolding,
}


@pytest.mark.parametrize("what", BOMBS)
def test_bombs_are_refused_in_bounded_memory(what: str) -> None:
    data = BOMBS[what]()
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            decode_block(data)
        assert tracemalloc.get_traced_memory()[1] < 128 * limits.MIB
    finally:
        tracemalloc.stop()


def test_a_folder_with_long_paths_still_fits() -> None:
    deep = b"/".join([b"d" * 250] * 40)
    entries = [folder(deep), *(file(deep + b"/%04d" % i) for i in range(100))]
    assert decode_block(reference_encode(entries)) == entries
