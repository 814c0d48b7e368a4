"""Fills one metadata block: each entry encoded once, front-coded, closed where the content says (formats.md 4.1).

Pure; used by the builder. Writes only MessagePack's shortest forms, so that equal entries give equal bytes.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from ibs.core import limits
from ibs.core.tree.entry import FS_BYTES, ID_BYTES, Entry, Kind, show
from ibs.errors import FormatError

_BOUNDARY_MASK: Final = 2047
_HEADERS_BYTES_MAX: Final = 15
"""Upper bound of a block's framing: two one-byte items, then three headers of at most 3, 5 and 5 bytes."""


class BlockWriter:
    """Collects the entries of one block, each encoded once; values must have passed `check_entry`."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._entries: list[bytes] = []
        self._raw_bytes = 0
        self._path_bytes = 0
        self._file_systems: dict[bytes, int] = {}
        self._ids: dict[bytes, int] = {}
        self.first_path = b""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, shared: int, suffix: bytes) -> bool:
        """Append; `shared` and `suffix` are against the entry before, even one in another block.

        Returns whether the block must be closed now.
        """
        path = entry.path
        if not self._entries:
            shared, suffix = 0, path
            self.first_path = path
        raw_bytes = self._raw_bytes
        fs = 0
        if entry.kind is not Kind.CONTINUATION:
            found = self._file_systems.get(entry.fs)
            if found is None:
                found = self._file_systems[entry.fs] = len(self._file_systems)
                raw_bytes += FS_BYTES + 2
            fs = found
        flat: list[int] = []
        if entry.extents:
            known = len(self._ids)
            for chunk, offset, length in entry.extents:
                flat += (self._ids.setdefault(chunk, len(self._ids)), offset, length)
            raw_bytes += (len(self._ids) - known) * ID_BYTES
        encoded = self._encoder.encode((
            entry.kind, shared, suffix, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.ctime_ns, entry.size,
            fs, entry.inode, entry.flags, entry.xattrs, entry.link, entry.rdev, flat,
            [number for pair in entry.ranges for number in pair] if entry.ranges else (),
        ))  # fmt: skip
        self._entries.append(encoded)
        self._raw_bytes = raw_bytes = raw_bytes + len(encoded)
        self._path_bytes += len(path)
        if raw_bytes < limits.METADATA_BLOCK_BYTES_MIN - _HEADERS_BYTES_MAX:
            return self._path_bytes >= limits.METADATA_BLOCK_PATH_BYTES_MAX
        return self._is_boundary(path)

    def _is_boundary(self, path: bytes) -> bool:
        return self._path_bytes >= limits.METADATA_BLOCK_PATH_BYTES_MAX or closes_block(self.encoded_bytes, path)

    @property
    def encoded_bytes(self) -> int:
        """Length that `take` would return now."""
        return (
            self._raw_bytes
            + 2
            + len(_array_header(len(self._file_systems)))
            + len(_binary_header(ID_BYTES * len(self._ids)))
            + len(_array_header(len(self._entries)))
        )

    def take(self) -> bytes:
        """The block, of at least one entry; the writer is empty again. Raises FormatError when too long for a chunk."""
        file_systems = b"".join([_binary_header(FS_BYTES) + fs for fs in self._file_systems])
        ids = b"".join(self._ids)
        block = b"".join([
            b"\x94\x01",
            _array_header(len(self._file_systems)), file_systems,
            _binary_header(len(ids)), ids,
            _array_header(len(self._entries)), *self._entries,
        ])  # fmt: skip
        if len(block) > limits.CHUNK_PLAIN_BYTES_MAX:
            raise FormatError(
                f"metadata block at {show(self.first_path)!r} has {len(block)} bytes, too long for a chunk"
            )
        self._entries = []
        self._raw_bytes = self._path_bytes = 0
        self._file_systems = {}
        self._ids = {}
        return block


def closes_block(encoded_bytes: int, path: bytes) -> bool:
    """Whether a block that an entry with this path brought to this size ends there (formats.md 4.1)."""
    return encoded_bytes >= limits.METADATA_BLOCK_BYTES_MAX or (
        encoded_bytes >= limits.METADATA_BLOCK_BYTES_MIN and zlib.crc32(path) & _BOUNDARY_MASK == _BOUNDARY_MASK
    )


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes([0x90 | count])
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def _binary_header(length: int) -> bytes:
    if length < 1 << 8:
        return bytes([0xC4, length])
    if length < 1 << 16:
        return b"\xc5" + length.to_bytes(2, "big")
    return b"\xc6" + length.to_bytes(4, "big")
