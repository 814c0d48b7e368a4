"""Entries stream while their chunks arrive, from any path on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from ibs.client.restore.chunks import TreeChunks
from ibs.client.restore.entries import TreeEntries
from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.opener import LocalOpener
from ibs.core import limits
from ibs.core.index import parse_header
from ibs.core.tree import Entry, Extent, Kind, decode_block, path_key
from ibs.errors import ChunkNotFound, CorruptChunk, FormatError
from ibs.ports.pool import Pool
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs_tests.support.restores import CLOCK, MemorySnapshot, MemoryTransport, folder

COUNT = 6000


def sample(count: int = COUNT) -> tuple[MemorySnapshot, list[Entry]]:
    """A tree of several blocks."""
    snapshot = MemorySnapshot()
    entries = [folder(b""), folder(b"d")]
    chunk = snapshot.chunk(b"x" * 100)
    for number in range(count):
        padding = ((b"user.pad", os.urandom(60)),)
        entries.append(
            Entry(path=b"d/%06d" % number, kind=Kind.FILE, size=7, extents=(Extent(chunk, 0, 7),), xattrs=padding)
        )
    entries.append(folder(b"e"))
    many = tuple(Extent(chunk, number % 2, 3) for number in range(2500))
    entries.append(Entry(path=b"e/continued", kind=Kind.FILE, size=7500, extents=many))
    snapshot.add_tree("a.tree", entries)
    return snapshot, entries


@asynccontextmanager
async def opened(
    snapshot: MemorySnapshot, pool: Pool | None = None
) -> AsyncIterator[tuple[TreeEntries, MemoryTransport]]:
    raw = snapshot.files["a.tree.idx"]
    transport = snapshot.transport()
    pool = pool or InlinePool()
    chunks = TreeChunks(parse_header(raw), raw)
    fetcher = ChunkFetcher(
        LocalOpener(transport, pool, CLOCK, domain=snapshot.domain, keys=None, entropy=os.urandom), CLOCK
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        yield TreeEntries(fetcher, chunks, pool), transport
        nursery.cancel_scope.cancel()


async def all_of(entries: TreeEntries, start: bytes = b"", prefix: bytes | None = None) -> list[Entry]:
    cursor = entries.cursor(start, prefix)
    found = []
    while batch := await cursor.take():
        assert len(batch) <= limits.RESTORE_ENTRIES_BATCH
        found += batch
    assert await cursor.take() == []
    return found


@pytest.mark.parametrize("pool", [InlinePool(), ThreadPool()])
async def test_all_entries_in_order_each_block_fetched_once(pool: Pool) -> None:
    snapshot, entries = sample()
    async with opened(snapshot, pool) as (tree, transport):
        assert tree.chunks.header.depth == 1
        assert await all_of(tree) == entries
        assert len(transport.fetched) == len(set(transport.fetched))


async def test_a_tiny_cache_only_costs_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTORE_METADATA_CACHE_BYTES", 1)
    snapshot, entries = sample(2000)
    async with opened(snapshot) as (tree, _):
        assert await all_of(tree) == entries


async def test_part_of_a_tree() -> None:
    snapshot, entries = sample()
    async with opened(snapshot) as (tree, transport):
        assert await all_of(tree, start=b"d/005990") == entries[5992:]
        assert await all_of(tree, prefix=b"e") == entries[-2:]
        assert await all_of(tree, prefix=b"none") == []
        assert len(transport.fetched) < 8


async def test_a_cursor_can_jump() -> None:
    snapshot, entries = sample()
    async with opened(snapshot) as (tree, _):
        cursor = tree.cursor()
        assert (await cursor.take())[0] == entries[0]
        cursor.seek(b"e")
        assert await cursor.take() == entries[-2:]


async def test_single_entries() -> None:
    snapshot, entries = sample()
    async with opened(snapshot) as (tree, transport):
        assert await tree.find(b"d/003000") == entries[3002]
        assert await tree.find(b"") == entries[0]
        assert await tree.find(b"e/continued") == entries[-1]
        assert await tree.find(b"d/none") is None
        assert len(transport.fetched) < 8


async def test_a_missing_block_is_an_error_after_what_came_before() -> None:
    snapshot, entries = sample()
    async with opened(snapshot) as (tree, _):
        root = tree.chunks.header.root
        metadata = [each for each, _ in tree.chunks.metadata_after(next(iter(snapshot.blobs)), 100)]
        blocks = [each for each in metadata if each != root]
        assert len(blocks) > 3
        first_lost = decode_block(snapshot.plain[blocks[-1]])[0].path
        before = [entry for entry in entries if path_key(entry.path) < path_key(first_lost)]
        del snapshot.blobs[blocks[-1]]
        cursor = tree.cursor()
        found = []
        while len(found) < len(before):
            found += await cursor.take()
        assert found == before
        with pytest.raises(ChunkNotFound):
            await cursor.take()


async def test_a_corrupt_root_is_an_error() -> None:
    snapshot, _ = sample(10)
    async with opened(snapshot) as (tree, _):
        snapshot.blobs[tree.chunks.header.root] = b"x" * 200
        with pytest.raises(CorruptChunk):
            await tree.find(b"")


async def test_metadata_outside_the_index_is_refused() -> None:
    snapshot, _ = sample()
    raw = snapshot.files["a.tree.idx"]
    header = parse_header(raw)
    # An index that lists the root only: what it leads to must not be fetched.
    other = MemorySnapshot(blobs=snapshot.blobs)
    other.add_tree_blocks("a.tree", [snapshot.plain[header.root]])
    alone = other.files["a.tree.idx"]
    deep = bytearray(alone)
    async with opened(other) as (tree, _):
        tree.chunks.header = parse_header(bytes(deep))
        tree._finder._depth = header.depth
        with pytest.raises(FormatError, match="does not list"):
            await tree.find(b"d/000001")
