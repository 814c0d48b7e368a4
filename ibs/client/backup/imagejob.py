"""One image archive from source to closed index.

Importable by `run`. Chunks of zero bytes are recorded as such and neither stored nor sent: holes are never read, and
zeros that are read are known by their hash, which has to be made anyway. With a map of changes, chunks that it does not
touch are taken from the previous snapshot unread, but for a sample.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import trio

from ibs.client.backup.buffers import Segment, SegmentPool
from ibs.client.backup.changed import Flags, Unchanged
from ibs.client.backup.closing import close_archive
from ibs.client.backup.encode import TimedEncoder
from ibs.client.backup.figures import Figures
from ibs.client.backup.items import Batch, ChunkRef
from ibs.client.backup.known import Watermark
from ibs.client.backup.pipeline import Engine, ItemChannel, JobChannel, Reader, run_pipeline
from ibs.client.backup.records import RecordWriter, write_records
from ibs.core import index, limits
from ibs.core.index import ZERO_ID
from ibs.core.manifest import ManifestArchive
from ibs.errors import FailedError
from ibs.ports.clock import Clock
from ibs.sources.image import ImageSource
from ibs.sources.notes import Note, Noter, shown

CHUNK_BYTES = limits.IMAGE_CHUNK_BYTES
_ZERO_RECORDS_MAX = limits.RECORDS_BODY_BYTES_MAX // index.IMAGE_RECORD_BYTES
"""Zero records handed on at once: a thin disk of many TiB is mostly these."""


class Zeros(NamedTuple):
    """`chunks` chunks in a row that hold nothing but zero bytes."""

    chunks: int


class Taken(NamedTuple):
    """Records of the previous snapshot, for chunks that are known to be the same."""

    records: bytes


class Sampled(NamedTuple):
    """A chunk that was read although it should be the previous snapshot's `expected`."""

    ref: ChunkRef
    number: int
    expected: bytes


Item = ChunkRef | Sampled | Zeros | Taken


