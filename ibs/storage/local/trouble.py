"""Translation of the kernel's and SQLite's errors into ours, at the store's border.

A transport error (EIO, ESTALE, a vanished mount) never says that data is corrupt: it makes the call fail, no more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator

from ibs.errors import BusyError, DatastoreOffline, DatastoreReadOnly, FailedError, IbsError, NoSpace
from ibs.storage.local.quota import quotas, used_up

GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN, errno.EHOSTDOWN})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether the kernel or SQLite says that there is no room."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return sqlite_code(error) == sqlite3.SQLITE_FULL


def sqlite_code(error: sqlite3.Error) -> int:
    """The primary result code; 0 when the error did not come from SQLite itself."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def exhausted(error: OSError, root_fd: int | None) -> str:
    """What ran out, for ENOSPC or EDQUOT: `bytes`, `inodes` or `quota`.

    Somebody else may have given something back since: then it is what is nearer to its end.
    """
    if error.errno == errno.EDQUOT:
        return "quota"
    if root_fd is not None:
        with contextlib.suppress(OSError):
            for quota in quotas(root_fd):  # XFS says ENOSPC for a project's quota too
                if used_up(quota):
                    return "quota"
            figures = os.fstatvfs(root_fd)
            if figures.f_files and figures.f_favail * figures.f_blocks < figures.f_bavail * figures.f_files:
                return "inodes"
    return "bytes"


def translate(error: OSError, store: str, what: str, *, root_fd: int | None = None) -> IbsError:
    """Our error for one of the kernel's, met while doing `what` (a clause such as `writing a chunk`)."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in FULL:
        return NoSpace(f"datastore {store}", exhausted(error, root_fd))
    if error.errno == errno.EROFS:
        return DatastoreReadOnly(
            f"datastore {store} is read-only: its file system takes no writes ({what})",
            hint="see the kernel log for why, remount it writable, then probe the datastore",
        )
    if error.errno in GONE:
        return DatastoreOffline(store, f"its file system is gone ({what}: {reason})")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DatastoreOffline(store, f"permission denied ({what})")
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return BusyError(f"datastore {store} is short of system resources ({what}: {reason})", hint="try again")
    return FailedError(
        f"datastore {store}: {what} failed: {reason}",
        hint="see the kernel log and the disk's health; nothing was marked corrupt",
    )


def translate_sqlite(error: sqlite3.Error, store: str, what: str) -> IbsError:
    """Our error for one of SQLite's, met while doing `what` on the chunk index."""
    code = sqlite_code(error)
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(f"datastore {store}", "bytes")
    if code == sqlite3.SQLITE_READONLY:
        return DatastoreReadOnly(f"datastore {store} is read-only: its chunk index takes no writes ({what})")
    return FailedError(
        f"datastore {store}: {what} failed: chunk index: {error}",
        hint="the index is rebuilt from the chunks when the server starts again",
    )


@contextlib.contextmanager
def border(store: str, what: str, *, root_fd: int | None = None) -> Iterator[None]:
    """Translate what the block raises; errors that are ours already pass."""
    try:
        yield
    except OSError as error:
        raise translate(error, store, what, root_fd=root_fd) from error
    except sqlite3.Error as error:
        raise translate_sqlite(error, store, what) from error
