"""Restores an image archive: runs of chunks are leased in order and written by threads, or in order to a stream.

Imported by `client.restore.run`. Zero chunks are never fetched. What cannot be had leaves a stretch of zeros and is
reported at the end, so that the rest of a disk can be saved. *Cancellation*: what was written stays, marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from ibs.client.restore.fetch import ChunkFetcher, Lease
from ibs.client.restore.gauge import Gauge
from ibs.core import limits
from ibs.core.index import HEADER_BYTES, ZERO_ID, IndexHeader
from ibs.errors import ChunkNotFound, IbsError
from ibs.ports.pool import Pool
from ibs.restore.content import Chunks
from ibs.restore.image import ImageTarget
from ibs.restore.tree.report import Reason, RestoreReport

_CHUNKS_IN_JOB = max(1, limits.RESTORE_JOB_BYTES // limits.IMAGE_CHUNK_BYTES)
_ZERO_BYTES_MAX = 1 << 30
"""One call for a hole: long enough to cost nothing, short enough to be cancelled between."""


@dataclass(slots=True)
class _Run:
    """Neighbouring chunks, or a hole when `ids` is empty. Offsets and lengths in bytes."""

    at: int
    length: int
    ids: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


class ImageRestore:
    """One restore of one image. Use once."""

    def __init__(
        self,
        *,
        header: IndexHeader,
        index: bytes,
        target: ImageTarget,
        fetcher: ChunkFetcher,
        report: RestoreReport,
        pool: Pool,
        gauge: Gauge,
    ) -> None:
        """`index` is a whole index file whose records were checked."""
        self._records = memoryview(index)[HEADER_BYTES:]
        self._header = header
        self._target = target
        self._fetcher = fetcher
        self._report = report
        self._pool = pool
        self._gauge = gauge
        self._slots = trio.Semaphore(limits.RESTORE_JOBS_MAX)
        self._writes = trio.CapacityLimiter(1 if target.sequential else limits.RESTORE_WRITES)

    async def run(self) -> None:
        """Write the whole image. The fetcher must be running. Raises DestinationNotWritable and what ends fetching."""
        if self._target.sequential:
            await self._run_in_order()
        else:
            await self._run_in_parallel()

    def runs(self) -> Iterator[_Run]:
        """The image from its first byte to its last."""
        step, size = self._header.chunk_bytes, self._header.plain_bytes
        run = _Run(0, 0)
        for number in range(self._header.records):
            chunk_id = bytes(self._records[number * 32 : number * 32 + 32])
            at = number * step
            length = min(step, size - at)
            hole = chunk_id == ZERO_ID
            full = run.length >= _ZERO_BYTES_MAX if hole else len(run.ids) >= _CHUNKS_IN_JOB
            if run.length and (hole == bool(run.ids) or full):
                yield run
                run = _Run(at, 0)
            run.length += length
            if not hole:
                run.ids.append(chunk_id)
                run.lengths.append(length)
        if run.length:
            yield run

    async def _run_in_parallel(self) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the writes
            for run in self.runs():
                await self._slots.acquire()
                nursery.start_soon(self._run_one, run, await self._lease(run))

    async def _run_in_order(self) -> None:
        send, receive = trio.open_memory_channel[tuple[_Run, Lease | None]](limits.RESTORE_JOBS_MAX)

        async def write_all() -> None:
            async for run, lease in receive:
                await self._run_one(run, lease)

        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the one writer
            nursery.start_soon(write_all)
            async with send:
                for run in self.runs():
                    await self._slots.acquire()
                    await send.send((run, await self._lease(run)))

    async def _lease(self, run: _Run) -> Lease | None:
        return await self._fetcher.lease(dict(zip(run.ids, run.lengths, strict=True))) if run.ids else None

    async def _run_one(self, run: _Run, lease: Lease | None) -> None:
        gauge = self._gauge
        began = gauge.now()
        try:
            chunks = await lease.ready() if lease is not None else {}
            async with self._writes:
                started = gauge.now()
                written = await self._pool.disk(self._write, run, chunks)
                gauge.add("write", busy=gauge.now() - started, wait=started - began, size=written, items=1)
        finally:
            if lease is not None:
                lease.release()
            self._slots.release()
        self._report.made(size=written)
        gauge.advance(size=run.length)

    def _write(self, run: _Run, chunks: Chunks) -> int:
        """In a pool thread."""
        if not run.ids:
            self._target.zero(run.at, run.length)
            return 0
        at = run.at
        parts: list[tuple[int, memoryview]] = []
        for chunk_id, length in zip(run.ids, run.lengths, strict=True):
            data = chunks[chunk_id]
            if isinstance(data, IbsError):
                reason = Reason.MISSING if isinstance(data, ChunkNotFound) else Reason.CORRUPT
                where = b"bytes %d-%d" % (at, at + length - 1)
                self._report.add(reason, where, data.message, error=data)
                if self._target.sequential:
                    raise data  # what follows would be useless to the reader of the stream
                self._target.zero(at, length)
            else:
                parts.append((at, memoryview(data)))
            at += length
        return self._target.write(parts)
