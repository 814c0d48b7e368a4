"""What one path of a tree archive is: kind, metadata, and where its bytes lie (formats.md section 4.2 and 4.4).

Pure; imported by `core.tree`'s other modules and, through the package, by sources, restore, client and engine.
An `Entry` holds chunk ids, never block-local numbers, so it is free to move from an old archive to a new one.
Invariant: whatever `check_entry` passes, the writer writes and every reader reads back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from ibs.core import limits
from ibs.errors import FormatError

ID_BYTES: Final = 32
FS_BYTES: Final = 16
NO_FS: Final = bytes(FS_BYTES)

FLAG_RACY: Final = 1
"""Read again next time: it may have changed in the same clock tick in which it was looked at."""
FLAG_INCOMPLETE: Final = 2
"""Changed or failed while it was read."""
FLAG_CONTINUED: Final = 4
"""The next entry goes on with its extents. Seen in blocks only; whole entries never have it."""

INT63_MAX: Final = (1 << 63) - 1
UINT32_MAX: Final = (1 << 32) - 1
UINT64_MAX: Final = (1 << 64) - 1


class Kind(IntEnum):
    """File types, as numbered in the format."""

    FILE = 0
    DIR = 1
    SYMLINK = 2
    HARDLINK = 3
    CHAR = 4
    BLOCK = 5
    FIFO = 6
    SOCKET = 7
    CONTINUATION = 8


class Extent(NamedTuple):
    """`length` bytes from `offset` in the plaintext of the chunk `id`."""

    id: bytes
    offset: int
    length: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One path with its metadata. Times in ns since 1970; sizes, offsets and lengths in bytes.

    `extents` together are the bytes of the data ranges in order. `ranges` empty means one range over the whole
    file when there are extents, and no data at all (one hole of `size` bytes) when there are none.
    """

    path: bytes
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    size: int = 0
    fs: bytes = NO_FS
    inode: int = 0
    flags: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    link: bytes = b""
    rdev: int = 0
    extents: tuple[Extent, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> bytes:
        """Last component of the path; empty for the root."""
        return self.path.rpartition(b"/")[2]

    @property
    def racy(self) -> bool:
        """Must be read again next time."""
        return bool(self.flags & FLAG_RACY)

    @property
    def incomplete(self) -> bool:
        """Changed or failed while it was read."""
        return bool(self.flags & FLAG_INCOMPLETE)

    def data_ranges(self) -> tuple[tuple[int, int], ...]:
        """(offset, length) of every stretch with data, the short forms written out."""
        if self.ranges:
            return self.ranges
        return ((0, self.size),) if self.extents else ()


def path_key(path: bytes) -> bytes:
    """Sort key of the canonical order: bytewise with `/` below every other byte, so a folder precedes what is in it."""
    return path.replace(b"/", b"\0")


def after_subtree(path: bytes) -> bytes:
    """A place to seek to: it sorts after `path` and all below it, and not after anything else that follows."""
    return path + b"\1"


def show(path: bytes) -> str:
    """A path for people: printable, and bounded."""
    text = path.decode("utf-8", "backslashreplace")
    return text if len(text) <= 200 else f"{text[:200]}…"


def clamp_time_ns(time_ns: int) -> int:
    """The nearest time that an entry can hold; file systems know times before 1677 and after 2262."""
    return min(max(time_ns, -INT63_MAX), INT63_MAX)


def is_racy(mtime_ns: int, ctime_ns: int, seen_ns: int, granularity_ns: int = limits.RACY_WINDOW_NS) -> bool:
    """Whether a change after `seen_ns` could leave both times as they are.

    True when either is less than `granularity_ns` before the moment the file was looked at, or later than it.
    """
    return seen_ns - max(mtime_ns, ctime_ns) < granularity_ns


def entry_unchanged(  # noqa: PLR0917 - six facts of one stat call, on the hot path of every backup
    old: Entry, kind: Kind, size: int, mtime_ns: int, ctime_ns: int, inode: int, fs: bytes
) -> bool:
    """Whether what `stat` shows now may take over the extents of `old` without being read (racy-clean rule).

    False whenever `old` was racy or incomplete, whatever else agrees.
    """
    return (
        old.mtime_ns == mtime_ns
        and old.ctime_ns == ctime_ns
        and old.size == size
        and old.inode == inode
        and old.kind == kind
        and old.fs == fs
        and not old.flags & (FLAG_RACY | FLAG_INCOMPLETE)
    )


def coalesce_extents(extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Join extents that go on in the same chunk where the one before ended. The bytes stay the same."""
    joined: list[Extent] = []
    for extent in extents:
        if joined and joined[-1].id == extent.id and joined[-1].offset + joined[-1].length == extent.offset:
            last = joined.pop()
            extent = Extent(last.id, last.offset, last.length + extent.length)
        joined.append(extent)
    return tuple(joined)


def coalesce_ranges(
    ranges: Sequence[tuple[int, int]], count_max: int = limits.ENTRY_RANGES_MAX
) -> tuple[tuple[int, int], ...]:
    """Data ranges fit for an entry: touching ones joined and, if still too many, the smallest holes filled.

    `ranges` are (offset, length), ascending and not overlapping. What was a hole and is now inside a range reads
    as zeros in the source, so a writer that reads by the result writes the same file.
    """
    joined: list[tuple[int, int]] = []
    for offset, length in ranges:
        if joined and joined[-1][0] + joined[-1][1] == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        elif length:
            joined.append((offset, length))
    if len(joined) <= count_max:
        return tuple(joined)
    holes = [joined[i + 1][0] - joined[i][0] - joined[i][1] for i in range(len(joined) - 1)]
    filled = set(sorted(range(len(holes)), key=holes.__getitem__)[: len(joined) - count_max])
    kept: list[tuple[int, int]] = [joined[0]]
    for i, (offset, length) in enumerate(joined[1:]):
        if i in filled:
            kept[-1] = (kept[-1][0], offset + length - kept[-1][0])
        else:
            kept.append((offset, length))
    return tuple(kept)


def check_path(path: bytes) -> None:
    """Refuse anything that is not a path of the format. The root is `b""`. Raises FormatError."""
    if not path:
        return
    if len(path) > limits.PATH_BYTES_MAX:
        raise FormatError(f"path of {len(path)} bytes is longer than {limits.PATH_BYTES_MAX}")
    if b"\0" in path:
        raise FormatError(f"path {show(path)!r} holds a NUL byte")
    for component in path.split(b"/"):
        if component in (b"", b".", b".."):
            raise FormatError(f"path {show(path)!r} has the component {component.decode()!r}")


def check_xattrs(xattrs: tuple[tuple[bytes, bytes], ...], path: bytes) -> None:
    """Refuse extended attributes that are unsorted, doubled, nameless or too big together. Raises FormatError."""
    total = 0
    before = b""
    for name, value in xattrs:
        if name <= before or b"\0" in name:
            raise FormatError(f"extended attributes of {show(path)!r} are not sorted by distinct names")
        before = name
        total += len(name) + len(value)
    if total > limits.ENTRY_XATTR_BYTES_MAX:
        raise FormatError(
            f"extended attributes of {show(path)!r} take {total} bytes, over {limits.ENTRY_XATTR_BYTES_MAX}"
        )


def check_link(kind: Kind, link: bytes, path: bytes) -> None:
    """Refuse a link target where none belongs, or one that cannot be. Raises FormatError."""
    if kind is Kind.SYMLINK:
        if not link or b"\0" in link or len(link) > limits.PATH_BYTES_MAX:
            raise FormatError(f"symbolic link {show(path)!r} has no valid target")
    elif kind is Kind.HARDLINK:
        check_path(link)
        if not link or path_key(link) >= path_key(path):
            raise FormatError(f"hard link {show(path)!r} does not point to an earlier path")
    elif link:
        raise FormatError(f"{show(path)!r} has a link target but is no link")


def range_bytes(ranges: tuple[tuple[int, int], ...], size: int, path: bytes) -> int:
    """Sum of the ranges' lengths. Raises FormatError unless they ascend without touching, inside `size`."""
    if len(ranges) > limits.ENTRY_RANGES_MAX:
        raise FormatError(f"{show(path)!r} has {len(ranges)} data ranges, over {limits.ENTRY_RANGES_MAX}")
    total = 0
    end = -1
    for offset, length in ranges:
        if offset <= end or length < 1 or offset + length > size:
            raise FormatError(f"data ranges of {show(path)!r} do not ascend inside its {size} bytes")
        end = offset + length
        total += length
    return total


def extent_bytes(extents: Iterable[Extent], path: bytes) -> int:
    """Sum of the extents' lengths. Raises FormatError when one cannot lie inside a chunk."""
    total = 0
    for chunk, offset, length in extents:
        if length < 1 or offset < 0 or offset + length > limits.CHUNK_PLAIN_BYTES_MAX or len(chunk) != ID_BYTES:
            raise FormatError(f"an extent of {show(path)!r} does not lie inside a chunk")
        total += length
    return total


def check_data(entry: Entry) -> None:
    """Refuse extents and ranges that do not add up for a whole entry. Raises FormatError."""
    if entry.kind is not Kind.FILE:
        if entry.size or entry.extents or entry.ranges:
            raise FormatError(f"{show(entry.path)!r} is no file and yet has data")
        return
    if len(entry.extents) > limits.FILE_EXTENTS_MAX:
        raise FormatError(f"{show(entry.path)!r} has {len(entry.extents)} extents, over {limits.FILE_EXTENTS_MAX}")
    held = extent_bytes(entry.extents, entry.path)
    wanted = range_bytes(entry.ranges, entry.size, entry.path)
    if not entry.ranges and entry.extents:
        wanted = entry.size
    if held != wanted:
        raise FormatError(f"extents of {show(entry.path)!r} hold {held} bytes, its data ranges {wanted}")


def check_entry(entry: Entry) -> None:
    """Refuse a whole entry with any value outside the format; its path is not looked at. Raises FormatError."""
    kind = entry.kind
    if not (
        0 <= entry.mode <= 0o7777
        and 0 <= entry.uid <= UINT32_MAX
        and 0 <= entry.gid <= UINT32_MAX
        and -INT63_MAX <= entry.mtime_ns <= INT63_MAX
        and -INT63_MAX <= entry.ctime_ns <= INT63_MAX
        and 0 <= entry.size <= INT63_MAX
        and 0 <= entry.inode <= UINT64_MAX
        and 0 <= entry.flags < FLAG_CONTINUED
        and 0 <= entry.rdev <= UINT64_MAX
        and len(entry.fs) == FS_BYTES
        and kind is not Kind.CONTINUATION
    ):
        raise FormatError(f"entry {show(entry.path)!r} has a value outside its bounds")
    if entry.rdev and kind is not Kind.CHAR and kind is not Kind.BLOCK:
        raise FormatError(f"{show(entry.path)!r} has a device number but is no device")
    if entry.xattrs:
        check_xattrs(entry.xattrs, entry.path)
    if entry.link or kind is Kind.SYMLINK or kind is Kind.HARDLINK:
        check_link(kind, entry.link, entry.path)
    if entry.size or entry.extents or entry.ranges:
        check_data(entry)
