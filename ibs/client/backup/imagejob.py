"""One image archive from source to closed index.

Importable by `run`. Chunks of zero bytes are recorded as such and neither stored nor sent: holes are never read, and
zeros that are read are known by their hash, which has to be made anyway.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import trio

from ibs.client.backup.buffers import Segment, SegmentPool
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
from ibs.ports.clock import Clock
from ibs.sources.image import ImageSource
from ibs.sources.notes import Note, Noter, shown

CHUNK_BYTES = limits.IMAGE_CHUNK_BYTES
_ZERO_RECORDS_MAX = limits.RECORDS_BODY_BYTES_MAX // index.IMAGE_RECORD_BYTES
"""Zero records handed on at once: a thin disk of many TiB is mostly these."""


class Zeros(NamedTuple):
    """`chunks` chunks in a row that hold nothing but zero bytes."""

    chunks: int


class ImageFront:
    """Reads an image. `read_seconds` is the time spent so far."""

    def __init__(
        self, source: ImageSource, segments: SegmentPool, *, clock: Clock, figures: Figures, note: Noter
    ) -> None:
        self._source = source
        self._segments = segments
        self._monotonic = clock.monotonic
        self._figures = figures
        self._note = note
        self._segment: Segment | None = None
        self._fill = 0
        self.read_seconds = 0.0

    def batches(self) -> Generator[Batch, None, None]:
        """Chunks in order. Raises SourceUnreadable."""
        figures = self._figures
        figures.path = self._source.path
        chunks = -(-self._source.size // CHUNK_BYTES)
        at = 0
        refs: list[ChunkRef] = []
        items: list[ChunkRef | Zeros] = []
        try:
            for first, count in self._source.data_chunks(CHUNK_BYTES):
                yield from self._zeros(at, first)
                for number in range(first, first + count):
                    while not self._room():
                        yield Batch(refs, items, segment=True)
                        refs, items = [], []
                    ref = self._read(number)
                    refs.append(ref)
                    items.append(ref)
                    if len(refs) * CHUNK_BYTES >= limits.BACKUP_BATCH_BYTES:
                        yield Batch(refs, items)
                        refs, items = [], []
                at = first + count
            yield Batch(refs, items)
            yield from self._zeros(at, chunks)
            if not self._source.check():
                self._note(Note("warning", "changed while it was read; the copy may be torn", shown(self._source.path)))
        finally:
            self.close()

    def _zeros(self, at: int, end: int) -> Generator[Batch, None, None]:
        while at < end:
            count = min(end - at, _ZERO_RECORDS_MAX)
            at += count
            self._figures.bytes_seen += min(count * CHUNK_BYTES, self._source.size - (at - count) * CHUNK_BYTES)
            yield Batch([], [Zeros(count)])

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


class ImageSequel:
    """Consumes chunk references in order and makes records of them."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer

    async def run(self, items: ItemChannel, jobs: JobChannel, hashed: Watermark) -> None:
        """See `pipeline.Sequel`."""
        records_in, records_out = trio.open_memory_channel[tuple[bytes, list[bytes]]](4)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the appender lives as long as records come
            nursery.start_soon(write_records, self._writer, records_out)
            async with items, jobs, records_in:
                async for batch, number in items:
                    await hashed.wait(number)
                    await records_in.send(_records(batch))


def _records(items: Sequence[ChunkRef | Zeros]) -> tuple[bytes, list[bytes]]:
    """Records of some chunks, and the ids among them that are stored."""
    body = b"".join(
        [bytes(index.IMAGE_RECORD_BYTES * one.chunks) if isinstance(one, Zeros) else one.id for one in items]
    )
    return body, [one.id for one in items if isinstance(one, ChunkRef) and one.id != ZERO_ID]


async def back_up_image(engine: Engine, archive: str, source: ImageSource, *, note: Noter) -> ManifestArchive:
    """Back up an opened image and close it; return what the manifest says of it.

    Raises SourceUnreadable and what the transport raises, perhaps in a group.
    """
    front = ImageFront(source, engine.segments, clock=engine.clock, figures=engine.figures, note=note)
    writer = RecordWriter(engine.transport, engine.pool, engine.ledger, archive, index.IMAGE)
    try:
        reader = Reader(front.batches(), lambda: (front.read_seconds, 0.0), zero=_zero_ids(engine, source.size))
        await run_pipeline(engine, reader, ImageSequel(writer))
        return await close_archive(engine, archive, writer, plain_bytes=source.size)
    finally:
        writer.close()
        front.close()


def _zero_ids(engine: Engine, size: int) -> dict[int, bytes]:
    """Ids of zero chunks of both lengths that an image of `size` bytes can have."""
    encoder = TimedEncoder(level=engine.level, keys=engine.keys, monotonic=engine.clock.monotonic)
    lengths = {min(size, CHUNK_BYTES), size % CHUNK_BYTES} - {0}
    return {length: encoder.identify(bytes(length)) for length in lengths}
