"""Everything a restore touches lies below one folder that was opened once; no name leads out of it.

Used by the other modules of `restore.tree` and by the comparison with a live folder. Invariants (PROTOCOLS 5):
the kernel resolves every folder name by `openat2` with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
RESOLVE_NO_MAGICLINKS, or, where that call is missing, one component at a time with O_NOFOLLOW; names with `/`,
NUL, `.` or `..` never reach the kernel; open descriptors are bounded however deep or wide the tree is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ibs.core import limits
from ibs.errors import FormatError

_SYS_OPENAT2: Final = 437  # the same on every architecture
_RESOLVE: Final = 0x08 | 0x04 | 0x02  # BENEATH | NO_SYMLINKS | NO_MAGICLINKS
_FOLDER_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_STRIDE: Final = 64
"""Levels between folders left open on a long way down, so that the way up need not start at the root."""
_RENAME_NOREPLACE: Final = 1
_NOT_SUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP)

Resolver = Callable[[int, Sequence[bytes]], int]
"""(folder descriptor, component names) -> descriptor of the folder they lead to; raises OSError."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc: Final = ctypes.CDLL(None, use_errno=True)
_HOW: Final = _OpenHow(_FOLDER_FLAGS, 0, _RESOLVE)


def check_path(path: bytes) -> bytes:
    """Return `path` if it is a plain relative path below the root. Raises FormatError.

    The readers of archives check this too; nothing that writes relies on them.
    """
    if len(path) > limits.PATH_BYTES_MAX or b"\0" in path:
        raise FormatError(f"path {shown(path)!r} is not valid in an archive")
    if path and any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise FormatError(f"path {shown(path)!r} leads out of its archive")
    return path


def shown(path: bytes) -> str:
    """`path` for people and JSON: control characters and bytes that are not UTF-8 escaped, at most 4,096 characters."""
    text = path.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= 4096 else f"{text[:2000]}…{text[-2000:]}"


