"""What flows through the backup pipeline: chunks to encode, and entries that wait for them.

Importable by the backup pipeline only. A batch leaves the reading thread whole; references, never bytes, are
shuffled by the trio thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ibs.client.backup.buffers import Segment
from ibs.core.tree import Entry, Extent, Kind
from ibs.sources.tree.meta import Xattrs


class ChunkRef:
    """One chunk cut from a segment. `id` appears when it was hashed; `view` and `segment` go when it was encoded."""

    __slots__ = ("id", "length", "segment", "view")

    def __init__(self, view: memoryview, segment: Segment | None) -> None:
        self.id = b""
        self.length = len(view)
        self.view: memoryview | None = view
        self.segment = segment


class Draft:
    """A file whose bytes were read, but whose chunks are perhaps not cut yet (`missing` bytes) or not hashed."""

    __slots__ = ("flags", "fs", "missing", "path", "ranges", "size", "spans", "stat", "xattrs")

    def __init__(self, path: bytes, stat: os.stat_result, fs: bytes, flags: int, xattrs: Xattrs) -> None:
        self.path = path
        self.stat = stat
        self.fs = fs
        self.flags = flags
        self.xattrs = xattrs
        self.size = stat.st_size
        self.ranges: tuple[tuple[int, int], ...] = ()
        self.missing = 0
        self.spans: list[tuple[ChunkRef, int, int]] = []

    def entry(self) -> Entry:
        """The finished entry; every chunk of it has been hashed."""
        extents = tuple([Extent(ref.id, offset, length) for ref, offset, length in self.spans])
        return make_entry(
            self.path, Kind.FILE, self.stat, self.fs, self.flags, self.xattrs, self.size, extents, self.ranges
        )


def make_entry(  # noqa: PLR0917 - in the order of the entry's own fields
    path: bytes,
    kind: Kind,
    stat: os.stat_result,
    fs: bytes,
    flags: int,
    xattrs: Xattrs,
    size: int = 0,
    extents: tuple[Extent, ...] = (),
    ranges: tuple[tuple[int, int], ...] = (),
    link: bytes = b"",
    rdev: int = 0,
) -> Entry:
    """An entry from what `stat` says."""
    return Entry(
        path,
        kind,
        stat.st_mode & 0o7777,
        stat.st_uid,
        stat.st_gid,
        stat.st_mtime_ns,
        stat.st_ctime_ns,
        size,
        fs,
        stat.st_ino,
        flags,
        xattrs,
        link,
        rdev,
        extents,
        ranges,
    )


class Batch:
    """What one turn of the reading thread produced, in order.

    `items` may refer to chunks of this and of earlier batches only. `chunk` is the id of a chunk of the previous
    snapshot without which the reader cannot go on; `segment` says that it needs a free buffer.
    """

    __slots__ = ("chunk", "items", "refs", "segment")

    def __init__(
        self, refs: list[ChunkRef], items: Sequence[object], *, chunk: bytes = b"", segment: bool = False
    ) -> None:
        self.refs = refs
        self.items = items
        self.chunk = chunk
        self.segment = segment


class Job:
    """Chunks for one turn of an encoding thread. `last` is the number of its last chunk in the archive, -1 for none.

    `zero` maps a length to the id of that many zero bytes, where such chunks need not be stored (images).
    """

    __slots__ = ("first", "last", "refs", "zero")

    def __init__(self, refs: list[ChunkRef], first: int = -1, last: int = -1, zero: dict[int, bytes] | None = None):
        self.refs = refs
        self.first = first
        self.last = last
        self.zero = zero or {}
