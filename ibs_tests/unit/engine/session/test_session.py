"""Write sessions from open to commit, and what they refuse."""

from __future__ import annotations

from ibs.engine.datastore import Datastore
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address, ChunkState
from ibs_tests.support.engine import Box, backup, read, start


async def test_what_is_committed_is_read_back(datastore: Datastore) -> None:
    chunks = [b"one" * 1000, b"two", b"meta"]
    result = await backup(datastore, {"etc.tree": chunks, "disk.img": [b"x" * 500, b"", b"x" * 500]})
    assert result.status == "OK"
    assert await read(datastore, result.snapshot, "etc.tree") == chunks
    assert await read(datastore, result.snapshot, "disk.img") == [b"x" * 500, b"", b"x" * 500]


async def test_committed_chunks_are_durable_and_staging_is_empty(box: Box, datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    writer = await start(datastore)
    addresses = [Address(PLAIN_DOMAIN, writer.id(data)) for data in (b"data", b"meta")]
    assert [info.state for info in datastore.store.info(addresses)] == [ChunkState.DURABLE] * 2
    assert datastore.store.staging.names() == [writer.session.session_id]
