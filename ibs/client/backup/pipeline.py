"""The trio side of one archive: bounded stages joined by channels, references only, no bytes touched.

Importable by `run`. The stages: one task drives the reading generator (each turn in a disk thread), POOL_CPU_THREADS
tasks drive encoders (processor threads), some tasks send, one consumes items in order (`Sequel`), one appends index
records. Invariants:

* Every channel is bounded, and nobody waits for somebody who waits for him: readers wait for encoders, encoders for
  senders, senders for the server; the sequel waits for hashes of chunks that were handed to the encoders before it.
* The first failure cancels all other stages; threads finish the turn they are in, then buffers and descriptors go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from ibs.client.backup.buffers import SegmentPool
from ibs.client.backup.encode import Blob, Encoding
from ibs.client.backup.figures import Figures
from ibs.client.backup.items import Batch, ChunkRef, Job
from ibs.client.backup.known import Ledger, Watermark
from ibs.core import limits
from ibs.core.ids import PLAIN_DOMAIN
from ibs.core.keys import DataKeys
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.ports.transport import BackupTransport
from ibs.runtime.throttle import Throttle
from ibs.sources.tree.content import FileAccess

JobChannel = trio.MemorySendChannel[Job]
ItemChannel = trio.MemoryReceiveChannel[tuple[Sequence[Any], int]]


class Sequel(Protocol):
    """Consumes items in order, each batch once the chunks up to its number have been hashed."""

    async def run(self, items: ItemChannel, jobs: JobChannel, hashed: Watermark) -> None:
        """Ends after the last item; closes both channels."""
        ...


@dataclass(frozen=True)
class Engine:
    """What all archives of one session share."""

    transport: BackupTransport
    pool: Pool
    clock: Clock
    figures: Figures
    ledger: Ledger
    segments: SegmentPool
    keys: DataKeys | None
    level: int
    encoders: int = limits.POOL_CPU_THREADS
    senders: int = limits.BACKUP_SENDERS
    files: FileAccess = field(default_factory=FileAccess)
    throttle: Throttle | None = None
    """Of bytes sent."""

    @property
    def domain(self) -> bytes:
        """Domain of every chunk of this session."""
        return self.keys.fingerprint if self.keys is not None else PLAIN_DOMAIN


@dataclass(frozen=True)
class Reader:
    """The reading side. `stage_seconds` gives seconds (read, chunk) so far; `provide` brings an old chunk."""

    batches: Generator[Batch, None, None]
    stage_seconds: Callable[[], tuple[float, float]]
    provide: Callable[[bytes], Awaitable[None]] | None = None
    zero: dict[int, bytes] = field(default_factory=dict)


async def run_pipeline(engine: Engine, reader: Reader, sequel: Sequel) -> None:
    """Run one archive from its first to its last byte.

    Raises whatever a stage raises, perhaps in an exception group. *Cancellation*: at any time; the reader is closed.
    """
    jobs_in, jobs_out = trio.open_memory_channel[Job](limits.BACKUP_JOBS_WAITING)
    blobs_in, blobs_out = trio.open_memory_channel[list[Blob]](limits.BACKUP_BODIES_WAITING)
    items_in, items_out = trio.open_memory_channel[tuple[Sequence[Any], int]](limits.BACKUP_BATCHES_WAITING)
    hashed = Watermark()
    try:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owns the stages of this archive
            nursery.start_soon(_drive, engine, reader, jobs_in.clone(), items_in)
            nursery.start_soon(sequel.run, items_out, jobs_in, hashed)
            for _ in range(engine.encoders):
                nursery.start_soon(_encode, engine, jobs_out.clone(), blobs_in.clone(), hashed)
            for _ in range(engine.senders):
                nursery.start_soon(_send, engine, blobs_out.clone())
            for mine in (jobs_out, blobs_in, blobs_out):
                mine.close()
    finally:
        reader.batches.close()


async def _drive(
    engine: Engine, reader: Reader, jobs: JobChannel, items: trio.MemorySendChannel[tuple[Sequence[Any], int]]
) -> None:
    """Resume the reader again and again; bring what it asks for."""
    monotonic = engine.clock.monotonic
    turn = _Turn(engine, reader)
    count = 0
    async with jobs, items:
        while (batch := await engine.pool.disk(turn.take)) is not None:
            began = monotonic()
            for job in _jobs(batch.refs, count, reader.zero):
                await jobs.send(job)
            count += len(batch.refs)
            engine.figures.chunks += len(batch.refs)
            if batch.items:
                await items.send((batch.items, count - 1))
            if batch.segment:
                await engine.segments.wait_free()
            engine.figures.add("wait", wait=monotonic() - began)
            if batch.chunk and reader.provide is not None:
                began = monotonic()
                await reader.provide(batch.chunk)
                engine.figures.add("scan", wait=monotonic() - began)


class _Turn:
    """One turn of the reading thread, its time divided among scan, read and chunk."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._read = self._chunk = 0.0
        self._entries = self._bytes = self._chunks = 0

    def take(self) -> Batch | None:
        """The next batch; None at the end."""
        monotonic, figures = self._engine.clock.monotonic, self._engine.figures
        began = monotonic()
        batch = next(self._reader.batches, None)
        whole = monotonic() - began
        read, chunk = self._reader.stage_seconds()
        spent_read, spent_chunk = read - self._read, chunk - self._chunk
        self._read, self._chunk = read, chunk
        size, entries = figures.bytes_read, figures.entries
        cut = sum(ref.length for ref in batch.refs) if batch is not None else 0
        figures.add("scan", busy=max(whole - spent_read - spent_chunk, 0.0), items=entries - self._entries)
        figures.add("read", busy=spent_read, size=size - self._bytes)
        figures.add("chunk", busy=spent_chunk, size=cut, items=len(batch.refs) if batch is not None else 0)
        self._bytes, self._entries = size, entries
        return batch


