"""Metadata blocks: how entries are stored, and reading them with nothing trusted.

Pure; used by the writer and the reader in `core.tree`. The layout and the boundary rule are formats.md section 4.1 and
4.2. Memory invariant: decoding takes a small multiple of the block's size (at most CHUNK_PLAIN_BYTES_MAX), because
every array has a bound that is checked before it is filled, and unfolded paths are limited by
METADATA_BLOCK_PATH_BYTES_MAX.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ibs.core import limits
from ibs.core.tree.entry import (
    FLAG_CONTINUED,
    FS_BYTES,
    ID_BYTES,
    INT63_MAX,
    NO_FS,
    UINT32_MAX,
    Entry,
    Extent,
    Kind,
    check_data,
    check_link,
    check_path,
    check_xattrs,
    extent_bytes,
    path_key,
    range_bytes,
    show,
)
from ibs.core.tree.order import check_step
from ibs.errors import FormatError

BLOCK_VERSION: Final = 1

_Natural = Annotated[int, Meta(ge=0)]
_Size = Annotated[int, Meta(ge=0, le=INT63_MAX)]
_Owner = Annotated[int, Meta(ge=0, le=UINT32_MAX)]
_TimeNs = Annotated[int, Meta(ge=-INT63_MAX, le=INT63_MAX)]


class WireEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry as it is stored: numbers into the block's tables instead of ids."""

    kind: Kind
    shared: _Size
    suffix: Annotated[bytes, Meta(max_length=limits.PATH_BYTES_MAX)]
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    uid: _Owner
    gid: _Owner
    mtime_ns: _TimeNs
    ctime_ns: _TimeNs
    size: _Size
    fs: _Size
    inode: _Natural
    flags: Annotated[int, Meta(ge=0, le=7)]
    xattrs: Annotated[tuple[tuple[bytes, bytes], ...], Meta(max_length=limits.ENTRY_XATTR_BYTES_MAX)]
    link: Annotated[bytes, Meta(max_length=limits.PATH_BYTES_MAX)]
    rdev: _Natural
    extents: Annotated[list[_Size], Meta(max_length=3 * limits.ENTRY_EXTENTS_MAX)]
    ranges: Annotated[list[_Size], Meta(max_length=2 * limits.ENTRY_RANGES_MAX)]


