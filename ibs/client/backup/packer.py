"""Cut file bytes into chunks inside pooled buffers, and tell each file where its bytes went.

Importable by the reading side of the backup pipeline; runs in its thread. Two streams share one packer: the small
files of a tree one behind the other, and one large file at a time. What the chunker cannot decide yet at the end
of a segment is copied to the next one; nothing else is ever copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ibs.client.backup.buffers import Segment, SegmentPool
from ibs.client.backup.items import ChunkRef, Draft
from ibs.core import limits
from ibs.core.chunker import Chunker


class Stream:
    """A run of bytes being cut. `room` is what may be read into `tail()` before `rotate` is needed.

    `emit` takes each finished chunk reference; `clock` gives seconds.
    """

    def __init__(
        self, pool: SegmentPool, chunker: Chunker, emit: Callable[[ChunkRef], None], clock: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._chunker = chunker
        self._emit = emit
        self._clock = clock
        self._segment: Segment | None = None
        self._start = 0
        self._fill = 0
        self._waiting: deque[list[Draft | int]] = deque()
        self.busy_seconds = 0.0

    @property
    def room(self) -> int:
        """Bytes that still fit."""
        return 0 if self._segment is None else self._pool.segment_bytes - self._fill

    @property
    def uncut(self) -> int:
        """Bytes read and not yet in a chunk."""
        return self._fill - self._start

    def tail(self, length: int) -> memoryview:
        """Where the next `length` bytes belong; at most `room`."""
        assert self._segment is not None  # noqa: S101 - `room` is 0 without a segment
        return self._segment.view[self._fill : self._fill + length]

    def add(self, draft: Draft, length: int) -> None:
        """`length` bytes of `draft` were read into the tail."""
        self._fill += length
        draft.missing += length
        if self._waiting and self._waiting[-1][0] is draft:
            self._waiting[-1][1] += length  # type: ignore[operator]
        else:
            self._waiting.append([draft, length])

    def cut(self, *, final: bool) -> None:
        """Make chunks of what can be decided; of everything when `final`."""
        segment = self._segment
        if segment is None or self._fill == self._start:
            return
        began = self._clock()
        for length in self._chunker.cut(segment.view[self._start : self._fill], final=final):
            ref = ChunkRef(segment.view[self._start : self._start + length], segment)
            self._pool.hold(segment)
            self._start += length
            self._assign(ref)
            self._emit(ref)
        self.busy_seconds += self._clock() - began

    def _assign(self, ref: ChunkRef) -> None:
        """Give the bytes of a chunk to the files they came from."""
        offset = 0
        waiting = self._waiting
        while offset < ref.length:
            head = waiting[0]
            draft: Draft = head[0]  # type: ignore[assignment]
            left: int = head[1]  # type: ignore[assignment]
            taken = min(left, ref.length - offset)
            draft.spans.append((ref, offset, taken))
            draft.missing -= taken
            offset += taken
            if taken == left:
                waiting.popleft()
            else:
                head[1] = left - taken

    def rotate(self) -> bool:
        """Go on in a fresh segment, the uncut bytes carried over; False when none is free."""
        fresh = self._pool.take()
        if fresh is None:
            return False
        carried = self._fill - self._start
        if self._segment is not None:
            fresh.view[:carried] = self._segment.view[self._start : self._fill]
            self._pool.drop(self._segment)
        self._segment = fresh
        self._start, self._fill = 0, carried
        return True

    def release(self) -> None:
        """Give the segment back; whatever was not cut is lost."""
        if self._segment is not None:
            self._pool.drop(self._segment)
            self._segment = None
        self._start = self._fill = 0
        self._waiting.clear()


CUT_BYTES = 2 * limits.TREE_CHUNK_BYTES_MAX
"""Cut when this much is uncut: enough that little is looked at twice, and the encoders start early."""
