"""Reading the files of a tree into pooled buffers, and the outlet through which items leave in order.

Importable by the backup pipeline only; runs in the reading thread. What cannot be opened is left out with one
warning. What fails or changes while it is read is kept as far as it was read, marked incomplete, with one warning:
the changed copy is worth more than none, and an incomplete entry is never taken over by the next backup.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections import deque
from collections.abc import Generator

from ibs.client.backup.buffers import SegmentPool
from ibs.client.backup.figures import Figures
from ibs.client.backup.items import Batch, ChunkRef, Draft, make_entry
from ibs.client.backup.packer import CUT_BYTES, Stream
from ibs.client.backup.previous import OldRun
from ibs.core import limits
from ibs.core.chunker import Chunker
from ibs.core.tree import FLAG_INCOMPLETE, FLAG_RACY, Entry, Kind, is_racy
from ibs.ports.clock import Clock
from ibs.sources.notes import Note, Noter, reason, shown
from ibs.sources.tree.content import FileAccess, clip_ranges, held_still, is_sparse
from ibs.sources.tree.meta import Xattrs, xattrs_at, xattrs_of_fd
from ibs.sources.tree.scan import Found

Item = Entry | Draft | OldRun
READ_BYTES = 4 * limits.MIB
_GONE = (errno.ENOENT, errno.ESTALE, errno.ELOOP)


class Outlet:
    """Collects what leaves the reading thread. Items wait here for chunks not cut yet, and keep their order."""

    def __init__(self) -> None:
        self._refs: list[ChunkRef] = []
        self._ref_bytes = 0
        self._ready: list[Item] = []
        self._entries = 0
        self.held: deque[Item] = deque()

    @property
    def full(self) -> bool:
        """Whether it is time to hand over."""
        return self._ref_bytes >= limits.BACKUP_BATCH_BYTES or self._entries >= limits.BACKUP_BATCH_ENTRIES

    @property
    def crowded(self) -> bool:
        """Whether so many entries wait for one chunk that it must be cut short: what waits is bounded."""
        return len(self.held) > limits.BACKUP_HELD_ENTRIES

    def put(self, item: Item, entries: int = 1) -> None:
        """The next item in canonical order; it stands for so many entries."""
        self._entries += entries
        if self.held or (type(item) is Draft and item.missing):
            self.held.append(item)
        else:
            self._ready.append(item)

    def emit(self, ref: ChunkRef) -> None:
        """A chunk that was cut."""
        self._refs.append(ref)
        self._ref_bytes += ref.length

    def settle(self) -> None:
        """Let go of items whose chunks have been cut by now."""
        held = self.held
        while held and not (type(held[0]) is Draft and held[0].missing):
            self._ready.append(held.popleft())

    def take(self, *, chunk: bytes = b"", segment: bool = False) -> Batch:
        """Everything that can go."""
        self.settle()
        batch = Batch(self._refs, self._ready, chunk=chunk, segment=segment)
        self._refs, self._ready = [], []
        self._ref_bytes = self._entries = 0
        return batch


class TreeFiles:
    """Reads one tree's files. `files` is the seam to the file system."""

    def __init__(
        self,
        outlet: Outlet,
        segments: SegmentPool,
        chunker: Chunker,
        *,
        clock: Clock,
        figures: Figures,
        note: Noter,
        files: FileAccess,
    ) -> None:
        self._outlet = outlet
        self._small = Stream(segments, chunker, outlet.emit, clock.monotonic)
        self._large = Stream(segments, chunker, outlet.emit, clock.monotonic)
        self._monotonic = clock.monotonic
        self._figures = figures
        self._note = note
        self._files = files
        self.read_seconds = 0.0

    @property
    def chunk_seconds(self) -> float:
        """Time spent cutting so far."""
        return self._small.busy_seconds + self._large.busy_seconds

    def read_now(self, found: Found, now_ns: int) -> os.stat_result | None:
        """Read a small, plain file that holds still, and put it; None when it is anything else (then: `read`).

        The short way for most files there are: what the scan saw, one read, and a look afterwards that nothing changed.
        """
        st = found.stat
        size = st.st_size
        if not size or found.file_system.pseudo:
            self._put_empty(found, now_ns)
            return st
        if size > limits.SMALL_FILE_BYTES_MAX or st.st_blocks * 512 < size or not self._make_room(size):
            return None
        began = self._monotonic()
        files, stream = self._files, self._small
        try:
            fd = files.open(found.folder.fd, found.name, st.st_uid)
            try:
                count = files.read(fd, stream.tail(size), 0)
                xattrs = xattrs_of_fd(fd)
                after = files.stat(fd)
            finally:
                files.close(fd)
        except OSError:
            return None
        if count != size or after.st_ino != st.st_ino or after.st_dev != st.st_dev or not held_still(st, after):
            return None
        flags = FLAG_RACY if is_racy(st.st_mtime_ns, st.st_ctime_ns, now_ns) else 0
        draft = Draft(found.path, st, found.file_system.id, flags, xattrs)
        stream.add(draft, size)
        self._outlet.put(draft)
        figures = self._figures
        figures.bytes_seen += size
        figures.bytes_read += size
        figures.files_read += 1
        self.read_seconds += self._monotonic() - began
        return st

    def read(self, found: Found, now_ns: int) -> Generator[Batch, None, os.stat_result | None]:
        """Read any file and put it; None when it had to be left out, else what was really read.

        `now_ns` is a moment before this call.
        """
        began = self._monotonic()
        st = found.stat
        try:
            fd = self._files.open(found.folder.fd, found.name, st.st_uid)
        except OSError as error:
            text = "vanished while the backup ran" if error.errno in _GONE else f"cannot be read: {reason(error)}"
            self._note(Note("warning", f"{text}; left out", shown(found.path)))
            return None
        try:
            st = self._files.stat(fd)
            if not stat_module.S_ISREG(st.st_mode):
                self._note(Note("warning", "was replaced while the backup ran; left out", shown(found.path)))
                return None
            flags = FLAG_RACY if is_racy(st.st_mtime_ns, st.st_ctime_ns, now_ns) else 0
            draft = Draft(found.path, st, found.file_system.id, flags, self._xattrs(fd, found.path))
            ranges = self._files.ranges(fd, st.st_size) if is_sparse(st) else ((0, st.st_size),) if st.st_size else ()
            self.read_seconds += self._monotonic() - began
            if st.st_size <= limits.SMALL_FILE_BYTES_MAX:
                data_bytes, failure = yield from self._read_small(draft, fd, ranges)
            else:
                data_bytes, failure = yield from self._read_large(draft, fd, ranges)
            began = self._monotonic()
            self._settle(draft, fd, ranges, data_bytes, failure)
        finally:
            self._files.close(fd)
            self.read_seconds += self._monotonic() - began
        self._figures.files_read += 1
        self._outlet.put(draft)
        return st

    def cut_short(self) -> None:
        """End the chunk that entries wait for."""
        self._small.cut(final=True)
        self._outlet.settle()
        self._outlet.settle()

    def finish(self) -> Generator[Batch, None, None]:
        """Cut what is left and hand everything over."""
        self._small.cut(final=True)
        yield self._outlet.take()

    def close(self) -> None:
        """Give the buffers back."""
        self._small.release()
        self._large.release()

    def _put_empty(self, found: Found, now_ns: int) -> None:
        st = found.stat
        try:
            xattrs = () if found.file_system.pseudo else xattrs_at(found.folder.fd, found.name)
        except OSError as error:
            xattrs = self._no_xattrs(error, found.path)
        flags = FLAG_RACY if is_racy(st.st_mtime_ns, st.st_ctime_ns, now_ns) else 0
        self._outlet.put(make_entry(found.path, Kind.FILE, st, found.file_system.id, flags, xattrs))

    def _xattrs(self, fd: int, path: bytes) -> Xattrs:
        try:
            return xattrs_of_fd(fd)
        except OSError as error:
            return self._no_xattrs(error, path)

    def _no_xattrs(self, error: OSError, path: bytes) -> Xattrs:
        if error.errno not in _GONE:
            text = f"extended attributes cannot be read: {reason(error)}; left out"
            self._note(Note("warning", text, shown(path)))
        return ()

    def _read_small(
        self, draft: Draft, fd: int, ranges: tuple[tuple[int, int], ...]
    ) -> Generator[Batch, None, tuple[int, OSError | None]]:
        """Append to the stream of small files. Returns bytes read and what stopped it early."""
        stream = self._small
        while not self._make_room(draft.size):
            yield self._outlet.take(segment=True)
        done = 0
        for offset, length in ranges:
            count, failure = self._piece(draft, stream, fd, offset, length)
            done += count
            if failure is not None or count < length:
                return done, failure
        return done, None

    def _make_room(self, size: int) -> bool:
        """Whether a small file of this size fits into the stream now, after cutting what can be cut."""
        stream = self._small
        if stream.uncut >= CUT_BYTES:
            stream.cut(final=False)
        if stream.room >= size:
            return True
        stream.cut(final=False)
        return stream.rotate()

    def _read_large(
        self, draft: Draft, fd: int, ranges: tuple[tuple[int, int], ...]
    ) -> Generator[Batch, None, tuple[int, OSError | None]]:
        """Cut a file by itself, handing over as it goes."""
        stream = self._large
        done = 0
        failure = None
        self._files.sequential(fd)
        for offset, length in ranges:
            end = offset + length
            while offset < end and failure is None:
                if stream.uncut >= CUT_BYTES:
                    stream.cut(final=False)
                while not stream.room:
                    stream.cut(final=False)
                    if not stream.rotate():
                        yield self._outlet.take(segment=True)
                if self._outlet.full:
                    yield self._outlet.take()
                wanted = min(end - offset, stream.room, READ_BYTES)
                count, failure = self._piece(draft, stream, fd, offset, wanted)
                offset += count
                done += count
                if count < wanted:
                    break
            if offset < end:
                break
        stream.cut(final=True)
        return done, failure

    def _piece(self, draft: Draft, stream: Stream, fd: int, offset: int, length: int) -> tuple[int, OSError | None]:
        began = self._monotonic()
        failure = None
        try:
            count = self._files.read(fd, stream.tail(length), offset)
        except OSError as error:
            count, failure = 0, error
        if count:
            stream.add(draft, count)
        self._figures.bytes_seen += count
        self._figures.bytes_read += count
        self.read_seconds += self._monotonic() - began
        return count, failure

    def _settle(
        self, draft: Draft, fd: int, ranges: tuple[tuple[int, int], ...], data_bytes: int, failure: OSError | None
    ) -> None:
        """Make the entry agree with what was read, and say so when that is not what was there."""
        wanted = sum(length for _, length in ranges)
        if data_bytes < wanted:
            ranges = clip_ranges(ranges, data_bytes)
            draft.size = ranges[-1][0] + ranges[-1][1] if ranges else 0
        draft.ranges = () if ranges == ((0, draft.size),) or not draft.size else ranges
        if failure is not None:
            text = f"failed while it was read: {reason(failure)}; kept as far as it could be read"
        elif held_still(draft.stat, self._files.stat(fd)):
            return  # shorter than its size and yet unchanged: such are the files of some virtual file systems
        else:
            text = "changed while it was read; the changed copy is kept"
        draft.flags |= FLAG_INCOMPLETE
        self._note(Note("warning", text, shown(draft.path)))
