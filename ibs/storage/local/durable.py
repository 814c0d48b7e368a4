"""What makes bytes durable on this file system, and the one place that asks for it (PROTOCOLS 2).

Used inside `storage.local`. ext4, XFS, Btrfs and ZFS on Linux 5.8 or later are flushed whole by syncfs(2) on the
descriptor held since the store was opened: it reports every write-back error since then, once. Other file systems
are flushed file by file and folder by folder.

Invariants: one flush runs at a time, because the error is told to one caller only; the first failure is remembered
and every later flush fails, because a second try would succeed without the lost pages having reached the disk.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable
from typing import Final

from ibs.errors import DatastoreReadOnly
from ibs.storage.hooks import Hook
from ibs.storage.local import files
from ibs.storage.local.gate import Gate
from ibs.storage.local.trouble import FULL

WHOLE_FLUSH_SINCE: Final = (5, 8)
WHOLE_FLUSH_MAGIC: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
}

_libc = ctypes.CDLL(None, use_errno=True)


def syncfs(fd: int) -> None:
    """Flush the file system below `fd` (syncfs(2)). Raises OSError, once for each failed write-back."""
    if _libc.syncfs(ctypes.c_int(fd)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def file_system_magic(fd: int) -> int:
    """`f_type` of fstatfs(2), which Python does not show. 0 when it cannot be told."""
    buffer = ctypes.create_string_buffer(512)  # struct statfs is 120 bytes on 64-bit Linux; f_type comes first
    if _libc.fstatfs(ctypes.c_int(fd), buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


def kernel_version(release: str) -> tuple[int, int]:
    """`6.1.0-17-amd64` gives (6, 1); (0, 0) when it cannot be read."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def flushes_whole(fd: int) -> bool:
    """Whether syncfs on this file system and kernel reports write-back errors."""
    return file_system_magic(fd) in WHOLE_FLUSH_MAGIC and kernel_version(os.uname().release) >= WHOLE_FLUSH_SINCE


class Flusher:
    """Makes written files and changed folders of one store durable. Thread-safe."""

    def __init__(
        self,
        root_fd: int,
        gate: Gate,
        hook: Hook,
        *,
        whole: bool | None = None,
        flush_whole: Callable[[int], None] = syncfs,
    ) -> None:
        """`whole` None asks the file system; `flush_whole` is syncfs, or a test's stand-in."""
        self._root_fd = root_fd
        self._gate = gate
        self._hook = hook
        self.whole = flushes_whole(root_fd) if whole is None else whole
        self._flush_whole = flush_whole
        self._one = threading.Lock()
        self._folders_lock = threading.Lock()
        self._folders: set[str] = set()
        self.failed = ""

    def file(self, fd: int) -> None:
        """A file was written through `fd`: durable now, or by the next `flush` where that covers everything.

        Raises OSError; when the disk is full this file is lost and no other, anything else ends all writing.
        """
        if self.whole:
            return
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in FULL:
                self.fail(f"the disk lost written data ({error.strerror or error})")
            raise

    def folder(self, path: str) -> None:
        """Names in the folder `path` (relative to the root) changed; the next `flush` covers it."""
        if not self.whole:
            with self._folders_lock:
                self._folders.add(path)

    def flush(self, point: str) -> None:
        """Make everything written before this call durable. `point` is the hook's name for it.

        Raises DatastoreReadOnly when it failed now or ever before; the store then takes no more writes.
        """
        with self._one:
            self.check()
            try:
                self._hook(point)
                if self.whole:
                    self._flush_whole(self._root_fd)
                else:
                    self._flush_folders()
            except OSError as error:
                self.fail(f"the disk lost written data ({error.strerror or error})")
                self.check()

    def fail(self, reason: str) -> None:
        """Remember a write-back error; the store takes no more writes."""
        self.failed = self.failed or reason
        self._gate.go_read_only(self.failed)

    def check(self) -> None:
        """Raises DatastoreReadOnly when a flush has failed."""
        if self.failed:
            raise DatastoreReadOnly(
                f"the datastore is read-only: {self.failed}",
                hint="see the kernel log; cure the disk, then restart the server so that received chunks are checked",
                lost_writes=True,
            )

    def _flush_folders(self) -> None:
        with self._folders_lock:
            waiting, self._folders = sorted(self._folders), set()
        for path in waiting:
            try:
                with files.opened(path.split("/") if path else [], dir_fd=self._root_fd) as fd:
                    os.fsync(fd)
            except FileNotFoundError:
                continue  # removed since; its parent was noted when that happened
