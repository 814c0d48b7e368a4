"""Pooled read buffers: a fixed number of anonymous maps, used again and again.

Importable by the backup pipeline. Fresh buffers of this size would be zero-filled by the kernel and by Python on
every use, which costs half the speed of a backup; here the pages are touched once. The pool is also what bounds the
plaintext in flight: whoever reads waits until a segment is free.

A segment is free again when nobody holds it: the reader that fills it, and each chunk cut from it until encoded.
"""

from __future__ import annotations

import contextlib
import mmap
import threading

import trio


class Segment:
    """`view` is the whole buffer. `holds` is guarded by the pool."""

    __slots__ = ("holds", "view")

    def __init__(self, size: int) -> None:
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # Only an optimisation; kernels without it refuse the advice.
            with contextlib.suppress(OSError):
                buffer.madvise(mmap.MADV_HUGEPAGE)
        self.view = memoryview(buffer)
        self.holds = 0


class SegmentPool:
    """At most `count` segments of `segment_bytes`, made when first needed. `take`, `hold`, `drop`: any thread."""

    def __init__(self, count: int, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self._count = count
        self._made = 0
        self._free: list[Segment] = []
        self._lock = threading.Lock()
        self._freed = trio.Event()

    def take(self) -> Segment | None:
        """A free segment held once by the caller, or None: then `await wait_free()` outside and try again."""
        with self._lock:
            if self._free:
                segment = self._free.pop()
            elif self._made < self._count:
                self._made += 1
                segment = Segment(self.segment_bytes)
            else:
                return None
            segment.holds = 1
            return segment

    def hold(self, segment: Segment) -> None:
        """One more holder."""
        with self._lock:
            segment.holds += 1

    def drop(self, segment: Segment) -> None:
        """One holder less; the last one frees it."""
        with self._lock:
            segment.holds -= 1
            if segment.holds == 0:
                self._free.append(segment)

    def announce(self) -> None:
        """Wake who waits, if something is free now; called from the trio thread after drops."""
        if self._free:
            self._freed.set()
            self._freed = trio.Event()

    async def wait_free(self) -> None:
        """Return when `take` is likely to succeed. *Cancellation*: at any time."""
        while not self._free and self._made >= self._count:
            await self._freed.wait()
