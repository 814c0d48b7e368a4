"""Readers: leases, what they give out and to whom, and words for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from ibs.core import limits
from ibs.core.blob import BlobEncoder
from ibs.core.ids import chunk_id
from ibs.core.keys import DataKeys
from ibs.engine.datastore import Datastore
from ibs.engine.leases import LEASE_FILE
from ibs.engine.readers import Reader
from ibs.errors import BusyError, ChunkNotFound, CorruptChunk, NotFoundError, RefusedError, SessionLost, UsageError
from ibs.runtime.pool import ThreadPool
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs_tests.support.engine import OTHER, OWNER, Box, address_of, backup, close, key_registry, read, start

KEYS = DataKeys.from_root(b"\7" * 32)
CONTENT = {"etc.tree": [b"data", b"meta"], "disk.img": [b"block", b""]}


async def open_reader(datastore: Datastore, snapshot: str = "host/web01", auth_id: str = OWNER) -> Reader:
    return await datastore.readers.open(auth_id, ReaderOpen(snapshot=snapshot), everything=False)


def blob(data: bytes) -> bytes:
    return bytes(BlobEncoder().encode(data, chunk_id(data)))


async def test_a_lease_pins_the_indexes_until_it_is_closed(datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    assert reader.opened.snapshot == result.snapshot
    folder = datastore.store.leases.folder(reader.reader_id)
    assert folder.names() == ["disk.img.idx", "etc.tree.idx", LEASE_FILE]
    lease = json.loads(folder.read(LEASE_FILE))
    assert (lease["snapshot"], lease["auth_id"], lease["purpose"]) == (result.snapshot, OWNER, "restore")
    await close(datastore, reader)
    assert datastore.store.leases.names() == []
    with pytest.raises(SessionLost):
        datastore.readers.get(reader.reader_id, OWNER)
    with pytest.raises(SessionLost):
        await reader.fetch([chunk_id(b"data")])


async def test_reading_goes_on_when_the_snapshot_is_removed(datastore: Datastore) -> None:
    writer = await start(datastore, *CONTENT)
    for archive, chunks in CONTENT.items():
        await writer.archive(archive, chunks)
    await writer.put_blob("client.log", b"log")
    result = await writer.commit()
    reader = await open_reader(datastore)
    datastore.store.snapshots.remove(result.snapshot)
    assert len(await reader.file("etc.tree.idx")) == 336
    assert await reader.file("client.log") == b"log"
    assert await reader.file_part("client.log", 1, 1) == b"o"
    assert await reader.fetch([chunk_id(b"meta"), chunk_id(b"block")]) == [blob(b"meta"), blob(b"block")]
    assert await datastore.find_unreferenced() == []


async def test_files_are_those_of_the_manifest_only(datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    for name in ("manifest.json", LEASE_FILE, "../../owner", "home.tree.idx", "", "x" * 500):
        with pytest.raises(NotFoundError):
            await reader.file(name)


async def test_chunks_of_other_snapshots_are_not_given_out(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"foreign", b"meta"]}, group="host/db01")
    await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    for chunk in (chunk_id(b"foreign"), chunk_id(b"nowhere"), bytes(32), b"short"):
        with pytest.raises(RefusedError, match="is not part of snapshot"):
            await reader.fetch([chunk_id(b"data"), chunk])


async def test_requests_are_bounded(datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    for ids in ([], [chunk_id(b"data")] * (limits.FETCH_IDS_MAX + 1)):
        with pytest.raises(UsageError):
            await reader.fetch(ids)
    assert len(await reader.fetch([chunk_id(b"data")] * limits.FETCH_IDS_MAX)) == limits.FETCH_IDS_MAX


async def test_owners_read_their_own_and_nobody_elses(datastore: Datastore) -> None:
    await backup(datastore, CONTENT, auth_id="alice@ibs!laptop")
    for reads in ("alice@ibs!laptop", "alice@ibs"):
        await open_reader(datastore, auth_id=reads)
    for stranger in (OTHER, "alice@ibs!phone"):
        with pytest.raises(NotFoundError):
            await open_reader(datastore, auth_id=stranger)
    reader = await datastore.readers.open(OTHER, ReaderOpen(snapshot="host/web01"), everything=True)
    with pytest.raises(SessionLost):
        datastore.readers.get(reader.reader_id, OWNER)


@pytest.mark.parametrize("snapshot", ["host/none", "host/web01/2020-01-01T00:00:00Z"])
async def test_what_is_not_there(datastore: Datastore, snapshot: str) -> None:
    await backup(datastore, CONTENT)
    with pytest.raises(NotFoundError):
        await open_reader(datastore, snapshot)
    assert datastore.store.leases.names() == []


async def test_a_snapshot_that_lost_an_index_gives_no_lease(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    (Path(box.path) / "ns" / result.snapshot / "disk.img.idx").unlink()
    with pytest.raises(NotFoundError):
        await open_reader(datastore)
    assert datastore.store.leases.names() == []


async def test_a_snapshot_removed_while_it_is_opened_gives_no_lease(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links made after the removal began might protect half of it."""
    result = await backup(datastore, CONTENT)

    def remove(*_: object) -> None:
        datastore.store.snapshots.remove(result.snapshot)

    monkeypatch.setattr(datastore.readers, "_announce", remove)
    with pytest.raises(NotFoundError):
        await open_reader(datastore)
    assert datastore.store.leases.names() == []


