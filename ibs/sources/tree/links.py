"""Is the target of a symbolic link there? Asked so that the answer can neither block nor mount anything.

Linux `openat2(2)` with RESOLVE_NO_XDEV stops where the way leads onto another mount: no automounter is woken and
no dead network file system is waited for. What cannot be told that way counts as reachable.
"""

from __future__ import annotations

import ctypes
import errno
import os

_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_UNREACHABLE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EACCES)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class LinkProbe:
    """Looks where links lead. Holds one descriptor of `/`; `close` it."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_XDEV)
        self._root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def unreachable(self, folder_fd: int, name: bytes, target: bytes) -> bool:
        """True when following `name` in the open folder is known to lead nowhere."""
        absolute = target.startswith(b"/")
        # An absolute target seen from a folder on another mount would look like a crossing; start at the root instead.
        base, path = (self._root, target.lstrip(b"/") or b".") if absolute else (folder_fd, name)
        fd = self._libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(base),
            ctypes.c_char_p(path),
            ctypes.byref(self._how),
            ctypes.c_size_t(ctypes.sizeof(self._how)),
        )
        if fd >= 0:
            os.close(fd)
            return False
        return ctypes.get_errno() in _UNREACHABLE

    def close(self) -> None:
        """Release the descriptor; may be called twice."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
