"""Walk a folder tree in the canonical order of archives, through descriptors, without following anything.

Importable by the backup pipeline; runs in a worker thread. Invariants:

* Order is bytewise by path component, a folder before what is in it. Only the names of the folders on the way
  down are held in memory, and each is dropped when it has been handed out.
* No path ever reaches the kernel longer than one component, so depth and PATH_MAX do not matter. At most
  OPEN_FOLDERS_MAX folders are open; those above are closed and found again through `..`, checked by inode.
* Nothing but folders is opened here, and never through a symbolic link: a fifo or device cannot block the walk.
* By default the walk stays on the file system of its root: a mount point is handed out as a folder and not
  entered. File systems that are views of the kernel are not entered in any case (see `meta`). Only folders are
  asked where they lie, because overlay file systems give files other device numbers than their folders.
* What cannot be listed or vanishes meanwhile costs one warning each, and the walk goes on.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ibs.core import limits
from ibs.core.tree import Kind
from ibs.errors import SourceUnreadable, UsageError
from ibs.sources.notes import Note, Noter, reason, shown
from ibs.sources.tree.exclude import EXCLUDE_FILE, EXCLUDE_FILE_BYTES_MAX, RuleList, Rules
from ibs.sources.tree.meta import FORMAT_MASK, KIND_OF_FORMAT, FileSystem, FileSystems, unopened_file_system

OPEN_FOLDERS_MAX = 64
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_ENCODING = sys.getfilesystemencoding()


class Folder:
    """A folder on the way down. `fd` is open (else -1) whenever one of its entries is handed out."""

    __slots__ = ("device", "fd", "file_system", "inode", "name", "names", "own_rules", "parent", "prefix", "rules")

    def __init__(self, parent: Folder | None, name: bytes, prefix: bytes, fd: int, st: os.stat_result) -> None:
        self.parent = parent
        self.name = name
        self.prefix = prefix
        self.fd = fd
        self.device = st.st_dev
        self.inode = st.st_ino
        self.file_system: FileSystem
        self.rules: Rules
        self.own_rules: RuleList | None = None
        self.names: list[bytes] = []

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Found(msgspec.Struct, frozen=True, gc=False):
    """One entry of the tree, as it was found; valid until the next one is asked for.

    `folder` is the folder that holds it (for the root: itself). `entered` is the folder itself when the entry is
    a folder that was opened; None for a folder that is kept empty. `listed` is False when it could not be listed.
    """

    path: bytes
    name: bytes
    kind: Kind
    stat: os.stat_result
    folder: Folder
    file_system: FileSystem
    entered: Folder | None = None
    listed: bool = True


class TreeScan:
    """One walk over `root`. Iterate once; `close` afterwards, also when it was not finished."""

    def __init__(
        self,
        root: bytes,
        *,
        note: Noter,
        excludes: Sequence[str] = (),
        all_file_systems: bool = False,
        file_systems: FileSystems | None = None,
    ) -> None:
        """Raises UsageError for an invalid pattern."""
        self.root = root
        self._note = note
        self._all_file_systems = all_file_systems
        self._file_systems = file_systems or FileSystems()
        self._command_line = RuleList(excludes)
        self._stack: list[Folder] = []

    def __iter__(self) -> Iterator[Found]:
        """Raises UsageError when the root is no folder, SourceUnreadable when it cannot be listed."""
        root, st = self._open_root()
        try:
            root.names = self._names(root.fd)
        except OSError as error:
            root.close()
            raise self._unreadable(error) from error
        self._stack.append(root)
        self._read_rules(root)
        yield Found(b"", b".", Kind.DIR, st, root, root.file_system, root)
        yield from self._walk()
        self._warn_unused(self._command_line)

    def close(self) -> None:
        """Close every folder; may be called at any time between two entries, and twice."""
        while self._stack:
            self._stack.pop().close()

    def _open_root(self) -> tuple[Folder, os.stat_result]:
        try:
            fd = os.open(self.root, _FOLDER_FLAGS)
        except NotADirectoryError as error:
            raise UsageError(
                f"source {shown(self.root)} is not a folder", hint="back up a single file or device as NAME.img"
            ) from error
        except OSError as error:
            raise self._unreadable(error) from error
        st = os.fstat(fd)
        root = Folder(None, b".", b"", fd, st)
        root.file_system = self._file_systems.of(fd, st.st_dev)
        root.rules = Rules((self._command_line,) if self._command_line else ())
        return root, st

    def _unreadable(self, error: OSError) -> SourceUnreadable:
        return SourceUnreadable(
            f"source {shown(self.root)} cannot be read: {reason(error)}", hint="check the path and your permissions"
        )

    @staticmethod
    def _names(fd: int) -> list[bytes]:
        """All names of an open folder, the first in order last (so that `pop` hands them out and frees them)."""
        listed: list[Any] = os.listdir(fd)
        # Replaced one by one: two full lists of a million names would double the memory.
        for position, name in enumerate(listed):
            listed[position] = name.encode(_ENCODING, "surrogateescape")
        listed.sort(reverse=True)
        return listed

    def _walk(self) -> Iterator[Found]:
        stack = self._stack
        while stack:
            folder = stack[-1]
            names, fd, prefix = folder.names, folder.fd, folder.prefix
            rules, file_system = folder.rules, folder.file_system
            while names:
                name = names.pop()
                path = prefix + name
                try:
                    st = os.lstat(name, dir_fd=fd)
                except OSError as error:
                    self._note(Note("warning", self._lost(error), shown(path)))
                    continue
                kind = KIND_OF_FORMAT[st.st_mode & FORMAT_MASK]
                if rules and rules.excluded(path, folder=kind is Kind.DIR):
                    continue
                if len(path) > limits.PATH_BYTES_MAX:
                    self._note(Note("warning", "path is too long; left out", shown(path)))
                    continue
                if kind is not Kind.DIR:
                    yield Found(path, name, kind, st, folder, file_system)
                    continue
                found = self._enter(folder, name, path, st)
                if found is None:
                    continue
                yield found
                if found.entered is not None:
                    break
            else:
                self._leave(folder)

    @staticmethod
    def _lost(error: OSError) -> str:
        if error.errno in _VANISHED:
            return "vanished while the backup ran; left out"
        return f"cannot be read: {reason(error)}; left out"

    def _enter(self, parent: Folder, name: bytes, path: bytes, st: os.stat_result) -> Found | None:
        """Open a folder and put it on the stack; None when it has vanished."""
        if st.st_dev != parent.device and not self._may_cross(st.st_dev):
            return Found(path, name, Kind.DIR, st, parent, unopened_file_system(st.st_dev))
        try:
            fd = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=parent.fd)
        except OSError as error:
            if error.errno in _VANISHED:
                self._note(Note("warning", self._lost(error), shown(path)))
                return None
            return self._closed(parent, name, path, st, error)
        st = os.fstat(fd)  # of what was really opened
        folder = Folder(parent, name, path + b"/", fd, st)
        folder.file_system = self._file_systems.of(fd, st.st_dev)
        folder.rules = parent.rules
        try:
            folder.names = self._names(fd)
        except OSError as error:
            folder.close()
            return self._closed(parent, name, path, st, error)
        self._stack.append(folder)
        if len(self._stack) > OPEN_FOLDERS_MAX:
            self._stack[-1 - OPEN_FOLDERS_MAX].close()
        self._read_rules(folder)
        return Found(path, name, Kind.DIR, st, parent, folder.file_system, folder)

    def _may_cross(self, device: int) -> bool:
        return self._all_file_systems and not self._file_systems.is_pseudo(device)

    def _closed(self, parent: Folder, name: bytes, path: bytes, st: os.stat_result, error: OSError) -> Found:
        self._note(Note("warning", f"folder cannot be listed: {reason(error)}; kept empty", shown(path)))
        return Found(path, name, Kind.DIR, st, parent, parent.file_system, None, listed=False)

    def _leave(self, folder: Folder) -> None:
        """The top of the stack is exhausted: find its parent again if that was closed meanwhile, and go on there."""
        if folder.own_rules is not None:
            self._warn_unused(folder.own_rules)
        self._stack.pop()
        parent = folder.parent
        try:
            if parent is not None and parent.fd < 0:
                self._reopen(parent, folder.fd)
        finally:
            folder.close()

    def _reopen(self, folder: Folder, child_fd: int) -> None:
        """Open `folder` again, through its open child or from the root; give its rest up when it is gone."""
        for way in (self._through_child, self._from_root):
            try:
                fd = way(folder, child_fd)
            except OSError:
                continue
            st = os.fstat(fd)
            if (st.st_dev, st.st_ino) == (folder.device, folder.inode):
                folder.fd = fd
                return
            os.close(fd)
        if folder.names:
            text = f"folder was moved while the backup ran; its last {len(folder.names)} entries are left out"
            self._note(Note("warning", text, shown(folder.prefix)))
            folder.names = []
        # An open descriptor keeps the walk simple; nothing is looked up through it any more.
        folder.fd = os.open("/", _FOLDER_FLAGS)

    @staticmethod
    def _through_child(_folder: Folder, child_fd: int) -> int:
        return os.open("..", _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=child_fd)

    def _from_root(self, folder: Folder, _child_fd: int) -> int:
        fd = os.open(self.root, _FOLDER_FLAGS)
        for name in folder.prefix.split(b"/")[:-1]:
            try:
                inner = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _read_rules(self, folder: Folder) -> None:
        """Take in the folder's exclude file, if it has one."""
        if EXCLUDE_FILE not in folder.names:
            return
        path = shown(folder.prefix + EXCLUDE_FILE)
        try:
            fd = os.open(EXCLUDE_FILE, _FILE_FLAGS, dir_fd=folder.fd)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    return
                content = os.read(fd, EXCLUDE_FILE_BYTES_MAX + 1)
            finally:
                os.close(fd)
        except OSError as error:
            self._note(Note("warning", f"exclude file cannot be read: {reason(error)}", path))
            return
        if len(content) > EXCLUDE_FILE_BYTES_MAX:
            self._note(Note("warning", f"exclude file is over {EXCLUDE_FILE_BYTES_MAX} bytes; not used", path))
            return
        lines = [line.removesuffix("\r") for line in content.decode("utf-8", "surrogateescape").split("\n")]
        rules = RuleList(
            lines,
            base=folder.prefix,
            origin=path,
            invalid=lambda subject: self._note(Note("warning", "not a valid pattern; not used", subject)),
        )
        if rules:
            folder.own_rules = rules
            folder.rules = folder.rules.with_folder(rules)

    def _warn_unused(self, rules: RuleList) -> None:
        for text in rules.unused():
            self._note(Note("warning", "exclude pattern matched nothing", f"{rules.origin} {text!r}"))
