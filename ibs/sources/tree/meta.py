"""What the system knows of one file besides its content: kind, extended attributes, the file system it lies on.

Importable by the scan and by the backup pipeline. Everything goes through descriptors: a path longer than
PATH_MAX never reaches the kernel, and nothing here follows a symbolic link.

The 16 bytes that name a file system are, in this order of preference: its UUID (FS_IOC_GETFSUUID, Linux 6.9
and later; ext4, xfs, btrfs, f2fs, tmpfs), a digest of `f_fsid` (stable over reboots on most file systems), a
digest of the device number. An unstable one only means that files are read again, never that they are not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass

from blake3 import blake3

from ibs.core import limits
from ibs.core.tree import Kind

KIND_OF_FORMAT = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
FORMAT_MASK = 0o170000
"""`stat.S_IFMT` as a mask: a call a file would cost more than the comparison."""

PSEUDO_FILE_SYSTEMS = frozenset(
    {
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "efivarfs",
        "fusectl",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sysfs",
        "tracefs",
    }
)
"""Views of the kernel: they hold nothing that could be restored, and reading some of them blocks for ever."""

_FS_IOC_GETFSUUID = 0x80111500
_UNSUPPORTED = (errno.ENOTSUP, errno.ENOSYS)
_GONE = (errno.ENODATA, errno.ENOENT)

Xattrs = tuple[tuple[bytes, bytes], ...]


def xattrs_of_fd(fd: int) -> Xattrs:
    """Extended attributes of an open file or folder, sorted by name, ACLs and capabilities among them.

    Raises OSError (E2BIG when they exceed ENTRY_XATTR_BYTES_MAX together).
    """
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return ()
        raise
    return _values(fd, names) if names else ()


def xattrs_at(folder_fd: int, name: bytes) -> Xattrs:
    """The same for a symbolic link, device, fifo or socket, which are never opened.

    The kernel has no `*at` call for this, so the path leads through `/proc/self/fd`. Raises OSError.
    """
    path = b"/proc/self/fd/%d/%b" % (folder_fd, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return ()
        raise
    return _values(path, names) if names else ()


def _values(target: int | bytes, names: list[str]) -> Xattrs:
    found = []
    total = 0
    for name in names:
        try:
            # A descriptor is an open file already; the flag would be refused beside it.
            value = os.getxattr(target, name) if isinstance(target, int) else _link_value(target, name)
        except OSError as error:
            if error.errno in _GONE or error.errno in _UNSUPPORTED:
                continue
            raise
        raw = os.fsencode(name)
        total += len(raw) + len(value)
        found.append((raw, value))
    if total > limits.ENTRY_XATTR_BYTES_MAX:
        raise OSError(errno.E2BIG, f"extended attributes exceed {limits.ENTRY_XATTR_BYTES_MAX} bytes")
    found.sort()
    return tuple(found)


def _link_value(path: bytes, name: str) -> bytes:
    return os.getxattr(path, name, follow_symlinks=False)


def device_number(st: os.stat_result) -> int:
    """The device of a device node as the tree format writes it."""
    return os.major(st.st_rdev) << 32 | os.minor(st.st_rdev)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """`id`: 16 bytes. `pseudo`: a view of the kernel, whose files have no content worth reading."""

    id: bytes
    pseudo: bool


class FileSystems:
    """File systems met in one run, looked at once each. Not thread-safe."""

    def __init__(self, mountinfo: str = "/proc/self/mountinfo") -> None:
        self._mountinfo = mountinfo
        self._known: dict[int, FileSystem] = {}
        self._types: dict[int, str] = {}

    def of(self, fd: int, device: int) -> FileSystem:
        """The file system of an open file or folder whose `st_dev` is `device`."""
        known = self._known.get(device)
        if known is None:
            known = self._known[device] = FileSystem(_identity(fd, device), self.is_pseudo(device))
        return known

    def is_pseudo(self, device: int) -> bool:
        """True for a view of the kernel. False where the mount table does not say."""
        if device not in self._types:
            self._types = _types(self._mountinfo)
            self._types.setdefault(device, "")
        return self._types[device] in PSEUDO_FILE_SYSTEMS


def unopened_file_system(device: int) -> FileSystem:
    """What stands for the file system behind a mount point that is not entered."""
    return FileSystem(_digest(b"device", device), pseudo=False)


def _identity(fd: int, device: int) -> bytes:
    answer = bytearray(17)
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFSUUID, answer)
        uuid = bytes(answer[1:])
        if answer[0] == 16 and any(uuid):
            return uuid
    except OSError:
        pass  # an older kernel, or a file system without a UUID
    try:
        if fsid := os.fstatvfs(fd).f_fsid:
            return _digest(b"fsid", fsid)
    except OSError:
        pass
    return _digest(b"device", device)


def _digest(what: bytes, number: int) -> bytes:
    return blake3(b"ironcore-backup file system " + what + b" %d" % number).digest(length=16)


def _types(mountinfo: str) -> dict[int, str]:
    """`st_dev` → type for every mount this process sees; empty when the table cannot be read."""
    types: dict[int, str] = {}
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                head, _, tail = line.partition(" - ")
                major, _, minor = head.split()[2].partition(":")
                types[os.makedev(int(major), int(minor))] = tail.split(maxsplit=1)[0]
    except (OSError, ValueError, IndexError):
        return types
    return types