async def test_errors_name_chunk_snapshot_and_archive(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    box.spoil(b"meta")
    with pytest.raises(CorruptChunk) as corrupt:
        await reader.fetch([chunk_id(b"data"), chunk_id(b"meta")])
    for word in (chunk_id(b"meta").hex(), result.snapshot, "etc.tree"):
        assert word in str(corrupt.value)
    box.chunk_path(address_of(b"block")).unlink()
    with pytest.raises(ChunkNotFound, match=r"archive disk\.img") as missing:
        await reader.fetch([chunk_id(b"block")])
    assert missing.value.details["archive"] == "disk.img"
    assert await reader.fetch([chunk_id(b"data")]) == [blob(b"data")]


async def test_silent_readers_end_and_busy_ones_do_not(box: Box, datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    reader, other = await open_reader(datastore), await open_reader(datastore)
    box.clock.advance(limits.READER_IDLE_SECONDS_MAX)
    await reader.fetch([chunk_id(b"data")])
    with other.held():
        box.clock.advance(1)
        await datastore.expire()
        assert len(datastore.readers.readers) == 2
    box.clock.advance(limits.READER_IDLE_SECONDS_MAX)
    await datastore.expire()
    assert datastore.readers.readers == [other]
    with pytest.raises(SessionLost, match="no request"):
        await reader.file("etc.tree.idx")
    box.clock.advance(1)
    await datastore.expire()
    assert datastore.store.leases.names() == []


async def test_readers_are_limited(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    await backup(datastore, CONTENT)
    monkeypatch.setattr(limits, "READERS_PER_STORE_MAX", 2)
    reader = await open_reader(datastore)
    await open_reader(datastore)
    with pytest.raises(BusyError):
        await open_reader(datastore)
    await close(datastore, reader)
    await open_reader(datastore)


async def test_leases_of_a_killed_server_go(box: Box, datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    await open_reader(datastore)
    datastore = await box.kill(datastore)
    assert datastore.store.leases.names() == []


async def test_the_observer_hears_of_chunks_and_of_the_end(datastore: Datastore) -> None:
    told: list[tuple[object, ...]] = []

    class Observer:
        async def fetched(self, chunks: int, stored_bytes: int) -> None:
            told.append((chunks, stored_bytes))

        async def ended(self, status: str, warnings: int, message: str) -> None:
            told.append((status, warnings, message))

    await backup(datastore, CONTENT)
    request = ReaderOpen(snapshot="host/web01")
    reader = await datastore.readers.open(OWNER, request, everything=False, upid="UPID:1", observer=Observer())
    assert reader.opened.upid == "UPID:1"
    await reader.fetch([chunk_id(b"data")])
    ended = ReaderClose(status="WARNING", warnings=3, message="3 files skipped")
    await datastore.readers.close_reader(reader.reader_id, OWNER, ended)
    await reader.end(ended)
    assert told == [(1, len(blob(b"data"))), ("WARNING", 3, "3 files skipped")]


async def test_closing_the_datastore_ends_readers(datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    await datastore.readers.close("the server stops")
    with pytest.raises(SessionLost, match="the server stops"):
        await reader.file("etc.tree.idx")
    with pytest.raises(BusyError):
        await open_reader(datastore)


async def test_encrypted_chunks_are_given_out_as_they_are(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [b"secret", b"meta"]}, keys=KEYS)
    assert await read(datastore, result.snapshot, "etc.tree", keys=KEYS) == [b"secret", b"meta"]


async def test_requests_read_in_runs_several_at_once_and_no_more(box: Box) -> None:
    now = most = hops = 0

    class Pool(ThreadPool):
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            nonlocal now, most, hops
            hops += 1
            now += 1
            most = max(most, now)
            try:
                return await super().disk(work, *args)
            finally:
                now -= 1

    datastore = await box.open()
    chunks = [bytes([number]) * 10 for number in range(20)]
    await backup(datastore, {"etc.tree": chunks})
    reader = await open_reader(datastore)
    ids = [chunk_id(data) for data in chunks]
    assert await reader.fetch(ids[:1]) == [blob(chunks[0])]
    object.__setattr__(datastore.context, "pool", Pool())
    fetched: dict[int, list[bytes]] = {}

    async def fetch(number: int) -> None:
        fetched[number] = [one async for one in reader.stream(ids)]

    async with trio.open_nursery() as nursery:
        for number in range(limits.READER_READS_MAX + 3):
            nursery.start_soon(fetch, number)
    assert all(got == [blob(data) for data in chunks] for got in fetched.values())
    assert hops == 2 * len(fetched)  # runs of READER_RUN_CHUNKS, not chunks
    assert 1 < most <= limits.READER_READS_MAX


async def test_a_run_ends_where_it_holds_enough(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READER_RUN_BYTES", 1000)
    datastore = await box.open()
    chunks = [bytes([number]) * 10 for number in range(20)]
    await backup(datastore, {"etc.tree": chunks})
    reader = await open_reader(datastore)
    stream = reader.stream([chunk_id(data) for data in chunks])
    run = reader._read_run(await reader._places([chunk_id(data) for data in chunks]))
    assert sum(map(len, run)) - len(run[-1]) < 1000 <= sum(map(len, run))
    assert [one async for one in stream] == [blob(data) for data in chunks]


async def test_cancelling_a_fetch_keeps_the_lease(box: Box) -> None:
    box.pool = ThreadPool()
    datastore = await box.open()
    await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    with trio.CancelScope() as scope:
        scope.cancel()
        await reader.fetch([chunk_id(b"data")])
    assert scope.cancelled_caught
    assert await reader.fetch([chunk_id(b"data")]) == [blob(b"data")]
    assert reader.idle_seconds(box.clock.monotonic()) == 0
