"""Which errors of the kernel mean that a restore target as a whole cannot be written, and the words for them.

Used by every writer of `restore`. An error about one entry only (a name the file system refuses, a right that is
missing on one folder) is reported by that writer and does not stop it.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from ibs.errors import DestinationNotWritable

_WORDS: Final = {
    errno.ENOSPC: "no space left (bytes or inodes)",
    errno.EDQUOT: "quota exceeded",
    errno.EROFS: "read-only file system",
    errno.EIO: "input/output error",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EPIPE: "the reader of the output has gone",
    errno.EBUSY: "in use (mounted, or opened by something else)",
    errno.ENOTDIR: "not a folder",
    errno.EFBIG: "larger than a file may be there",
}
_UNUSABLE: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EPIPE)
)


def is_unusable(error: OSError) -> bool:
    """Whether nothing more can be written to that target."""
    return error.errno in _UNUSABLE


def words(error: OSError) -> str:
    """What happened, for people."""
    return _WORDS.get(error.errno or 0) or os.strerror(error.errno or 0)


def destination_error(target: str, error: OSError, *, where: str = "") -> DestinationNotWritable:
    """`error` as the product's own; `where` is the entry at hand."""
    return DestinationNotWritable(target, f"{words(error)} (at {where})" if where else words(error))