class WireBlock(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A block as it is stored. Shapes and bounds of all items hold; what they say together is not checked yet."""

    version: int
    file_systems: Annotated[
        list[Annotated[bytes, Meta(min_length=FS_BYTES, max_length=FS_BYTES)]],
        Meta(max_length=limits.FILE_SYSTEMS_PER_BLOCK_MAX),
    ]
    ids: Annotated[bytes, Meta(max_length=limits.CHUNK_PLAIN_BYTES_MAX)]
    entries: Annotated[list[WireEntry], Meta(min_length=1, max_length=limits.METADATA_BLOCK_ENTRIES_MAX)]


_DECODER: Final = msgspec.msgpack.Decoder(WireBlock)


def parse_block(data: bytes) -> WireBlock:
    """Shapes and bounds of a block; `iter_block` checks the rest. Raises FormatError."""
    if len(data) > limits.CHUNK_PLAIN_BYTES_MAX:
        raise FormatError(f"metadata block of {len(data)} bytes is longer than a chunk may be")
    try:
        block = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"metadata block is malformed: {error}") from error
    if block.version != BLOCK_VERSION:
        raise FormatError(f"metadata block has version {block.version}; this program reads {BLOCK_VERSION}")
    if len(block.ids) % ID_BYTES:
        raise FormatError(f"metadata block has an id table of {len(block.ids)} bytes, no multiple of {ID_BYTES}")
    if block.entries[0].shared:
        raise FormatError("metadata block begins with an entry that shares a path with none before it")
    return block


def decode_block(data: bytes) -> list[Entry]:
    """All entries of a block, continuations as entries of their own. Raises FormatError on anything hostile."""
    return list(iter_block(parse_block(data)))


def iter_block(block: WireBlock, lower: bytes = b"") -> Iterator[Entry]:
    """Entries from sort key `lower` on, checked; order is checked before it too. Raises FormatError, perhaps late."""
    ids = [block.ids[i : i + ID_BYTES] for i in range(0, len(block.ids), ID_BYTES)]
    file_systems = block.file_systems
    path = b""
    folder = continued = False
    first = True
    path_bytes = 0
    for wire in block.entries:
        kind = wire.kind
        shared = wire.shared
        suffix = wire.suffix
        if first:
            first = False
            path = suffix
            check_path(path)
        elif kind is Kind.CONTINUATION:
            if not continued or suffix or shared != len(path):
                raise FormatError(f"after {show(path)!r}: a continuation of nothing")
        else:
            if continued:
                raise FormatError(f"{show(path)!r} lacks its continuation")
            check_step(path, folder, shared, suffix)
            path = path[:shared] + suffix
        folder = kind is Kind.DIR
        continued = wire.flags >= FLAG_CONTINUED
        path_bytes += len(path)
        if path_bytes > limits.METADATA_BLOCK_PATH_BYTES_MAX + limits.PATH_BYTES_MAX:
            raise FormatError(
                f"metadata block unfolds to more than {limits.METADATA_BLOCK_PATH_BYTES_MAX} bytes of paths"
            )
        if lower:
            if path_key(path) < lower:
                continue
            lower = b""
        if wire.fs >= len(file_systems) and kind is not Kind.CONTINUATION:
            raise FormatError(f"{show(path)!r} names a file system that its block does not")
        yield _resolve(wire, kind, path, file_systems, ids)


def _resolve(wire: WireEntry, kind: Kind, path: bytes, file_systems: list[bytes], ids: list[bytes]) -> Entry:
    """The entry with ids in place of numbers, everything but its path checked."""
    if kind is Kind.CONTINUATION:
        return _resolve_continuation(wire, path, ids)
    entry = Entry(
        path,
        kind,
        wire.mode,
        wire.uid,
        wire.gid,
        wire.mtime_ns,
        wire.ctime_ns,
        wire.size,
        file_systems[wire.fs],
        wire.inode,
        wire.flags,
        wire.xattrs,
        wire.link,
        wire.rdev,
        _resolve_extents(wire.extents, path, ids) if wire.extents else (),
        _resolve_ranges(wire.ranges, path) if wire.ranges else (),
    )
    if entry.xattrs:
        check_xattrs(entry.xattrs, path)
    if entry.link or kind is Kind.SYMLINK or kind is Kind.HARDLINK:
        check_link(kind, entry.link, path)
    if entry.rdev and kind is not Kind.CHAR and kind is not Kind.BLOCK:
        raise FormatError(f"{show(path)!r} has a device number but is no device")
    if entry.flags >= FLAG_CONTINUED:
        _check_continued(entry)
    elif entry.size or entry.extents or entry.ranges:
        check_data(entry)
    return entry


def _resolve_extents(numbers: list[int], path: bytes, ids: list[bytes]) -> tuple[Extent, ...]:
    if len(numbers) % 3:
        raise FormatError(f"{show(path)!r} has a broken list of extents")
    try:
        if len(numbers) == 3:
            return (Extent(ids[numbers[0]], numbers[1], numbers[2]),)
        each = iter(numbers)
        return tuple(
            [Extent(ids[chunk], offset, length) for chunk, offset, length in zip(each, each, each, strict=True)]
        )
    except IndexError:
        raise FormatError(f"an extent of {show(path)!r} names a chunk that its block does not") from None


def _resolve_ranges(numbers: list[int], path: bytes) -> tuple[tuple[int, int], ...]:
    if len(numbers) % 2:
        raise FormatError(f"{show(path)!r} has a broken list of data ranges")
    each = iter(numbers)
    return tuple(zip(each, each, strict=True))


def _resolve_continuation(wire: WireEntry, path: bytes, ids: list[bytes]) -> Entry:
    """A continuation holds extents and nothing else."""
    if (
        wire.mode or wire.uid or wire.gid or wire.mtime_ns or wire.ctime_ns or wire.size or wire.fs or wire.inode
        or wire.xattrs or wire.link or wire.rdev or wire.ranges or wire.flags & ~FLAG_CONTINUED or not wire.extents
    ):  # fmt: skip
        raise FormatError(f"a continuation of {show(path)!r} holds more or less than extents")
    extents = _resolve_extents(wire.extents, path, ids)
    extent_bytes(extents, path)
    if wire.flags and len(extents) != limits.ENTRY_EXTENTS_MAX:
        raise FormatError(f"{show(path)!r} is continued before an entry is full")
    return Entry(path, Kind.CONTINUATION, fs=NO_FS, flags=wire.flags, extents=extents)


def _check_continued(entry: Entry) -> None:
    """The first part of a file that goes on: full, and within the data ranges so far."""
    if entry.kind is not Kind.FILE or len(entry.extents) != limits.ENTRY_EXTENTS_MAX:
        raise FormatError(f"{show(entry.path)!r} is continued before an entry is full")
    wanted = range_bytes(entry.ranges, entry.size, entry.path) if entry.ranges else entry.size
    if extent_bytes(entry.extents, entry.path) >= wanted:
        raise FormatError(f"{show(entry.path)!r} is continued although its data is complete")
