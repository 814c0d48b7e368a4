"""Writing metadata blocks: exact bytes, exact sizes, ends where the format says."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind, decode_block
from ibs.core.tree.block_writer import BlockWriter
from ibs.core.tree.order import common_prefix_bytes
from ibs.errors import FormatError
from ibs_tests.support.archives import FS_B, chunk, every_kind, file, reference_encode


def write(entries: list[Entry]) -> tuple[BlockWriter, list[bool]]:
    writer = BlockWriter()
    before = b""
    closes = []
    for entry in entries:
        shared = common_prefix_bytes(before, entry.path)
        closes.append(writer.add(entry, shared, entry.path[shared:]))
        before = entry.path
    return writer, closes


def test_the_block_is_what_the_format_says_byte_by_byte() -> None:
    entries = every_kind()
    writer, closes = write(entries)
    assert not any(closes)
    assert len(writer) == len(entries)
    assert writer.take() == reference_encode(entries)
    assert len(writer) == 0


def test_the_second_block_starts_with_a_whole_path_and_new_tables() -> None:
    writer, _ = write([file(b"aa", (1, 0, 1))])
    writer.take()
    second = Entry(path=b"ab", kind=Kind.FILE, size=1, fs=FS_B, extents=(Extent(chunk(2), 0, 1),))
    writer.add(second, 1, b"b")
    assert writer.first_path == b"ab"
    assert writer.take() == reference_encode([second])


@pytest.mark.parametrize("count", [1, 15, 16, 17, 300, 65_000 // 32])
def test_encoded_bytes_is_the_length_of_the_block_at_each_moment(count: int) -> None:
    entries = [
        Entry(
            path=b"%06d" % i,
            kind=Kind.FILE,
            size=1,
            fs=(i % 20).to_bytes(16, "big"),
            extents=(Extent(chunk(i % 2100), 0, 1),),
        )
        for i in range(count)
    ]
    writer, _ = write(entries)
    size = writer.encoded_bytes
    block = writer.take()
    assert size == len(block)
    assert decode_block(block) == entries
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(block)) == block, "shortest forms throughout"


def boundary_path(prefix: bytes) -> bytes:
    """A path after which a block may end."""
    return next(p for n in range(100_000) if zlib.crc32(p := prefix + b"%05d" % n) % 2048 == 2047)


def other_path(prefix: bytes) -> bytes:
    return next(p for n in range(100_000) if zlib.crc32(p := prefix + b"%05d" % n) % 2048 != 2047)


def padded(path: bytes, size: int, before: list[Entry]) -> Entry:
    """An entry that brings the block of `before` and itself to exactly `size` bytes, by its attributes."""
    room = size
    for _ in range(4):
        entry = file(path, xattrs=((b"p", bytes(room)),))
        room -= len(reference_encode([*before, entry])) - size
    return entry


@pytest.mark.parametrize(
    ("limit", "excess", "may_end", "closes"),
    [
        (limits.METADATA_BLOCK_BYTES_MIN, 0, True, True),
        (limits.METADATA_BLOCK_BYTES_MIN, -1, True, False),
        (limits.METADATA_BLOCK_BYTES_MIN, 0, False, False),
        (limits.METADATA_BLOCK_BYTES_MAX, 0, False, True),
        (limits.METADATA_BLOCK_BYTES_MAX, -1, False, False),
    ],
)
def test_blocks_end_exactly_at_the_thresholds(limit: int, excess: int, may_end: bool, closes: bool) -> None:
    before = [file(other_path(b"%d" % n), xattrs=((b"p", bytes(120_000)),)) for n in range(limit // 125_000)]
    path = boundary_path(b"z") if may_end else other_path(b"z")
    entries = [*before, padded(path, limit + excess, before)]
    writer, closed = write(entries)
    assert writer.encoded_bytes == limit + excess
    assert closed[-1] is closes


def test_a_block_ends_when_its_paths_unfold_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_BLOCK_PATH_BYTES_MAX", 9)
    _, closed = write([file(b"aaa"), file(b"aab"), file(b"aa"), file(b"b")])
    assert closed == [False, False, False, True]


def test_a_block_too_long_for_a_chunk_is_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_PLAIN_BYTES_MAX", 100)
    writer, _ = write([file(b"a" * 100)])
    with pytest.raises(FormatError):
        writer.take()


def test_the_largest_entry_fits_into_a_chunk_on_top_of_a_nearly_full_block() -> None:
    extents = tuple(Extent(chunk(i), 4_000_000, 190_000) for i in range(limits.ENTRY_EXTENTS_MAX))
    total = sum(extent.length for extent in extents)
    far = 1 << 62
    count = limits.ENTRY_RANGES_MAX
    ranges = [(far + i * (1 << 40), 1) for i in range(count - 1)]
    ranges.append((far + count * (1 << 40), total - count + 1))
    names = sorted({n.to_bytes(4, "big").lstrip(b"\0").replace(b"\0", b"\1") for n in range(1, 90_000)})
    worst = Entry(
        path=b"p" * limits.PATH_BYTES_MAX,
        kind=Kind.FILE,
        mode=0o7777,
        uid=2**32 - 1,
        gid=2**32 - 1,
        mtime_ns=-(2**62),
        ctime_ns=2**62,
        size=2**63 - 1,
        inode=2**64 - 1,
        xattrs=tuple((name, b"") for name in names)[: limits.ENTRY_XATTR_BYTES_MAX // 3],
        extents=extents,
        ranges=tuple(ranges),
    )
    writer, _ = write([worst])
    assert len(writer.take()) + limits.METADATA_BLOCK_BYTES_MAX < limits.CHUNK_PLAIN_BYTES_MAX
