"""Memory as these programs use it: the C library's allocator and the collector of cycles. Used by `app` and `cli`.

A chunk buffer that is fetched from the system, zeroed and given back for each chunk costs more than hashing the chunk.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MMAP_BYTES: Final = 32 << 20  # glibc takes no more
_TRIM_BYTES: Final = 64 << 20
_OBJECTS_AT_START: Final = 100_000
_THRESHOLDS: Final = gc.get_threshold()


def keep_freed_memory() -> None:
    """Tell glibc to keep and reuse freed chunk buffers, in one arena for all threads, instead of returning each one.

    Nothing happens with another C library. Call it once, before threads are started.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def collect_seldom() -> None:
    """While a program starts hardly any object dies: looking for cycles among its modules over and over finds none."""
    gc.set_threshold(_OBJECTS_AT_START, *_THRESHOLDS[1:])


def collect_as_usual() -> None:
    """The program has started: what is there will stay, and is not looked at again. Without the other, nothing."""
    if gc.get_threshold()[0] != _OBJECTS_AT_START:
        return
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