def _jobs(refs: Sequence[ChunkRef], first: int, zero: dict[int, bytes]) -> Iterator[Job]:
    """Group chunks so that a turn of an encoder is worth its hop; `first` is the number of the first one."""
    start = size = 0
    for position, ref in enumerate(refs, 1):
        size += ref.length
        if size >= limits.BACKUP_JOB_BYTES or position == len(refs):
            yield Job(list(refs[start:position]), first + start, first + position - 1, zero)
            start, size = position, 0


async def _encode(
    engine: Engine,
    jobs: trio.MemoryReceiveChannel[Job],
    blobs: trio.MemorySendChannel[list[Blob]],
    hashed: Watermark,
) -> None:
    monotonic = engine.clock.monotonic
    encoding = Encoding(
        level=engine.level, keys=engine.keys, ledger=engine.ledger, figures=engine.figures, clock=engine.clock
    )
    async with jobs, blobs:
        idle = monotonic()
        async for job in jobs:
            engine.figures.add("hash", wait=monotonic() - idle)
            made = await engine.pool.cpu(encoding.run, job)
            for ref in job.refs:
                if ref.segment is not None:
                    engine.segments.drop(ref.segment)
                    ref.segment = None
            engine.segments.announce()
            if job.last >= 0:
                hashed.done(job.first, job.last)
            idle = monotonic()
            if made:
                await blobs.send(made)
                engine.figures.add("compress", wait=monotonic() - idle)
                idle = monotonic()


async def _send(engine: Engine, blobs: trio.MemoryReceiveChannel[list[Blob]]) -> None:
    monotonic, figures = engine.clock.monotonic, engine.figures
    async with blobs:
        idle = monotonic()
        async for batch in blobs:
            size = sum(len(blob) for _, blob in batch)
            while size < limits.BACKUP_BODY_BYTES:
                try:
                    more = blobs.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
                batch.extend(more)
                size += sum(len(blob) for _, blob in more)
            for body in bodies(batch):
                sent = sum(len(blob) for _, blob in body)
                if engine.throttle is not None:
                    await engine.throttle.take(sent)
                began = monotonic()
                figures.add("send", wait=began - idle)
                await engine.transport.send([blob for _, blob in body])
                engine.ledger.acknowledge([chunk_id for chunk_id, _ in body])
                idle = monotonic()
                figures.add("send", busy=idle - began, size=sent, items=len(body))
                figures.bytes_sent += sent
                figures.chunks_sent += len(body)


def bodies(blobs: Sequence[Blob]) -> Iterator[list[Blob]]:
    """Cut into upload bodies within CHUNK_BODY_BYTES_MAX and BODY_BLOBS_MAX."""
    body: list[Blob] = []
    size = 0
    for blob in blobs:
        length = len(blob[1])
        if body and (size + length > limits.CHUNK_BODY_BYTES_MAX or len(body) >= limits.BODY_BLOBS_MAX):
            yield body
            body, size = [], 0
        body.append(blob)
        size += length
    if body:
        yield body
