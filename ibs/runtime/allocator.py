"""The C library's allocator, told to keep what it will need again. Used by the entry points: `app` and `cli`.

A chunk buffer that is fetched from the system, zeroed and given back for each chunk costs more than hashing the chunk.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MMAP_BYTES: Final = 32 << 20  # glibc takes no more
_TRIM_BYTES: Final = 64 << 20


def keep_freed_memory() -> None:
    """Tell glibc to keep and reuse freed chunk buffers, in one arena for all threads, instead of returning each one.

    Nothing happens with another C library. Call it once, before threads are started.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
