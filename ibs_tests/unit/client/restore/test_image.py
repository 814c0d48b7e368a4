"""How an image restore goes through its index."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
import trio

from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.gauge import Gauge
from ibs.client.restore.image import ImageRestore
from ibs.client.restore.opener import LocalOpener
from ibs.core import limits
from ibs.core.index import ZERO_ID, IndexHeader, parse_header
from ibs.restore.tree.report import RestoreReport
from ibs.runtime.pool import InlinePool
from ibs_tests.support.restores import CLOCK, MemorySnapshot

STEP = limits.IMAGE_CHUNK_BYTES


class Sink:
    """Takes an image in memory."""

    def __init__(self, size: int, *, sequential: bool = False) -> None:
        self.sequential = sequential
        self.shown = "memory"
        self.content = bytearray(b"\xff" * size)
        self.calls: list[tuple[str, int, int]] = []

    def write(self, parts: Sequence[tuple[int, memoryview]], /) -> int:
        for at, data in parts:
            self.content[at : at + len(data)] = data
            self.calls.append(("write", at, len(data)))
        return sum(len(data) for _, data in parts)

    def zero(self, at: int, length: int, /) -> None:
        self.content[at : at + length] = bytes(length)
        self.calls.append(("zero", at, length))

    def finish(self) -> None: ...

    def abandon(self) -> str:
        return ""


def image(pattern: str, tail: int = 0) -> tuple[bytes, MemorySnapshot]:
    """One letter a chunk; a dot is zeros; `tail` more bytes at the end."""
    content = b"".join(bytes(STEP) if each == "." else each.encode() * STEP for each in pattern)
    content += os.urandom(tail)
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", content)
    return content, snapshot


def restore_of(snapshot: MemorySnapshot, sink: Sink, header: IndexHeader | None = None) -> ImageRestore:
    raw = snapshot.files["d.img.idx"]
    opener = LocalOpener(
        snapshot.transport(), InlinePool(), CLOCK, domain=snapshot.domain, keys=None, entropy=os.urandom
    )
    fetcher = ChunkFetcher(opener, CLOCK)
    gauge = Gauge(CLOCK, None)
    gauge.fetcher = fetcher
    return ImageRestore(
        header=header or parse_header(raw),
        index=raw,
        target=sink,
        fetcher=fetcher,
        report=RestoreReport(),
        pool=InlinePool(),
        gauge=gauge,
    )


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize(("pattern", "tail"), [("ab.c", 0), ("....", 0), (".a.", 77), ("", 5), ("aaaaa", 1), ("", 0)])
async def test_every_byte_is_written_or_zeroed(pattern: str, tail: int, sequential: bool) -> None:
    content, snapshot = image(pattern, tail)
    sink = Sink(len(content), sequential=sequential)
    restore = restore_of(snapshot, sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restore._fetcher.run)
        await restore.run()
        nursery.cancel_scope.cancel()
    assert bytes(sink.content) == content
    if sequential:
        assert [at for _, at, _ in sink.calls] == sorted(at for _, at, _ in sink.calls)
    assert restore._gauge.done_bytes == len(content)


def test_holes_are_one_call_however_long() -> None:
    _, snapshot = image("")
    size = 3 << 30
    count = size // STEP
    restore = restore_of(snapshot, Sink(0))
    restore._header = IndexHeader("img", 32, count, size, STEP, 0, snapshot.domain, ZERO_ID, ZERO_ID)
    restore._records = memoryview(bytes(32 * count))
    runs = list(restore.runs())
    assert len(runs) == 3
    assert sum(run.length for run in runs) == size


def test_runs_are_bounded_and_alike() -> None:
    _, snapshot = image("abcde..fg", 9)
    shape = [(run.at // STEP, len(run.ids), run.length) for run in restore_of(snapshot, Sink(0)).runs()]
    assert shape == [(0, 2, 2 * STEP), (2, 2, 2 * STEP), (4, 1, STEP), (5, 0, 2 * STEP), (7, 2, 2 * STEP), (9, 1, 9)]
