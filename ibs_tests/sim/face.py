"""What the store's modules see instead of `os`, `fcntl` and `secrets`: the calls they make, on a simulated disk.

A call that is not here raises AttributeError: whoever makes the store use another one adds it, with what it does to
durability. Each call is a point at which a thread may be switched, the process killed, or the power cut. Descriptors
are never reused, so that a late call on a closed one is found out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any

from ibs_tests.sim.disk import Disk, File, Folder, Node, error

_PASSED = [
    "O_RDONLY",
    "O_WRONLY",
    "O_RDWR",
    "O_CREAT",
    "O_EXCL",
    "O_TRUNC",
    "O_DIRECTORY",
    "O_NOFOLLOW",
    "O_CLOEXEC",
    "O_NONBLOCK",
    "O_DIRECT",
    "O_APPEND",
    "ST_RDONLY",
    "POSIX_FADV_DONTNEED",
    "POSIX_FADV_WILLNEED",
    "path",
    "strerror",
    "fsencode",
    "fsdecode",
    "fspath",
    "urandom",
    "sep",
    "uname",
    "getpid",
    "SEEK_SET",
]
DEVICE = 7


@dataclass
class Opened:
    """One descriptor."""

    node: Node
    flags: int
    offset: int = 0
    locked: bool = False


@dataclass(frozen=True)
class Stat:
    """The fields of os.stat_result that are looked at."""

    st_mode: int
    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_nlink: int
    st_dev: int = DEVICE

    @property
    def st_blocks(self) -> int:
        return -(-self.st_size // 512)

    @property
    def st_ctime_ns(self) -> int:
        return self.st_mtime_ns

    @property
    def st_ctime(self) -> float:
        """As if nothing but writes and moves of its content ever touched it."""
        return self.st_mtime_ns / 1e9

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9


@dataclass(frozen=True)
class Entry:
    """As os.DirEntry."""

    name: str
    node: Node

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return isinstance(self.node, Folder)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return isinstance(self.node, File)

    def is_symlink(self) -> bool:
        return False

    def inode(self) -> int:
        return self.node.number

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        return _stat(self.node)


class Entries:
    """As what os.scandir returns."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def __enter__(self) -> Entries:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@dataclass(frozen=True)
class StatVfs:
    """As os.statvfs_result. There is no fixed number of inodes."""

    f_blocks: int
    f_bavail: int
    f_frsize: int = 1
    f_files: int = 0
    f_favail: int = 0
    f_flag: int = 0


def _stat(node: Node) -> Stat:
    if isinstance(node, File):
        return Stat(stat.S_IFREG | 0o600, node.number, node.size, node.mtime_ns, node.links)
    return Stat(stat.S_IFDIR | 0o700, node.number, 4096, node.mtime_ns, node.links)


