"""Chunks are fetched ahead, within their window, and what is wrong with one is in its place."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.opener import LocalOpener
from ibs.core import limits
from ibs.core.keys import DataKeys
from ibs.errors import ChunkNotFound, CorruptChunk, FingerprintMismatch, FormatError, ServerUnreachable, SessionLost
from ibs.runtime.clock import LoopClock
from ibs.runtime.pool import InlinePool
from ibs_tests.support.restores import MemorySnapshot, MemoryTransport

MIB = limits.MIB


class Gate(MemoryTransport):
    """A transport whose answers wait until they are let through, and which can fail."""

    def __init__(self, snapshot: MemorySnapshot) -> None:
        super().__init__(snapshot)
        self.open_gate = trio.Event()
        self.open_gate.set()
        self.failures: list[Exception] = []
        self.asked: list[list[bytes]] = []

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        self.asked.append(list(ids))
        await self.open_gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await super().fetch(ids)


@asynccontextmanager
async def fetching(
    transport: MemoryTransport, *, keys: DataKeys | None = None, window_bytes: int = 1000, cache_bytes: int = 1000
) -> AsyncIterator[ChunkFetcher]:
    opener = LocalOpener(
        transport, InlinePool(), LoopClock(), domain=transport.snapshot.domain, keys=keys, entropy=os.urandom
    )
    fetcher = ChunkFetcher(opener, LoopClock(), window_bytes=window_bytes, cache_bytes=cache_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        yield fetcher
        nursery.cancel_scope.cancel()


def snapshot_of(count: int, size: int = 100, keys: DataKeys | None = None) -> tuple[MemorySnapshot, list[bytes]]:
    snapshot = MemorySnapshot(keys=keys)
    return snapshot, [snapshot.chunk(b"%06d" % number + os.urandom(size - 6)) for number in range(count)]


@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"r" * 32)])
async def test_chunks_come_as_they_were(keys: DataKeys | None) -> None:
    snapshot, ids = snapshot_of(5, keys=keys)
    async with fetching(Gate(snapshot), keys=keys) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, 100))
        assert await lease.ready() == {each: snapshot.plain[each] for each in ids}
        lease.release()
        lease.release()
        assert fetcher.figures.chunks == 5
        assert fetcher.figures.plain_bytes == 500


async def test_the_window_bounds_what_is_asked_for() -> None:
    snapshot, ids = snapshot_of(3)
    transport = Gate(snapshot)
    async with fetching(transport, window_bytes=250) as fetcher:
        first = await fetcher.lease({ids[0]: 100, ids[1]: 100})
        with trio.move_on_after(1) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetcher.lease, {ids[2]: 100})
                await trio.testing.wait_all_tasks_blocked()
                assert ids[2] not in fetcher._slots
                first.release()
        assert not scope.cancelled_caught
        assert ids[2] in fetcher._slots


async def test_a_lease_larger_than_the_window_is_let_through_alone() -> None:
    snapshot, ids = snapshot_of(4)
    async with fetching(Gate(snapshot), window_bytes=150) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, 100))
        assert len(await lease.ready()) == 4
        lease.release()


async def test_chunks_leased_twice_are_fetched_once_and_cached_after() -> None:
    snapshot, ids = snapshot_of(2)
    transport = Gate(snapshot)
    async with fetching(transport) as fetcher:
        one, two = await fetcher.lease({ids[0]: 100}), await fetcher.lease({ids[0]: 100})
        assert fetcher._held_bytes == 100
        await one.ready()
        one.release()
        assert fetcher._held_bytes == 100
        two.release()
        assert fetcher._held_bytes == 0
        await (await fetcher.lease({ids[0]: 100})).ready()
        assert transport.fetched == [ids[0]]


async def test_the_cache_is_bounded_and_keeps_what_was_used_last() -> None:
    snapshot, ids = snapshot_of(4)
    async with fetching(Gate(snapshot), cache_bytes=200) as fetcher:
        for each in ids:
            lease = await fetcher.lease({each: 100})
            await lease.ready()
            lease.release()
        assert list(fetcher._idle) == ids[2:]
        assert set(fetcher._slots) == set(ids[2:])


async def test_requests_are_bounded_in_number_and_bytes() -> None:
    snapshot, ids = snapshot_of(200)
    transport = Gate(snapshot)
    async with fetching(transport, window_bytes=10**9) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, 100))
        await lease.ready()
        assert max(map(len, transport.asked)) <= limits.FETCH_IDS_MAX
        assert len(transport.asked) == 4
        lease.release()
    snapshot, ids = snapshot_of(6, size=MIB * 3 // 2)
    transport = Gate(snapshot)
    async with fetching(transport, window_bytes=10**9) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, MIB * 3 // 2))
        await lease.ready()
        assert [len(ids) for ids in transport.asked] == [2, 2, 2]


async def test_several_requests_are_under_way_at_once() -> None:
    snapshot, ids = snapshot_of(12, size=MIB)
    transport = Gate(snapshot)
    transport.open_gate = trio.Event()
    async with fetching(transport, window_bytes=10**9) as fetcher:
        await fetcher.lease(dict.fromkeys(ids, MIB))
        await trio.testing.wait_all_tasks_blocked()
        assert len(transport.asked) == 3
        transport.open_gate.set()


async def test_a_missing_chunk_is_an_error_in_its_place_only() -> None:
    snapshot, ids = snapshot_of(3)
    del snapshot.blobs[ids[1]]
    async with fetching(Gate(snapshot)) as fetcher:
        found = await (await fetcher.lease(dict.fromkeys(ids, 100))).ready()
        assert isinstance(found[ids[1]], ChunkNotFound)
        assert found[ids[0]] == snapshot.plain[ids[0]]
        assert found[ids[2]] == snapshot.plain[ids[2]]


async def test_a_corrupt_chunk_is_asked_for_once_more() -> None:
    snapshot, ids = snapshot_of(2)
    good = snapshot.blobs[ids[0]]
    snapshot.blobs[ids[0]] = good[:-1] + bytes([good[-1] ^ 1])
    transport = Gate(snapshot)
    async with fetching(transport) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, 100))
        found = await lease.ready()
        error = found[ids[0]]
        assert isinstance(error, CorruptChunk)
        assert ids[0].hex() in error.message
        assert transport.fetched.count(ids[0]) == 2
        lease.release()
        # What failed is not kept: the next one to want it asks again.
        snapshot.blobs[ids[0]] = good
        assert (await (await fetcher.lease({ids[0]: 100})).ready())[ids[0]] == snapshot.plain[ids[0]]


@pytest.mark.parametrize("damage", ["junk", "swapped", "length"])
async def test_every_damage_names_the_chunk(damage: str) -> None:
    snapshot, ids = snapshot_of(2)
    length = 100
    if damage == "junk":
        snapshot.blobs[ids[0]] = b"not a blob at all"
    elif damage == "swapped":
        snapshot.blobs[ids[0]] = snapshot.blobs[ids[1]]
    else:
        length = 99  # the index lies about it
    async with fetching(Gate(snapshot)) as fetcher:
        found = (await (await fetcher.lease({ids[0]: length})).ready())[ids[0]]
        assert isinstance(found, CorruptChunk)
        assert ids[0].hex() in found.message


async def test_the_wrong_key_ends_everything() -> None:
    snapshot, ids = snapshot_of(1, keys=DataKeys.from_root(b"r" * 32))
    with pytest.RaisesGroup(pytest.RaisesGroup(FingerprintMismatch)):
        async with fetching(Gate(snapshot), keys=DataKeys.from_root(b"x" * 32)) as fetcher:
            await (await fetcher.lease({ids[0]: 100})).ready()


async def test_an_unreachable_server_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    snapshot, ids = snapshot_of(1)
    transport = Gate(snapshot)
    transport.failures = [ServerUnreachable("gone"), ServerUnreachable("gone")]
    async with fetching(transport) as fetcher:
        assert (await (await fetcher.lease({ids[0]: 100})).ready())[ids[0]] == snapshot.plain[ids[0]]
    assert len(transport.asked) == 3


async def test_but_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    snapshot, ids = snapshot_of(1)
    transport = Gate(snapshot)
    transport.failures = [ServerUnreachable("gone")] * 100
    with pytest.RaisesGroup(pytest.RaisesGroup(ServerUnreachable)):
        async with fetching(transport) as fetcher:
            await (await fetcher.lease({ids[0]: 100})).ready()
    assert len(transport.asked) == limits.RESTORE_RETRIES


async def test_a_lost_reader_is_not_asked_again() -> None:
    snapshot, ids = snapshot_of(1)
    transport = Gate(snapshot)
    transport.failures = [SessionLost("expired")]
    with pytest.RaisesGroup(pytest.RaisesGroup(SessionLost)):
        async with fetching(transport) as fetcher:
            await (await fetcher.lease({ids[0]: 100})).ready()
    assert len(transport.asked) == 1


async def test_a_server_that_answers_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, ids = snapshot_of(2)

    class Short(MemoryTransport):
        async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
            return (await super().fetch(ids))[:1]

    with pytest.RaisesGroup(pytest.RaisesGroup(FormatError)):
        async with fetching(Short(snapshot)) as fetcher:
            await (await fetcher.lease(dict.fromkeys(ids, 100))).ready()


async def test_what_was_given_up_is_not_fetched() -> None:
    snapshot, ids = snapshot_of(40, size=MIB)
    transport = Gate(snapshot)
    transport.open_gate = trio.Event()
    async with fetching(transport, window_bytes=10**9) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, MIB))
        await trio.testing.wait_all_tasks_blocked()
        lease.release()
        assert fetcher._held_bytes == 0
        transport.open_gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(transport.fetched) == limits.RESTORE_FETCHES * limits.RESTORE_FETCH_BYTES // MIB
        assert fetcher._slots == {}


async def test_metadata_goes_first_and_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTORE_METADATA_CACHE_BYTES", 250)
    snapshot, ids = snapshot_of(5)
    transport = Gate(snapshot)
    async with fetching(transport) as fetcher:
        assert fetcher.peek(ids[0]) is None
        fetcher.ahead([(each, 100) for each in ids[:2]])
        assert await fetcher.metadata(ids[1], 100) == snapshot.plain[ids[1]]
        assert fetcher.peek(ids[0]) == snapshot.plain[ids[0]]
        fetcher.ahead([(ids[2], 100)])
        assert list(fetcher._metadata) == ids[1:3]
        assert await fetcher.metadata(ids[0], 100) == snapshot.plain[ids[0]]
        del snapshot.blobs[ids[4]]
        with pytest.raises(ChunkNotFound):
            await fetcher.metadata(ids[4], 100)
        assert fetcher.peek(ids[4]) is None


async def test_a_reader_that_waits_for_its_target_stays_alive(autojump_clock: trio.testing.MockClock) -> None:
    snapshot, ids = snapshot_of(2)
    snapshot.chunk(b"small")
    transport = Gate(snapshot)
    async with fetching(transport) as fetcher:
        lease = await fetcher.lease(dict.fromkeys(ids, 100))
        await lease.ready()
        before = transport.requests
        await trio.sleep(10.5 * limits.RESTORE_KEEP_ALIVE_SECONDS)
        assert 9 <= transport.requests - before <= 10  # ten looks; the first may find that something was asked for
        assert limits.RESTORE_KEEP_ALIVE_SECONDS * 2 < limits.READER_IDLE_SECONDS_MAX


async def test_a_cancelled_wait_for_room_holds_nothing() -> None:
    snapshot, ids = snapshot_of(2)
    async with fetching(Gate(snapshot), window_bytes=100) as fetcher:
        await fetcher.lease({ids[0]: 100})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetcher.lease, {ids[1]: 100})
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert fetcher._held_bytes == 100
        assert set(fetcher._slots) == {ids[0]}