def resolve_by_kernel(folder_fd: int, names: Sequence[bytes]) -> int:
    """Open the folder `names` lead to from `folder_fd`, in one call of `openat2(2)`. Raises OSError."""
    path = b"/".join(names)
    found: int = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(folder_fd),
        ctypes.c_char_p(path),
        ctypes.byref(_HOW),
        ctypes.c_size_t(ctypes.sizeof(_HOW)),
    )
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def resolve_by_component(folder_fd: int, names: Sequence[bytes]) -> int:
    """The same without `openat2`: one open a name, never following a link. Raises OSError."""
    current = os.dup(folder_fd)
    for name in names:
        try:
            following = os.open(name, _FOLDER_FLAGS, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def best_resolver(folder_fd: int) -> Resolver:
    """`resolve_by_kernel` where the kernel (and its seccomp filter) has it, else `resolve_by_component`."""
    try:
        os.close(resolve_by_kernel(folder_fd, (b".",)))
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return resolve_by_component
        raise
    return resolve_by_kernel


def rename_exclusive(folder_fd: int, old: bytes, new: bytes) -> None:
    """Rename inside one folder without ever replacing `new`. Raises FileExistsError, OSError."""
    done: int = _libc.renameat2(
        ctypes.c_int(folder_fd),
        ctypes.c_char_p(old),
        ctypes.c_int(folder_fd),
        ctypes.c_char_p(new),
        ctypes.c_uint(_RENAME_NOREPLACE),
    )
    if done == 0:
        return
    number = ctypes.get_errno()
    if number not in _NOT_SUPPORTED:
        raise OSError(number, os.strerror(number), os.fsdecode(new))
    # A file system without the flag: a link fails when the name exists, just as well.
    try:
        os.link(old, new, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    else:
        os.unlink(old, dir_fd=folder_fd)
        return
    # Nor hard links (sshfs, some FUSE): look, then rename. Only somebody who writes there now can come between.
    try:
        os.stat(new, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(new))


class Folder:
    """One folder of the target. It knows its parent and its own name only, so that depth costs no paths."""

    __slots__ = ("depth", "fd", "name", "parent", "uses")

    def __init__(self, parent: Folder | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.fd = -1
        self.uses = 0

    def path(self, leaf: bytes = b"") -> bytes:
        """The path below the root of this folder, or of `leaf` in it."""
        names = [leaf] if leaf else []
        node: Folder = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return b"/".join(reversed(names))


class SafeRoot:
    """The opened target folder and a bounded set of open folders below it. Thread-safe.

    A descriptor handed out by `acquire` stays valid until the matching `release`.
    """

    def __init__(self, path: str | bytes, *, resolver: Resolver | None = None) -> None:
        """Open `path`, following links in it: it is the user's own word. Raises OSError."""
        self.shown = os.fsdecode(path)
        self.root = Folder(None, b"")
        self.root.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.resolve = resolver or best_resolver(self.root.fd)
        self._lock = threading.Lock()
        self._idle: OrderedDict[Folder, None] = OrderedDict()
        self._busy: set[Folder] = set()

    @property
    def fd(self) -> int:
        """Descriptor of the root itself."""
        return self.root.fd

    def close(self) -> None:
        """Close every descriptor. Nothing may be in use."""
        with self._lock:
            for folder in (*self._idle, *self._busy):
                self._shut(folder)
            self._idle.clear()
            self._busy.clear()
            if self.root.fd >= 0:
                os.close(self.root.fd)
                self.root.fd = -1

    def acquire(self, folder: Folder) -> int:
        """A descriptor (O_PATH) of `folder`, valid until `release`. Raises OSError."""
        if folder.parent is None:
            return folder.fd
        with self._lock:
            if folder.fd >= 0:
                return self._use(folder)
        return self._walk(folder)

    def release(self, folder: Folder) -> None:
        """Give back what `acquire` gave; the descriptor may stay open for the next user."""
        if folder.parent is None:
            return
        with self._lock:
            folder.uses -= 1
            if folder.uses == 0:
                self._busy.discard(folder)
                self._idle[folder] = None
                while len(self._idle) > limits.RESTORE_OPEN_FOLDERS_MAX:
                    self._shut(self._idle.popitem(last=False)[0])

    @contextmanager
    def held(self, folder: Folder) -> Iterator[int]:
        """`acquire` and `release` around a block."""
        descriptor = self.acquire(folder)
        try:
            yield descriptor
        finally:
            self.release(folder)

    def forget(self, folder: Folder) -> None:
        """Close the descriptor of a folder that is finished, unless somebody uses it."""
        with self._lock:
            if folder in self._idle:
                del self._idle[folder]
                self._shut(folder)

    def open_folder(self, path: bytes) -> int:
        """A new descriptor (O_PATH) of the folder at `path`; the caller closes it. Raises OSError, FormatError."""
        check_path(path)
        current = os.dup(self.root.fd)
        for names in _pieces(path.split(b"/") if path else []):
            try:
                following = self.resolve(current, names)
            finally:
                os.close(current)
            current = following
        return current

    def _use(self, folder: Folder) -> int:
        """Count one more user of an open folder. The lock is held."""
        folder.uses += 1
        if folder.uses == 1:
            self._idle.pop(folder, None)
            self._busy.add(folder)
        return folder.fd

    def _shut(self, folder: Folder) -> None:
        if folder.fd >= 0:
            os.close(folder.fd)
            folder.fd = -1

    def _walk(self, folder: Folder) -> int:
        """Open `folder` from its nearest open ancestor, leaving folders open at strides on the way."""
        way: list[Folder] = []
        node = folder
        while node.parent is not None:
            way.append(node)
            node = node.parent
            with self._lock:
                if node.parent is None or node.fd >= 0:
                    if node.parent is not None:
                        self._use(node)
                    break
        way.reverse()
        held = node
        try:
            for stretch in _pieces([step.name for step in way]):
                step = way[len(stretch) - 1]
                del way[: len(stretch)]
                descriptor = self.resolve(held.fd, stretch)
                with self._lock:
                    if step.fd < 0:
                        step.fd = descriptor
                    else:
                        os.close(descriptor)  # another thread was quicker
                    self._use(step)
                self.release(held)
                held = step
        except BaseException:
            self.release(held)
            raise
        return held.fd


def _pieces(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a way into pieces that the kernel takes in one call and whose ends are worth keeping open."""
    first, size = 0, 0
    for at, name in enumerate(names):
        if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
            raise FormatError(f"name {shown(name)!r} is not valid in an archive")
        size += len(name) + 1
        if at > first and (at - first >= _STRIDE or size > limits.SYSCALL_PATH_BYTES):
            yield names[first:at]
            first, size = at, len(name) + 1
    if first < len(names):
        yield names[first:]
