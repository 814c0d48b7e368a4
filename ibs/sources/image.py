"""Disk images as sources: regular files and block devices, read in fixed chunks, holes passed over unread.

Importable by the backup pipeline; all calls block and belong into a worker thread. An image that cannot be read
whole, or whose size changes meanwhile, is a failure and not a warning: half a disk restores to nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from ibs.core import limits
from ibs.errors import SourceUnreadable, UsageError
from ibs.sources.notes import reason, shown
from ibs.sources.tree.content import held_still


class ImageSource:
    """An opened image. `size` in bytes; fixed from the moment it was opened."""

    def __init__(self, path: bytes) -> None:
        """Raises UsageError when `path` is neither file nor block device, SourceUnreadable when it cannot be opened."""
        self.path = path
        try:
            # O_NONBLOCK: a fifo named by mistake must be told, not waited for.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise SourceUnreadable(
                f"source {shown(path)} cannot be read: {reason(error)}", hint="check the path and your permissions"
            ) from error
        try:
            self._stat = os.fstat(self._fd)
            if not (stat.S_ISREG(self._stat.st_mode) or stat.S_ISBLK(self._stat.st_mode)):
                raise UsageError(
                    f"source {shown(path)} is neither a file nor a block device",
                    hint="name a disk image or block device, or back a folder up as NAME.tree",
                )
            self.size = self._end()
        except BaseException:
            self.close()
            raise

    def _end(self) -> int:
        """Size now; `st_size` of a block device is 0, so the end is sought."""
        return os.lseek(self._fd, 0, os.SEEK_END)

    def data_chunks(self, chunk_bytes: int = limits.IMAGE_CHUNK_BYTES) -> Iterator[tuple[int, int]]:
        """Runs of chunks (first number, count) that may hold data; chunks between them are holes."""
        chunks = -(-self.size // chunk_bytes)
        at = 0
        while at < chunks:
            try:
                start = os.lseek(self._fd, at * chunk_bytes, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                yield at, chunks - at  # block devices cannot tell
                return
            first = start // chunk_bytes
            if first >= chunks:
                return
            end = min(os.lseek(self._fd, start, os.SEEK_HOLE), self.size)
            last = max(-(-end // chunk_bytes), first + 1)
            yield max(first, at), last - max(first, at)
            at = last

    def read(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`. Raises SourceUnreadable on a read error or when the image has become shorter."""
        filled = 0
        try:
            while filled < len(view):
                count = os.preadv(self._fd, [view[filled:]], offset + filled)
                if not count:
                    raise self._resized(offset + filled)
                filled += count
        except OSError as error:
            raise SourceUnreadable(
                f"source {shown(self.path)} cannot be read at byte {offset + filled}: {reason(error)}",
                hint="check the disk below it; an image is backed up whole or not at all",
            ) from error

    def check(self) -> bool:
        """After the last read: whether it held still (always true for a device). Raises SourceUnreadable if resized."""
        end = self._end()
        if end != self.size:
            raise self._resized(end)
        return not stat.S_ISREG(self._stat.st_mode) or held_still(self._stat, os.fstat(self._fd))

    def _resized(self, end: int) -> SourceUnreadable:
        return SourceUnreadable(
            f"source {shown(self.path)} changed its size while it was read: {self.size} bytes before, {end} now",
            hint="back up a snapshot of the volume, or stop what writes to it",
        )

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
