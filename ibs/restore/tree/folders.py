"""The folders of a restore: made or merged into, kept countable, and given their metadata last.

Used by the planner (which makes and closes folders in archive order) and the writer (which finishes what is in them,
from several threads). Invariant: a folder gets its final owner, mode and times only after everything below it is
done, so a read-only folder never stands in the way and its mtime stays as archived; until then it has mode 0700.
Memory grows with depth times the length of one name, not of a path.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from enum import Enum
from typing import Final

import msgspec

from ibs.core import limits
from ibs.core.tree import Entry, Kind
from ibs.restore.tree.metadata import MetadataWriter
from ibs.restore.tree.report import Reason, RestoreReport
from ibs.restore.tree.safe_path import Folder, SafeRoot, shown
from ibs.restore.trouble import destination_error, is_unusable, words

TEMP_PREFIX: Final = b".ibs-restore-"
_READ_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_KIND_MODES: Final = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}


class Overwrite(Enum):
    """What happens to something that exists in the target under the name of an entry."""

    NEVER = "never"
    IF_NEWER = "if-newer"
    ALWAYS = "always"


class State(Enum):
    PLANNED = "planned"  # not in the target yet: nothing below it was wanted so far
    MADE = "made"
    BLOCKED = "blocked"  # could not be made; nothing below it is restored


class TargetFolder(Folder):
    """A folder of the target with its archived metadata (`entry`, without its path)."""

    __slots__ = ("closed", "entry", "fresh", "pending", "settle", "state")

    def __init__(self, parent: TargetFolder | None, name: bytes, entry: Entry | None) -> None:
        super().__init__(parent, name)
        self.entry = msgspec.structs.replace(entry, path=b"") if entry is not None else None
        self.state = State.PLANNED
        self.fresh = False
        self.settle = False
        """Whether the archived metadata is to be applied when all below is done."""
        self.pending = 0
        self.closed = False


def same_kind(entry: Entry, found: os.stat_result) -> bool:
    """Whether what was found in the target is of the kind the entry asks for."""
    return stat.S_IFMT(found.st_mode) == _KIND_MODES.get(entry.kind, stat.S_IFREG)


def may_replace(overwrite: Overwrite, entry: Entry, found: os.stat_result) -> bool:
    """The overwrite rule: never, always, or only what is older than the archived entry."""
    if overwrite is Overwrite.IF_NEWER:
        return entry.mtime_ns > found.st_mtime_ns
    return overwrite is Overwrite.ALWAYS


class FolderKeeper:
    """Makes folders and gives them their metadata when the last thing in them is done."""

    def __init__(
        self,
        root: SafeRoot,
        report: RestoreReport,
        *,
        overwrite: Overwrite,
        fresh: bool,
        resumed: bool = False,
        stale_nonce: str = "",
    ) -> None:
        """`fresh`: the target was empty at the start. `resumed`: an interrupted restore of the same archive began it
        empty. `stale_nonce` names temporary files of an interrupted run, to be removed where they are met."""
        self.root = root
        self.report = report
        self.metadata = MetadataWriter(report)
        self.overwrite = overwrite
        self.resumed = resumed
        self._fresh = fresh
        self._stale = TEMP_PREFIX + stale_nonce.encode() + b"-" if stale_nonce else b""
        self._lock = threading.Lock()
        self._lost: set[int] = set()
        self._lost_overflow = False
        self._root_folder: TargetFolder | None = None

    # --- entries that are not in the target as archived ---

    def mark_lost(self, path: bytes) -> None:
        """Remember that `path` is not what the archive holds: nothing may be linked to it."""
        with self._lock:
            if len(self._lost) < limits.RESTORE_LOST_PATHS_MAX:
                self._lost.add(hash(path))
            else:
                self._lost_overflow = True

    def is_lost(self, path: bytes) -> bool:
        """Whether `path` may be something else than archived. Errs on the side of yes."""
        with self._lock:
            return self._lost_overflow or hash(path) in self._lost

    # --- making ---

    def adopt_root(self, entry: Entry | None, *, settle: bool) -> TargetFolder:
        """The target itself as the archive's root folder, opened already. `settle`: it may get the root's metadata."""
        folder = TargetFolder(None, b"", entry)
        folder.fd = self.root.fd
        folder.state = State.MADE
        folder.fresh = self._fresh
        if entry is not None and settle:
            folder.settle = self._fresh or self.resumed or may_replace(self.overwrite, entry, os.fstat(folder.fd))
        if not self._fresh:
            self._clean(folder)
        self.hold(folder)  # until `complete`: the marker's removal is a change of the root like any other
        self._root_folder = folder
        return folder

    def complete(self) -> None:
        """Everything is done, the marker included: the root may get its metadata. Raises DestinationNotWritable."""
        folder, self._root_folder = self._root_folder, None
        if folder is not None:
            self.done(folder)

    def make(self, folder: TargetFolder, *, settle: bool) -> bool:
        """Bring `folder` and its ancestors into the target; False when one cannot be.

        `settle` says that the folder itself was asked for: then an existing one may get the archived metadata too.
        Raises DestinationNotWritable when the target as a whole is.
        """
        if folder.state is State.MADE:
            return True
        way: list[TargetFolder] = []
        node: Folder | None = folder
        while isinstance(node, TargetFolder) and node.state is State.PLANNED:
            way.append(node)
            node = node.parent
        blocked = isinstance(node, TargetFolder) and node.state is State.BLOCKED
        for step in reversed(way):
            blocked = blocked or not self._try_one(step, settle=settle and step is folder)
            if blocked:
                step.state = State.BLOCKED
        return not blocked

    def _try_one(self, folder: TargetFolder, *, settle: bool) -> bool:
        try:
            return self._make_one(folder, settle=settle)
        except OSError as error:
            if is_unusable(error):
                raise destination_error(self.root.shown, error, where=shown(folder.path())) from error
            self.report.add(Reason.NOT_CREATED, folder.path(), f"{words(error)}; nothing below it was restored")
            return False

    def _make_one(self, folder: TargetFolder, *, settle: bool) -> bool:
        parent = folder.parent
        assert isinstance(parent, TargetFolder)  # noqa: S101 - the root is adopted, never made
        with self.root.held(parent) as parent_fd:
            try:
                os.mkdir(folder.name, 0o700, dir_fd=parent_fd)
                folder.fresh = True
            except FileExistsError:
                if not self._merge(parent_fd, folder):
                    return False
            folder.state = State.MADE
            assert folder.entry is not None  # noqa: S101 - only the root may lack one
            if folder.fresh:
                folder.settle = True
                if not parent.fresh:
                    self._strip(parent_fd, folder.name)
                self.report.made_folder()
            elif self.resumed:
                folder.settle = True
            elif settle:
                found = os.stat(folder.name, dir_fd=parent_fd, follow_symlinks=False)
                folder.settle = may_replace(self.overwrite, folder.entry, found)
        if not folder.fresh:
            self._clean(folder)
        self.hold(parent)
        return True

    def _merge(self, parent_fd: int, folder: TargetFolder) -> bool:
        """The name is taken: merge into a folder, replace something else where that was asked for."""
        assert folder.entry is not None  # noqa: S101 - only the root may lack one
        found = os.stat(folder.name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return True
        if not may_replace(self.overwrite, folder.entry, found):
            self.report.add(Reason.IN_THE_WAY, folder.path(), "a folder is archived; nothing below it was restored")
            return False
        os.unlink(folder.name, dir_fd=parent_fd)
        os.mkdir(folder.name, 0o700, dir_fd=parent_fd)
        folder.fresh = True
        return True

    def _strip(self, parent_fd: int, name: bytes) -> None:
        with suppress(OSError):
            fd = os.open(name, _READ_FOLDER, dir_fd=parent_fd)
            try:
                self.metadata.strip_acls(fd)
            finally:
                os.close(fd)

    def _clean(self, folder: TargetFolder) -> None:
        """Remove what an interrupted run left in a folder that was there before."""
        if not self._stale:
            return
        with suppress(OSError), self.root.held(folder) as path_fd:
            fd = os.open(b".", _READ_FOLDER, dir_fd=path_fd)
            try:
                names = [os.fsencode(name) for name in os.listdir(fd)]
                for name in names:
                    if name.startswith(self._stale):
                        os.unlink(name, dir_fd=fd)
            finally:
                os.close(fd)

    # --- finishing ---

    def hold(self, folder: TargetFolder) -> None:
        """One more thing in `folder` is still to be done."""
        with self._lock:
            folder.pending += 1

    def done(self, folder: TargetFolder) -> None:
        """One thing in `folder` is done, well or not; the last one gives a closed folder its metadata."""
        with self._lock:
            folder.pending -= 1
            ready = folder.closed and folder.pending == 0
        if ready:
            self._finish(folder)

    def close(self, folder: TargetFolder) -> None:
        """No more entries of `folder` will come."""
        with self._lock:
            folder.closed = True
            ready = folder.pending == 0
        if ready:
            self._finish(folder)

    def _finish(self, folder: TargetFolder) -> None:
        """Apply metadata, then do the same for parents that waited for this folder only."""
        node: TargetFolder | None = folder
        while node is not None:
            made = node.state is State.MADE
            if made and node.settle:
                self._settle(node)
            self.root.forget(node)
            parent = node.parent
            node = None
            if made and isinstance(parent, TargetFolder):
                with self._lock:
                    parent.pending -= 1
                    if parent.closed and parent.pending == 0:
                        node = parent

    def _settle(self, folder: TargetFolder) -> None:
        assert folder.entry is not None  # noqa: S101 - `settle` is set with an entry only
        try:
            with self.root.held(folder) as path_fd:
                fd = os.open(b".", _READ_FOLDER, dir_fd=path_fd)
                try:
                    if not folder.fresh:
                        self.metadata.strip_acls(fd, keep=folder.entry)
                    self.metadata.to_descriptor(fd, folder.entry, folder)
                finally:
                    os.close(fd)
        except OSError as error:
            if is_unusable(error):
                raise destination_error(self.root.shown, error, where=shown(folder.path())) from error
            self.report.add(Reason.MODE, folder.path(), words(error))
