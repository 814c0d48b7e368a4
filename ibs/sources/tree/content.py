"""Reading regular files for a tree: opened so that nothing blocks, and told afterwards whether they held still.

Importable by the backup pipeline; all calls block and belong into a worker thread. `FileAccess` is the seam by
which tests change, break or count what is read; it holds no state of a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from ibs.core import limits
from ibs.core.tree import coalesce_ranges

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
SPARSE_PROBES_MAX = 4 * limits.ENTRY_RANGES_MAX
"""Holes looked for in one file; what lies behind is read as data."""


class FileAccess:
    """System calls on one file. Thread-safe. Bare calls where that suffices: each is made once or more a file."""

    def __init__(self) -> None:
        self._euid = os.geteuid()

    def open(self, folder_fd: int, name: bytes, owner: int) -> int:
        """A descriptor for reading; neither follows a link nor waits for a fifo, and leaves atime alone where allowed.

        Raises OSError (ELOOP for a symbolic link).
        """
        if self._euid in (0, owner):
            try:
                return os.open(name, _READ_FLAGS | os.O_NOATIME, dir_fd=folder_fd)
            except PermissionError as error:
                # A user namespace or network file system may refuse the flag although the numbers agree.
                if error.errno != errno.EPERM:
                    raise
        return os.open(name, _READ_FLAGS, dir_fd=folder_fd)

    stat = staticmethod(os.fstat)
    """What the open file is now. Raises OSError."""

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`; fewer bytes than asked mean the end of the file. Raises OSError."""
        filled = os.preadv(fd, (view,), offset)
        wanted = len(view)
        while 0 < filled < wanted:
            count = os.preadv(fd, [view[filled:]], offset + filled)
            if not count:
                break
            filled += count
        return filled

    def sequential(self, fd: int) -> None:
        """Tell the system that the whole file will be read, so that it reads further ahead."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def ranges(self, fd: int, size: int) -> tuple[tuple[int, int], ...]:
        """Data ranges (offset, length) of a sparse file, ascending; `((0, size),)` where the system cannot tell."""
        return data_ranges(fd, size)

    close = staticmethod(os.close)
    """Give the descriptor back."""


def held_still(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether neither content nor metadata changed between two looks at one open file."""
    return (
        before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
        and before.st_ctime_ns == after.st_ctime_ns
    )


def is_sparse(st: os.stat_result) -> bool:
    """Whether the file takes less room than its size, so that looking for holes is worth two calls."""
    return st.st_blocks * 512 < st.st_size


def data_ranges(fd: int, size: int, probes_max: int = SPARSE_PROBES_MAX) -> tuple[tuple[int, int], ...]:
    """See `FileAccess.ranges`. At most ENTRY_RANGES_MAX ranges: beyond, the smallest holes are read as data."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                break
            return ((0, size),)
        if start >= size:
            break
        if len(found) >= probes_max:
            found.append((start, size - start))
            break
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if end <= start:  # it shrank meanwhile; the read will notice
            break
        found.append((start, end - start))
        at = end
    return coalesce_ranges(found)


def clip_ranges(ranges: Sequence[tuple[int, int]], data_bytes: int) -> tuple[tuple[int, int], ...]:
    """The first `data_bytes` bytes of `ranges`: what was read of a file that could not be read to its end."""
    kept = []
    for offset, length in ranges:
        if data_bytes <= 0:
            break
        kept.append((offset, min(length, data_bytes)))
        data_bytes -= length
    return tuple(kept)
