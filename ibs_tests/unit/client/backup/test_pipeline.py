"""The stages: jobs worth their hop, bodies within bounds, failures and cancellation clean, memory bounded."""

from __future__ import annotations

import gc
from collections.abc import Generator, Sequence
from typing import Any

import pytest
import trio

from ibs.client.backup import pipeline
from ibs.client.backup.buffers import SegmentPool
from ibs.client.backup.encode import Blob
from ibs.client.backup.figures import Figures
from ibs.client.backup.items import Batch, ChunkRef
from ibs.client.backup.known import Ledger, Watermark
from ibs.client.backup.pipeline import Engine, ItemChannel, JobChannel, Reader, bodies, run_pipeline
from ibs.core import limits
from ibs.errors import FailedError
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool

SEGMENT = 1 << 20


class Sink:
    """Takes blobs; may fail or be slow."""

    def __init__(self) -> None:
        self.bodies: list[int] = []
        self.failure: Exception | None = None
        self.slow = False

    async def send(self, blobs: Sequence[Any]) -> None:
        await trio.lowlevel.checkpoint()
        if self.slow:
            await trio.sleep_forever()
        if self.failure is not None:
            raise self.failure
        self.bodies.append(sum(len(blob) for blob in blobs))


class Collect:
    """A sequel that keeps what came, checking that it had been hashed."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    async def run(self, items: ItemChannel, jobs: JobChannel, hashed: Watermark) -> None:
        async with items, jobs:
            async for batch, number in items:
                await hashed.wait(number)
                assert all(item.id for item in batch)
                self.items += batch


class Source:
    """Reads `count` chunks of half a segment each out of thin air."""

    def __init__(self, segments: SegmentPool, count: int, failure: Exception | None = None) -> None:
        self.segments = segments
        self.count = count
        self.failure = failure
        self.closed = False

    def batches(self) -> Generator[Batch, None, None]:
        try:
            for number in range(self.count):
                while (segment := self.segments.take()) is None:
                    yield Batch([], [], segment=True)
                view = segment.view[: SEGMENT // 2]
                view[:8] = number.to_bytes(8, "big")
                ref = ChunkRef(view, segment)  # the reader's own hold passes to the chunk
                yield Batch([ref], [ref])
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed = True


def engine(sink: Sink) -> Engine:
    segments = SegmentPool(3, SEGMENT)
    return Engine(sink, ThreadPool(), SystemClock(), Figures(), Ledger(), segments, None, 1)  # type: ignore[arg-type]


async def run(made: Engine, source: Source) -> Collect:
    sequel = Collect()
    await run_pipeline(made, Reader(source.batches(), lambda: (0.0, 0.0)), sequel)
    return sequel


async def test_everything_arrives_in_order_through_few_buffers() -> None:
    sink = Sink()
    made = engine(sink)
    source = Source(made.segments, 40)
    sequel = await run(made, source)
    assert len({item.id for item in sequel.items}) == 40
    assert made.figures.chunks_sent == made.figures.chunks == 40
    assert made.figures.bytes_sent == sum(sink.bodies)
    assert source.closed
    assert all(made.segments.take() is not None for _ in range(3))
    await made.ledger.acknowledged([item.id for item in sequel.items])


@pytest.mark.parametrize("where", ["reader", "sender", "encoder", "sequel"])
async def test_any_failing_stage_ends_all(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    made = engine(sink)
    failure = FailedError("broke")
    source = Source(made.segments, 40, failure if where == "reader" else None)
    sequel = Collect()
    if where == "sender":
        sink.failure = failure
    if where == "encoder":

        def fail(_self: object, _job: object) -> list[Blob]:
            raise failure

        monkeypatch.setattr(pipeline.Encoding, "run", fail)
    if where == "sequel":

        async def refuse(items: ItemChannel, jobs: JobChannel, hashed: Watermark) -> None:
            async with items, jobs:
                await items.receive()
                raise failure

        monkeypatch.setattr(sequel, "run", refuse)
    with pytest.RaisesGroup(FailedError, flatten_subgroups=True):
        await run_pipeline(made, Reader(source.batches(), lambda: (0.0, 0.0)), sequel)
    assert source.closed
    gc.collect()


async def test_cancelling_stops_all_stages() -> None:
    sink = Sink()
    sink.slow = True
    made = engine(sink)
    source = Source(made.segments, 1000)
    with trio.move_on_after(0.05) as scope:
        await run(made, source)
    assert scope.cancelled_caught
    assert source.closed
    # A server that takes nothing stops the reader: what is read is bounded by the buffers and channels.
    assert made.figures.chunks < 60


async def test_old_chunks_are_brought_between_two_turns() -> None:
    made = engine(Sink())
    brought: list[bytes] = []

    def batches() -> Generator[Batch, None, None]:
        yield Batch([], [], chunk=b"c" * 32)
        assert brought == [b"c" * 32]
        yield Batch([], [])

    async def provide(chunk_id: bytes) -> None:
        await trio.lowlevel.checkpoint()
        brought.append(chunk_id)

    await run_pipeline(made, Reader(batches(), lambda: (0.0, 0.0), provide), Collect())
    assert brought


def test_bodies_stay_within_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_BODY_BYTES_MAX", 100)
    monkeypatch.setattr(limits, "BODY_BLOBS_MAX", 3)
    blobs: list[Blob] = [(bytes([n]), b"x" * size) for n, size in enumerate([100, 1, 99, 50, 51, 1, 1, 1, 1])]
    cut = list(bodies(blobs))
    assert [blob for body in cut for blob in body] == blobs
    assert [[len(blob) for _, blob in body] for body in cut] == [[100], [1, 99], [50], [51, 1, 1], [1, 1]]
    assert list(bodies([])) == []