class SimOs:
    """The calls of one process. `step(call, name)` runs before each takes effect and may raise."""

    def __init__(self, disk: Disk, mount: str, step: Callable[[str, str], None]) -> None:
        self.disk = disk
        self.mount = mount
        self.step = step
        self.open_files: dict[int, Opened] = {}
        self.before_unlink: Callable[[Folder, str, File], None] = lambda folder, name, file: None
        self.before_rename: Callable[[Folder, str, Folder, str, Node], None] = lambda *about: None
        self._next = 1000
        for name in _PASSED:
            setattr(self, name, getattr(os, name))
        self.stat_result = Stat

    def die(self) -> None:
        """The process is gone: its descriptors and locks too."""
        self.open_files.clear()

    # --- resolving ---

    def _held(self, fd: int) -> Opened:
        held = self.open_files.get(fd)
        if held is None:
            raise error(errno.EBADF, f"descriptor {fd}")
        return held

    def _folder(self, fd: int) -> Folder:
        node = self._held(fd).node
        if not isinstance(node, Folder):
            raise error(errno.ENOTDIR)
        return node

    def _file(self, fd: int) -> File:
        node = self._held(fd).node
        if not isinstance(node, File):
            raise error(errno.EISDIR)
        return node

    def place(self, path: str, dir_fd: int | None = None) -> tuple[Folder, str]:
        """The folder that holds the last part of a path, and that part ("" for the mount itself)."""
        if path.startswith("/proc/self/fd/"):
            number, _, path = path.removeprefix("/proc/self/fd/").partition("/")
            folder: Node = self._held(int(number)).node
        elif path.startswith("/"):
            if not (path + "/").startswith(self.mount + "/"):
                raise error(errno.ENOENT, path)
            folder, path = self.disk.root, path[len(self.mount) :]
        else:
            assert dir_fd is not None, f"{path!r} is relative to nothing"
            folder = self._folder(dir_fd)
        parts = [part for part in path.split("/") if part and part != "."]
        for part in parts[:-1]:
            below = folder.entries.get(part) if isinstance(folder, Folder) else None
            if below is None:
                raise error(errno.ENOENT, path)
            folder = below
        if not isinstance(folder, Folder):
            if parts:
                raise error(errno.ENOTDIR, path)
            raise error(errno.EINVAL, path)  # /proc/self/fd/N of a file: only O_DIRECT opens that, which is not here
        return folder, parts[-1] if parts else ""

    def _node(self, path: str, dir_fd: int | None) -> Node:
        folder, name = self.place(path, dir_fd)
        node = folder.entries.get(name) if name else folder
        if node is None:
            raise error(errno.ENOENT, path)
        return node

    def _new(self, node: Node, flags: int) -> int:
        self._next += 1
        self.open_files[self._next] = Opened(node, flags)
        return self._next

    # --- descriptors ---

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self.step("open", path)
        folder, name = self.place(path, dir_fd)
        node = folder.entries.get(name) if name else folder
        if node is None:
            if not flags & os.O_CREAT or folder.removed:
                raise error(errno.ENOENT, path)
            node = self.disk.new_file()
            self.disk.change((folder, name, node))
        elif flags & os.O_EXCL and flags & os.O_CREAT:
            raise error(errno.EEXIST, path)
        if flags & os.O_DIRECTORY and not isinstance(node, Folder):
            raise error(errno.ENOTDIR, path)
        if isinstance(node, Folder) and flags & (os.O_WRONLY | os.O_RDWR):
            raise error(errno.EISDIR, path)
        if flags & os.O_TRUNC and isinstance(node, File):
            self.disk.truncate(node, 0)
        return self._new(node, flags)

    def close(self, fd: int) -> None:
        self._held(fd)  # no step: a dying process closes everything, and nothing on the disk changes
        del self.open_files[fd]

    def dup(self, fd: int) -> int:
        held = self._held(fd)
        return self._new(held.node, held.flags)

    def fstat(self, fd: int) -> Stat:
        return _stat(self._held(fd).node)

    def fchmod(self, fd: int, mode: int) -> None:
        self.step("fchmod", "")

    def flock(self, fd: int, operation: int) -> None:
        """`fcntl.flock`: another descriptor's lock on the same file refuses."""
        held = self._held(fd)
        if any(each.locked and each.node is held.node and each is not held for each in self.open_files.values()):
            raise error(errno.EWOULDBLOCK)
        held.locked = True

    # --- contents ---

    def read(self, fd: int, count: int) -> bytes:
        held = self._held(fd)
        data = self.pread(fd, count, held.offset)
        held.offset += len(data)
        return data

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        self.step("pread", "")
        return self._content(fd, count, offset)

    def _content(self, fd: int, count: int, offset: int) -> bytes:
        file = self._file(fd)
        if self.disk.reads_fail:
            self.disk.reads_fail -= 1
            self.disk.faults["read error"] += 1
            raise error(errno.EIO)
        data = bytes(file.data[offset : offset + count])
        short = max(0, min(file.reserved, offset + count) - max(offset + len(data), len(file.data)))
        return data + bytes(min(short, count - len(data)))

    def preadv(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        self.step("preadv", "")
        done = 0
        for buffer in buffers:
            data = self._content(fd, len(buffer), offset + done)
            buffer[: len(data)] = data
            done += len(data)
        return done

    def write(self, fd: int, data: bytes | memoryview) -> int:
        held = self._held(fd)
        done = self.pwrite(fd, data, held.offset)
        held.offset += done
        return done

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.step("write", "")
        return self.disk.write(self._file(fd), data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        self.step("ftruncate", "")
        self.disk.truncate(self._file(fd), size)

    def posix_fallocate(self, fd: int, offset: int, size: int) -> None:
        self.step("fallocate", "")
        self.disk.reserve(self._file(fd), offset + size)

    def posix_fadvise(self, fd: int, offset: int, size: int, advice: int) -> None:
        self.step("fadvise", "")
        if advice == os.POSIX_FADV_DONTNEED:
            self.disk.drop_cache(self._file(fd))

    def fsync(self, fd: int) -> None:
        self.step("fsync", "")
        node = self._held(fd).node
        if isinstance(node, File):
            self.disk.flush_file(node)
        else:
            self.disk.flush_folder(node)  # type: ignore[arg-type]

    fdatasync = fsync

    def syncfs(self, fd: int) -> None:
        """Handed to the store as its flush."""
        self.step("syncfs", "")
        self._held(fd)
        self.disk.flush_all()

    # --- names ---

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self.step("mkdir", path)
        folder, name = self.place(path, dir_fd)
        if not name or name in folder.entries:
            raise error(errno.EEXIST, path)
        if folder.removed:
            raise error(errno.ENOENT, path)
        self.disk.change((folder, name, self.disk.new_folder()))

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        self.step("rmdir", path)
        folder, name = self.place(path, dir_fd)
        node = folder.entries.get(name)
        if node is None:
            raise error(errno.ENOENT, path)
        if not isinstance(node, Folder):
            raise error(errno.ENOTDIR, path)
        if node.entries:
            raise error(errno.ENOTEMPTY, path)
        self.disk.change((folder, name, None))

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self.step("unlink", path)
        folder, name = self.place(path, dir_fd)
        node = folder.entries.get(name)
        if node is None:
            raise error(errno.ENOENT, path)
        if not isinstance(node, File):
            raise error(errno.EISDIR, path)
        self.before_unlink(folder, name, node)
        self.disk.change((folder, name, None))

    def link(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        self.step("link", target)
        node = self._node(source, src_dir_fd)
        folder, name = self.place(target, dst_dir_fd)
        if name in folder.entries:
            raise error(errno.EEXIST, target)
        if folder.removed:
            raise error(errno.ENOENT, target)
        self.disk.change((folder, name, node))

    def rename(self, source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        self.step("rename", target)
        old_folder, old = self.place(source, src_dir_fd)
        new_folder, new = self.place(target, dst_dir_fd)
        node = old_folder.entries.get(old)
        if node is None or new_folder.removed:
            raise error(errno.ENOENT, source)
        there = new_folder.entries.get(new)
        if there is node:
            return
        if isinstance(there, Folder):
            if not isinstance(node, Folder):
                raise error(errno.EISDIR, target)
            if there.entries:
                raise error(errno.ENOTEMPTY, target)
        elif there is not None and isinstance(node, Folder):
            raise error(errno.ENOTDIR, target)
        self.before_rename(old_folder, old, new_folder, new, node)
        self.disk.move(old_folder, old, new_folder, new)

    replace = rename

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Stat:
        self.step("stat", path)
        return _stat(self._node(path, dir_fd))

    lstat = stat

    def listdir(self, path: int) -> list[str]:
        self.step("listdir", "")
        return list(self._folder(path).entries)

    def scandir(self, path: int) -> Entries:
        self.step("scandir", "")
        return Entries([Entry(name, node) for name, node in self._folder(path).entries.items()])

    def fstatvfs(self, fd: int) -> StatVfs:
        self._held(fd)
        return StatVfs(self.disk.capacity, self.disk.free)


class SimFcntl:
    """What `ownership` uses of `fcntl`."""

    LOCK_EX = 2
    LOCK_NB = 4

    def __init__(self, machine: SimOs) -> None:
        self.flock = machine.flock

    def ioctl(self, fd: int, request: int, argument: object = 0) -> int:
        """This file system knows none."""
        raise error(errno.ENOTTY)


class SimSecrets:
    """What is used of `secrets`, from the seed."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def token_hex(self, count: int) -> str:
        return self._rng.randbytes(count).hex()

    def token_bytes(self, count: int) -> bytes:
        return self._rng.randbytes(count)


class Overlay:
    """A module with some of its names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        for name, value in names.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def names_of(parts: Sequence[str]) -> str:
    """A path for messages."""
    return "/".join(parts)
