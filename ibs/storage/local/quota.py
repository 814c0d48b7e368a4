"""Quotas that hold for a store: of its folder's project, of the server's user and group (quotactl(2)).

Used inside `storage.local`. Ext4, XFS and F2FS tell them; Btrfs, NFS and others do not, and there the first word of a
quota is the kernel's EDQUOT. A project's quota is told to root only; for other users its limits are what statvfs(3)
says of the folder. Root may write past an ext4 quota, and that is exactly why we look: the store's writers heed it.
Never raises: a quota that cannot be told is none.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_GET_FLAGS: Final = 0x801C581F  # FS_IOC_FSGETXATTR, linux/fs.h
_FLAGS_BYTES: Final = 28  # struct fsxattr: xflags, extsize, nextents, projid, cowextsize, padding
_PROJECT_AT: Final = 12
_GET_QUOTA: Final = 0x800007  # Q_GETQUOTA, linux/quota.h
_QUOTACTL_FD: Final = 443  # the same number on all but Alpha; Linux 5.14
USER, GROUP, PROJECT = 0, 1, 2
_BLOCK_BYTES: Final = 1024  # unit of block limits; used space is in bytes

_USED_UP_BYTES: Final = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class Dqblk(ctypes.Structure):
    """`struct dqblk`, linux/quota.h."""

    _fields_ = (
        ("bhardlimit", ctypes.c_uint64),
        ("bsoftlimit", ctypes.c_uint64),
        ("curspace", ctypes.c_uint64),
        ("ihardlimit", ctypes.c_uint64),
        ("isoftlimit", ctypes.c_uint64),
        ("curinodes", ctypes.c_uint64),
        ("btime", ctypes.c_uint64),
        ("itime", ctypes.c_uint64),
        ("valid", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Quota:
    """`who` it is of, as `project 77`. Totals are the lower of the hard and the soft limit; 0 for none."""

    who: str
    bytes_total: int = 0
    bytes_used: int = 0
    inodes_total: int = 0
    inodes_used: int = 0


Ask = Callable[[int, int, int], Dqblk]
"""Takes a descriptor on the file system, the kind of quota and the number of its owner. Raises OSError."""


def ask_kernel(fd: int, kind: int, number: int) -> Dqblk:
    """Q_GETQUOTA by descriptor, and by device where the kernel is older than that. Raises OSError."""
    found, command = Dqblk(), ctypes.c_uint(_GET_QUOTA << 8 | kind)
    if platform.machine() != "alpha":
        done = _libc.syscall(
            ctypes.c_long(_QUOTACTL_FD), ctypes.c_int(fd), command, ctypes.c_int(number), ctypes.byref(found)
        )
        if done == 0:
            return found
        if ctypes.get_errno() != errno.ENOSYS:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    device = device_of(fd)
    if _libc.quotactl(command, os.fsencode(device), ctypes.c_int(number), ctypes.byref(found)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def device_of(fd: int, table: str = "/proc/self/mountinfo") -> str:
    """The block device that the file system of `fd` is mounted from. Raises FileNotFoundError."""
    number = os.fstat(fd).st_dev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    with open(table, encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields, _, source = line.partition(" - ")
            if fields.split()[2] == wanted:
                return source.split()[1].encode().decode("unicode_escape")
    raise FileNotFoundError(errno.ENOENT, "no mount has this device", wanted)


def project_of(fd: int) -> int:
    """The project of a folder; 0 for none. Raises OSError where the file system knows no such thing."""
    flags = bytearray(_FLAGS_BYTES)
    fcntl.ioctl(fd, _GET_FLAGS, flags)
    return int.from_bytes(flags[_PROJECT_AT : _PROJECT_AT + 4], sys.byteorder)


def quotas(fd: int, ask: Ask = ask_kernel) -> list[Quota]:
    """Every quota with a limit that holds for new files of this process in the folder `fd`."""
    try:
        project = project_of(fd)
    except OSError:  # then it has no quotas of this kind at all
        return []
    return list(_limited(fd, project, ask))


def _limited(fd: int, project: int, ask: Ask) -> Iterator[Quota]:
    owners = ((PROJECT, "project", project), (USER, "user", os.geteuid()), (GROUP, "group", os.getegid()))
    for kind, word, number in owners:
        if kind == PROJECT and not project:
            continue
        try:
            found = ask(fd, kind, number)
        except OSError:  # switched off, not permitted, or none for this one
            continue
        quota = Quota(
            f"{word} {number}",
            _lower(found.bhardlimit, found.bsoftlimit) * _BLOCK_BYTES,
            found.curspace,
            _lower(found.ihardlimit, found.isoftlimit),
            found.curinodes,
        )
        if quota.bytes_total or quota.inodes_total:
            yield quota


def used_up(quota: Quota) -> bool:
    """Whether less than a block, or no inode, is left of it."""
    no_bytes = 0 < quota.bytes_total < quota.bytes_used + _USED_UP_BYTES
    return no_bytes or 0 < quota.inodes_total <= quota.inodes_used


def _lower(one: int, other: int) -> int:
    return min(one, other) if one and other else max(one, other)


__all__ = ["Dqblk", "Quota", "ask_kernel", "device_of", "project_of", "quotas", "used_up"]
