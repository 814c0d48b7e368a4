"""The deciding side of a tree backup: walk, compare with the previous snapshot, take over or have read.

Importable by the backup pipeline only. `TreeFront.batches` is a generator without I/O to the server: it yields batches
and requests (a free segment, an old metadata chunk) and goes on when it is resumed, always in a worker thread of the
pool, never in two at once. Invariants:

* Items leave in canonical order, each once all its bytes are in chunks that left with it or before it.
* An unchanged file (racy-clean rule, formats.md section 4.4) is taken over and never opened, unless one of its chunks
  may not be reused; then it is read, which heals the datastore.
* The first path of an inode stands for it; later ones become hard links to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import TypeVar

from ibs.client.backup.base import ChunkWanted
from ibs.client.backup.figures import Figures
from ibs.client.backup.items import Batch, make_entry
from ibs.client.backup.previous import OldRun, PreviousTree
from ibs.client.backup.repack import Survey
from ibs.client.backup.treeread import Outlet, TreeFiles
from ibs.core.tree import FLAG_INCOMPLETE, FLAG_RACY, Entry, Kind, entry_unchanged, is_racy
from ibs.errors import FormatError
from ibs.ports.clock import Clock
from ibs.sources.notes import Level, Note, Noter, reason, shown
from ibs.sources.tree.hardlinks import HardLinks
from ibs.sources.tree.links import LinkProbe
from ibs.sources.tree.meta import Xattrs, device_number, xattrs_at, xattrs_of_fd
from ibs.sources.tree.scan import Found, TreeScan
from ibs.units import format_bytes

T = TypeVar("T")

DANGLING_LEVEL: Level = "warning"
"""What a symbolic link is worth whose target is not there. It is kept as it is; but whoever relies on the backup of
what it led to should know that it is not in it."""


class TreeFront:
    """One tree archive being read. `previous` is None for a first backup or when all is to be read."""

    def __init__(
        self,
        scan: TreeScan,
        files: TreeFiles,
        outlet: Outlet,
        *,
        previous: PreviousTree | None,
        clock: Clock,
        figures: Figures,
        note: Noter,
        survey: Survey | None = None,
        dangling: Level = DANGLING_LEVEL,
    ) -> None:
        self._scan = scan
        self._files = files
        self._outlet = outlet
        self._previous = previous
        self._survey = survey
        self._clock = clock
        self._figures = figures
        self._note = note
        self._dangling = dangling
        self._links = HardLinks()
        self._probe = LinkProbe()
        self._now_ns = 0
        self._run: OldRun | None = None

    def batches(self) -> Generator[Batch, None, None]:
        """Everything, in order. Raises UsageError, SourceUnreadable; OSError never leaves."""
        try:
            outlet, figures, previous = self._outlet, self._figures, self._previous
            if self._survey is not None and previous is not None:
                previous.repack = yield from self._look_over(self._survey)
            for found in self._scan:
                if not figures.entries & 0xFF:
                    self._now_ns = self._clock.now_ns()
                figures.entries += 1
                figures.path = found.path
                old = None
                if previous is not None:
                    if self._run is None:
                        self._run = yield from self._ask(previous.begin, found.path)
                    if self._run is not None and self._goes_on(self._run, found):
                        if outlet.full:
                            yield outlet.take()
                        continue
                    old = yield from self._ask(previous.match, found.path)
                if found.kind is not Kind.FILE:
                    self._other(found, old)
                elif not self._file(found, old):
                    yield from self._read(found)
                if outlet.crowded:
                    self._files.cut_short()
                if outlet.full:
                    yield outlet.take()
            self._give_up()
            yield from self._files.finish()
        finally:
            self.close()

    def previous_lost(self, error: Exception) -> None:
        """The old metadata that was asked for is not to be had: read everything from here on."""
        if self._survey is not None:
            self._survey = None  # nothing is packed anew, and what is wrong will be met again
        elif self._previous is not None:
            self._previous.end()
            # The error may name a path, which is why it is the subject.
            self._note(Note("info", "the previous snapshot cannot be built on further", str(error)))

    def close(self) -> None:
        """Release descriptors and buffers; may be called twice."""
        self._scan.close()
        self._files.close()
        self._links.close()
        self._probe.close()

    def _look_over(self, survey: Survey) -> Generator[Batch, None, frozenset[bytes]]:
        """Find the chunks to be packed anew; none where the old entries cannot all be read."""
        while self._survey is not None:
            try:
                if not survey.step():
                    break
            except ChunkWanted as wanted:
                yield self._outlet.take(chunk=wanted.chunk_id)
            except FormatError as error:
                self.previous_lost(error)
        if self._survey is None:
            return frozenset()
        self._survey = None
        found = survey.plan()
        if found.chunks:
            self._note(
                Note(
                    "info",
                    f"{found.waste_percent:.0f} % of {format_bytes(found.archive_bytes)} in chunks are no longer used: "
                    f"{len(found.chunks)} chunks ({format_bytes(found.live_bytes)} used of "
                    f"{format_bytes(found.chunk_bytes)}) are packed anew",
                )
            )
            self._figures.chunks_repacked += len(found.chunks)
        return found.chunks

    def _ask(self, question: Callable[[bytes], T | None], path: bytes) -> Generator[Batch, None, T | None]:
        """Ask the previous tree as often as it takes; the driver brings what is wanted between two turns."""
        while True:
            try:
                return question(path)
            except ChunkWanted as wanted:
                yield self._outlet.take(chunk=wanted.chunk_id)
            except FormatError as error:
                self.previous_lost(error)

    def _goes_on(self, run: OldRun, found: Found) -> bool:
        """Whether the old block is still right; complete it stands for its entries, broken off it is unfolded."""
        if not self._accepts(run, found):
            self._give_up()
            return False
        if run.complete:
            self._run = None
            self._count(run)
            self._outlet.put(run, len(run.block.entries))
        return True

    def _accepts(self, run: OldRun, found: Found) -> bool:
        """Whether the next entry of an old block stands for what was found."""
        kind, st = found.kind, found.stat
        if kind is Kind.DIR or st.st_nlink <= 1:
            if not run.accepts(found, kind, None, self._rdev(found), self._now_ns):
                return False
            if kind is Kind.SYMLINK:
                self._check_link(found, run.link())
            return True
        first = self._links.first_name((st.st_dev, st.st_ino))
        if first is not None:
            if not run.accepts(found, Kind.HARDLINK, first, 0, self._now_ns):
                return False
            self._links.passed((st.st_dev, st.st_ino))
            return True
        if not run.accepts(found, kind, None, self._rdev(found), self._now_ns):
            return False
        self._first_name(found)
        return True

    def _give_up(self) -> None:
        """Put what an old block was right about, entry by entry; what comes next is compared one by one."""
        run, self._run = self._run, None
        if run is None or self._previous is None:
            return
        self._count(run)
        # What was passed is gone from the scan: were it not sound now, nothing could be put in its place.
        for entry in self._previous.give_up(run):
            self._outlet.put(entry)

    def _count(self, run: OldRun) -> None:
        figures = self._figures
        figures.files += run.files
        figures.files_reused += run.files
        figures.bytes_reused += run.size
        figures.bytes_seen += run.size

    def _file(self, found: Found, old: Entry | None) -> bool:
        """Put a regular file if that takes no more than a moment; False when it has to be read at length."""
        several = found.stat.st_nlink > 1
        if several and self._linked(found, old):
            return True
        figures = self._figures
        kept = self._unchanged(found, old, found.stat.st_size) if old is not None else None
        if kept is not None and self._usable(kept, found):
            figures.files_reused += 1
            figures.bytes_reused += kept.size
            figures.bytes_seen += kept.size
            self._outlet.put(kept)
        elif self._files.read_now(found, self._now_ns) is None:
            return False
        figures.files += 1
        if several:
            self._first_name(found)
        return True

    def _read(self, found: Found) -> Generator[Batch, None, None]:
        """Read a file that is large, sparse, changing or unreadable."""
        read = yield from self._files.read(found, self._now_ns)
        self._now_ns = self._clock.now_ns()
        if read is None:
            return
        self._figures.files += 1
        # Had another file been put in its place meanwhile, it would not stand for the inode that the scan saw.
        if found.stat.st_nlink > 1 and (read.st_dev, read.st_ino) == (found.stat.st_dev, found.stat.st_ino):
            self._first_name(found)

    def _unchanged(self, found: Found, old: Entry, size: int) -> Entry | None:
        """The old entry, metadata brought up to date, when the racy-clean rule lets it stand for what is there now."""
        st = found.stat
        if not entry_unchanged(
            old, found.kind, size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, found.file_system.id
        ) or is_racy(st.st_mtime_ns, st.st_ctime_ns, self._now_ns):
            return None
        if old.mode == st.st_mode & 0o7777 and old.uid == st.st_uid and old.gid == st.st_gid:
            return old
        # Some file systems change these without touching ctime; content is taken over all the same.
        return make_entry(
            old.path, old.kind, st, old.fs, 0, old.xattrs, old.size, old.extents, old.ranges, old.link, old.rdev
        )

    def _usable(self, kept: Entry, found: Found) -> bool:
        """False when a chunk of the file may not or should not be reused, so that it has to be read and sent again."""
        previous = self._previous
        if previous is None or not (previous.unusable or previous.repack):
            return True
        if not any(extent.id in previous.unusable for extent in kept.extents):
            if not any(extent.id in previous.repack for extent in kept.extents):
                return True
            self._figures.files_repacked += 1
            self._figures.bytes_repacked += sum(extent.length for extent in kept.extents)
            return False
        self._figures.files_healed += 1
        self._note(Note("info", "read again: the datastore lost a chunk of it", shown(found.path)))
        return False

    def _linked(self, found: Found, old: Entry | None) -> bool:
        """Put a further name of a known inode; False for the first one."""
        st = found.stat
        first = self._links.first_name((st.st_dev, st.st_ino))
        if first is None:
            return False
        self._links.passed((st.st_dev, st.st_ino))
        kept = None
        if old is not None and old.link == first:
            kept = self._unchanged(
                Found(found.path, found.name, Kind.HARDLINK, st, found.folder, found.file_system), old, 0
            )
        self._outlet.put(
            kept or make_entry(found.path, Kind.HARDLINK, st, found.file_system.id, self._racy(st), (), link=first)
        )
        return True

    def _first_name(self, found: Found) -> None:
        self._links.add((found.stat.st_dev, found.stat.st_ino), found.path, found.stat.st_nlink)

    def _racy(self, st: os.stat_result) -> int:
        return FLAG_RACY if is_racy(st.st_mtime_ns, st.st_ctime_ns, self._now_ns) else 0

    def _other(self, found: Found, old: Entry | None) -> None:
        """Everything without content: folders, symbolic links, devices, fifos, sockets."""
        kind, st = found.kind, found.stat
        several = st.st_nlink > 1 and kind is not Kind.DIR
        if several and self._linked(found, old):
            return
        rdev = self._rdev(found)
        entry = self._unchanged(found, old, 0) if old is not None else None
        if entry is None or entry.rdev != rdev or not found.listed:
            link = b""
            if kind is Kind.SYMLINK:
                try:
                    link = os.readlink(found.name, dir_fd=found.folder.fd)
                except OSError as error:
                    self._note(Note("warning", f"cannot be read: {reason(error)}; left out", shown(found.path)))
                    return
            flags = self._racy(st) | (0 if found.listed else FLAG_INCOMPLETE)
            entry = make_entry(
                found.path, kind, st, found.file_system.id, flags, self._xattrs(found), link=link, rdev=rdev
            )
        if kind is Kind.SYMLINK:
            self._check_link(found, entry.link)
        self._outlet.put(entry)
        if several:
            self._first_name(found)

    def _check_link(self, found: Found, target: bytes) -> None:
        if self._probe.unreachable(found.folder.fd, found.name, target):
            self._note(Note(self._dangling, "symlink target is unreachable", shown(found.path)))

    @staticmethod
    def _rdev(found: Found) -> int:
        return device_number(found.stat) if found.kind is Kind.CHAR or found.kind is Kind.BLOCK else 0

    def _xattrs(self, found: Found) -> Xattrs:
        if found.kind is Kind.DIR and found.entered is None:
            return ()  # a mount point that is not entered, or a folder that may not be opened
        try:
            if found.entered is not None:
                return xattrs_of_fd(found.entered.fd)
            return xattrs_at(found.folder.fd, found.name)
        except OSError as error:
            text = f"extended attributes cannot be read: {reason(error)}; left out"
            self._note(Note("warning", text, shown(found.path)))
            return ()
