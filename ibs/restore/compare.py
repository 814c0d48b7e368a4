"""Compares archived entries with each other and with live files: what changed, and where only the bytes can tell.

Used by `client.restore.diff`. No network here: what needs a chunk is handed back to whoever can fetch it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from ibs.core import limits
from ibs.core.tree import Entry, Kind
from ibs.restore.content import Piece, is_zero
from ibs.restore.tree.safe_path import SafeRoot

_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_READ_BYTES: Final = 1 * limits.MIB


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs. `change` is `added`, `removed` or `changed`; `what` says in which respects: `kind`,
    `content`, `mode`, `owner`, `mtime`, `xattrs`, `link`, `device`."""

    path: bytes
    change: str
    what: tuple[str, ...] = ()
    old: Entry | None = None
    new: Entry | None = None


class Stretch(NamedTuple):
    """A part of two files; each side is a place in a chunk, or None for a hole."""

    at: int
    length: int
    old: tuple[bytes, int] | None
    new: tuple[bytes, int] | None


def metadata_changes(old: Entry, new: Entry) -> list[str]:
    """Respects other than content in which two entries of one path differ."""
    if old.kind is not new.kind:
        return ["kind"]
    checks = (
        ("mode", old.mode, new.mode if old.kind is not Kind.SYMLINK else old.mode),
        ("owner", (old.uid, old.gid), (new.uid, new.gid)),
        ("mtime", old.mtime_ns, new.mtime_ns),
        ("xattrs", old.xattrs, new.xattrs),
        ("link", old.link, new.link),
        ("device", old.rdev, new.rdev),
    )
    return [name for name, left, right in checks if left != right]


def stretches(old: Sequence[Piece], new: Sequence[Piece], size: int) -> Iterator[Stretch]:
    """Parts of two files of one size that are not the same place of the same chunk, nor both holes, in order."""
    edges = sorted(
        {0, size} | {edge for side in (old, new) for piece in side for edge in (piece.at, piece.at + piece.length)}
    )
    left, right = _Walk(old), _Walk(new)
    for at, end in pairwise(edges):
        a, b = left.place(at), right.place(at)
        if a != b:
            yield Stretch(at, end - at, a, b)


class _Walk:
    """Finds the place of ascending offsets in a list of pieces."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._number = 0

    def place(self, at: int) -> tuple[bytes, int] | None:
        while self._number < len(self._pieces):
            piece = self._pieces[self._number]
            if at < piece.at:
                return None
            if at < piece.at + piece.length:
                return piece.id, piece.offset + at - piece.at
            self._number += 1
        return None


def same_bytes(stretch: Stretch, old: bytes | None, new: bytes | None) -> bool:
    """Whether both sides of a stretch are equal; `old` and `new` are the chunks they lie in (None for a hole)."""
    left, right = _side(stretch.old, old, stretch.length), _side(stretch.new, new, stretch.length)
    if left is None or right is None:
        filled = right if left is None else left
        return filled is None or is_zero(filled)
    return bytes(left) == bytes(right)


def _side(place: tuple[bytes, int] | None, data: bytes | None, length: int) -> memoryview | None:
    if place is None or data is None:
        return None
    return memoryview(data)[place[1] : place[1] + length]


class LiveFile:
    """A regular file of a live folder, opened below its root without following anything. Calls block."""

    def __init__(self, root: SafeRoot, path: bytes) -> None:
        """Raises OSError."""
        parent, _, name = path.rpartition(b"/")
        folder_fd = root.open_folder(parent)
        try:
            self._fd = os.open(name, _READ_FLAGS, dir_fd=folder_fd)
        finally:
            os.close(folder_fd)

    def close(self) -> None:
        os.close(self._fd)

    def undecided(
        self, pieces: Sequence[Piece], lengths: dict[bytes, int], identify: Callable[[bytes], bytes]
    ) -> list[Piece] | None:
        """Pieces that only the chunk itself can decide; None when another one already differs.

        A piece that is a whole chunk is decided by the id of what is in the file: nothing needs to be fetched.
        """
        left = []
        for piece in pieces:
            if piece.offset or piece.length != lengths.get(piece.id):
                left.append(piece)
            elif identify(os.pread(self._fd, piece.length, piece.at)) != piece.id:
                return None
        return left

    def same(self, piece: Piece, chunk: bytes) -> bool:
        """Whether the file holds the bytes of a piece."""
        return os.pread(self._fd, piece.length, piece.at) == chunk[piece.offset : piece.offset + piece.length]

    def holes_are_zero(self, pieces: Sequence[Piece], size: int) -> bool:
        """Whether everything that no piece covers reads as zeros; holes of the file are not read."""
        at = 0
        for start, end in (*((piece.at, piece.at + piece.length) for piece in pieces), (size, size)):
            if at < start and not self._zero(at, start):
                return False
            at = end
        return True

    def _zero(self, at: int, end: int) -> bool:
        while at < end:
            try:
                at = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return True
                raise
            if at >= end:
                return True
            data = os.pread(self._fd, min(_READ_BYTES, end - at), at)
            if not data:
                return True
            if not is_zero(data):
                return False
            at += len(data)
        return True
