"""Chunks are opened in place too, and a bad one leaves its neighbours alone."""

from __future__ import annotations

import os

import pytest

from ibs.client.restore.opener import LocalOpener
from ibs.core.keys import DataKeys
from ibs.errors import ChunkNotFound, CorruptChunk
from ibs.runtime.clock import LoopClock
from ibs.runtime.pool import InlinePool
from ibs_tests.support.restores import MemorySnapshot, MemoryTransport


def opener_of(snapshot: MemorySnapshot) -> tuple[LocalOpener, MemoryTransport]:
    transport = snapshot.transport()
    opener = LocalOpener(
        transport, InlinePool(), LoopClock(), domain=snapshot.domain, keys=snapshot.keys, entropy=os.urandom
    )
    return opener, transport


@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"r" * 32)])
async def test_plaintexts_are_put_where_they_are_wanted(keys: DataKeys | None) -> None:
    snapshot = MemorySnapshot(keys=keys)
    contents = [os.urandom(50), b"a" * 4000, b"z"]
    wanted = [(snapshot.chunk(each), len(each)) for each in contents]
    memory = memoryview(bytearray(5000))
    places = [memory[100:150], memory[200:4200], memory[4999:]]
    opener, _ = opener_of(snapshot)
    opened = await opener.open_into(wanted, places)
    assert [bytes(place) for place in places] == contents
    assert opened == contents
    assert await opener.open(wanted) == contents
    assert memory[:100] == bytes(100)
    assert opener.figures.chunks == 6


async def test_what_is_wrong_with_one_is_in_its_place_and_it_is_asked_for_twice() -> None:
    snapshot = MemorySnapshot()
    wanted = [(snapshot.chunk(b"%d" % n * 100), 100) for n in range(4)]
    del snapshot.blobs[wanted[1][0]]
    snapshot.blobs[wanted[2][0]] = snapshot.blobs[wanted[0][0]]
    memory = memoryview(bytearray(400))
    opener, transport = opener_of(snapshot)
    opened = await opener.open_into(wanted, [memory[at : at + 100] for at in range(0, 400, 100)])
    assert isinstance(opened[1], ChunkNotFound)
    assert isinstance(opened[2], CorruptChunk)
    assert memory == b"0" * 100 + bytes(200) + b"3" * 100
    assert transport.fetched.count(wanted[2][0]) >= 2


async def test_a_length_other_than_the_index_says_never_reaches_the_place() -> None:
    snapshot = MemorySnapshot()
    chunk = snapshot.chunk(b"x" * 100)
    memory = memoryview(bytearray(99))
    opener, _ = opener_of(snapshot)
    (opened,) = await opener.open_into([(chunk, 99)], [memory])
    assert isinstance(opened, CorruptChunk)
    assert memory == bytes(99)