class ImageFront:
    """Reads an image. `read_seconds` is the time spent so far."""

    def __init__(
        self,
        source: ImageSource,
        segments: SegmentPool,
        *,
        clock: Clock,
        figures: Figures,
        note: Noter,
        unchanged: Unchanged | None = None,
    ) -> None:
        self._source = source
        self._segments = segments
        self._monotonic = clock.monotonic
        self._figures = figures
        self._note = note
        self._unchanged = unchanged
        self._taken = unchanged.taken if unchanged is not None else None
        self._segment: Segment | None = None
        self._fill = 0
        self._refs: list[ChunkRef] = []
        self._items: list[Item] = []
        self.read_seconds = 0.0

    def batches(self) -> Generator[Batch, None, None]:
        """Chunks in order. Raises SourceUnreadable; FailedError where a map of changes is seen to be wrong."""
        self._figures.path = self._source.path
        chunks = -(-self._source.size // CHUNK_BYTES)
        at = 0
        try:
            for first, count in self._source.data_chunks(CHUNK_BYTES):
                yield from self._hole(at, first)
                at = first + count
                for start, end, taken in runs(self._taken, first, at):
                    yield from self._take_over(start, end) if taken else self._data(start, end)
            yield from self._hole(at, chunks)
            yield self._hand_over()
            if not self._source.check():
                self._note(Note("warning", "changed while it was read; the copy may be torn", shown(self._source.path)))
        finally:
            self.close()

    def _hole(self, at: int, end: int) -> Generator[Batch, None, None]:
        """Chunks that are known to be zero; where the map calls them unchanged, they have to have been."""
        if self._unchanged is not None and end > at:
            before = np.frombuffer(self._unchanged.base.image_records(at, end - at), np.uint8)
            wrong = self._unchanged.same[at:end] & before.reshape(-1, index.IMAGE_RECORD_BYTES).any(axis=1)
            if wrong.any():
                raise wrong_map(at + int(wrong.argmax()), self._unchanged)
        while at < end:
            count = min(end - at, _ZERO_RECORDS_MAX)
            self._items.append(Zeros(count))
            self._figures.bytes_seen += self._bytes(at, count)
            at += count
            yield self._hand_over()

    def _take_over(self, at: int, end: int) -> Generator[Batch, None, None]:
        """Chunks that did not change."""
        assert self._unchanged is not None  # noqa: S101 - nothing else says so
        while at < end:
            count = min(end - at, _ZERO_RECORDS_MAX)
            self._items.append(Taken(self._unchanged.base.image_records(at, count)))
            size = self._bytes(at, count)
            self._figures.bytes_seen += size
            self._figures.bytes_reused += size
            at += count
            yield self._hand_over()

    def _data(self, at: int, end: int) -> Generator[Batch, None, None]:
        """Chunks that have to be read."""
        for number in range(at, end):
            while not self._room():
                yield self._hand_over(segment=True)
            ref = self._read(number)
            self._refs.append(ref)
            if self._unchanged is not None and self._unchanged.sampled[number]:
                self._items.append(Sampled(ref, number, self._unchanged.base.image_records(number, 1)))
            else:
                self._items.append(ref)
            if len(self._refs) * CHUNK_BYTES >= limits.BACKUP_BATCH_BYTES:
                yield self._hand_over()

    def _hand_over(self, *, segment: bool = False) -> Batch:
        batch = Batch(self._refs, self._items, segment=segment)
        self._refs, self._items = [], []
        return batch

    def _bytes(self, first: int, count: int) -> int:
        return min(count * CHUNK_BYTES, self._source.size - first * CHUNK_BYTES)

    def _room(self) -> bool:
        if self._segment is not None and self._fill + CHUNK_BYTES <= self._segments.segment_bytes:
            return True
        fresh = self._segments.take()
        if fresh is None:
            return False
        if self._segment is not None:
            self._segments.drop(self._segment)
        self._segment, self._fill = fresh, 0
        return True

    def _read(self, number: int) -> ChunkRef:
        assert self._segment is not None  # noqa: S101 - `_room` said yes
        began = self._monotonic()
        offset = number * CHUNK_BYTES
        length = min(CHUNK_BYTES, self._source.size - offset)
        view = self._segment.view[self._fill : self._fill + length]
        self._source.read(view, offset)
        self._fill += CHUNK_BYTES
        self._segments.hold(self._segment)
        self._figures.bytes_seen += length
        self._figures.bytes_read += length
        self.read_seconds += self._monotonic() - began
        return ChunkRef(view, self._segment)

    def close(self) -> None:
        """Release buffer and descriptor; may be called twice."""
        if self._segment is not None:
            self._segments.drop(self._segment)
            self._segment = None
        self._source.close()


def runs(flags: Flags | None, first: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Chunks `first` to `end` as runs (start, end, flag) of equal flags; without flags one run of False."""
    if flags is None:
        yield first, end, False
        return
    part = flags[first:end]
    edges = [0, *(np.flatnonzero(part[1:] != part[:-1]) + 1).tolist(), len(part)]
    for start, stop in pairwise(edges):
        yield first + start, first + stop, bool(part[start])


def wrong_map(number: int, unchanged: Unchanged) -> FailedError:
    """The map of changes is seen to be wrong at this chunk."""
    return FailedError(
        f"the map of changes is wrong: the image differs from {unchanged.snapshot} at byte {number * CHUNK_BYTES}, "
        "where the map says that nothing changed",
        hint="back up without --changed, and begin a new bitmap at that backup",
    )


class ImageSequel:
    """Consumes chunk references in order and makes records of them."""

    def __init__(self, writer: RecordWriter, unchanged: Unchanged | None = None) -> None:
        self._writer = writer
        self._unchanged = unchanged

    async def run(self, items: ItemChannel, jobs: JobChannel, hashed: Watermark) -> None:
        """See `pipeline.Sequel`."""
        records_in, records_out = trio.open_memory_channel[tuple[bytes, list[bytes]]](4)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the appender lives as long as records come
            nursery.start_soon(write_records, self._writer, records_out)
            async with items, jobs, records_in:
                async for batch, number in items:
                    await hashed.wait(number)
                    self._compare(batch)
                    await records_in.send(_records(batch))

    def _compare(self, items: Sequence[Item]) -> None:
        """Raises FailedError when a sampled chunk is not what the map makes of it."""
        for one in items:
            if isinstance(one, Sampled) and one.ref.id != one.expected:
                assert self._unchanged is not None  # noqa: S101 - it chose the samples
                raise wrong_map(one.number, self._unchanged)


def _records(items: Sequence[Item]) -> tuple[bytes, list[bytes]]:
    """Records of some chunks, and the ids among them that may still be on their way."""
    parts: list[bytes] = []
    ids: list[bytes] = []
    for one in items:
        if isinstance(one, Zeros):
            parts.append(bytes(index.IMAGE_RECORD_BYTES * one.chunks))
        elif isinstance(one, Taken):
            parts.append(one.records)
        else:
            chunk_id = one.ref.id if isinstance(one, Sampled) else one.id
            parts.append(chunk_id)
            if chunk_id != ZERO_ID:
                ids.append(chunk_id)
    return b"".join(parts), ids


async def back_up_image(
    engine: Engine, archive: str, source: ImageSource, *, note: Noter, unchanged: Unchanged | None = None
) -> ManifestArchive:
    """Back up an opened image and close it; return what the manifest says of it.

    What is `unchanged` is taken over unread. Raises SourceUnreadable, FailedError when that is seen to be wrong, and
    what the transport raises, perhaps in a group.
    """
    front = ImageFront(
        source, engine.segments, clock=engine.clock, figures=engine.figures, note=note, unchanged=unchanged
    )
    writer = RecordWriter(engine.transport, engine.pool, engine.ledger, archive, index.IMAGE)
    try:
        reader = Reader(front.batches(), lambda: (front.read_seconds, 0.0), zero=_zero_ids(engine, source.size))
        await run_pipeline(engine, reader, ImageSequel(writer, unchanged))
        return await close_archive(engine, archive, writer, plain_bytes=source.size)
    finally:
        writer.close()
        front.close()


def _zero_ids(engine: Engine, size: int) -> dict[int, bytes]:
    """Ids of zero chunks of both lengths that an image of `size` bytes can have."""
    encoder = TimedEncoder(level=engine.level, keys=engine.keys, monotonic=engine.clock.monotonic)
    lengths = {min(size, CHUNK_BYTES), size % CHUNK_BYTES} - {0}
    return {length: encoder.identify(bytes(length)) for length in lengths}
