"""Leases as links, and as descriptors on a store that takes no writes (P7)."""

from __future__ import annotations

import os

import pytest

from ibs.core.ids import chunk_id
from ibs.engine.datastore import Datastore
from ibs.engine.leases import HeldLease, LinkedLease
from ibs.engine.readers import Reader
from ibs.engine.verify import verify_snapshot
from ibs.errors import DatastoreReadOnly, NoSpace, NotFoundError
from ibs.ports.chunkstore import ChunkState
from ibs.storage.local import Options, WorkArea
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import OWNER, Box, address_of, backup, close, snapshot_of, start

CONTENT = {"etc.tree": [b"data", b"meta"]}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NoSpace("datastore s1", "bytes")

    monkeypatch.setattr(WorkArea, "create", refuse)


async def open_reader(datastore: Datastore) -> Reader:
    return await datastore.readers.open(OWNER, ReaderOpen(snapshot="host/web01"), everything=True)


async def test_links_where_there_is_room(datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    reader = await open_reader(datastore)
    assert isinstance(reader._lease, LinkedLease)
    assert datastore.context.leases.held() == []


async def test_reading_works_on_a_full_disk(datastore: Datastore, request: pytest.FixtureRequest) -> None:
    result = await backup(datastore, CONTENT)
    request.getfixturevalue("full")
    reader = await open_reader(datastore)
    assert isinstance(reader._lease, HeldLease)
    datastore.store.snapshots.remove(result.snapshot)
    assert len(await reader.file("etc.tree.idx")) == 336
    assert await reader.file_part("etc.tree.idx", 330, 100) == (await reader.file("etc.tree.idx"))[330:]
    assert len(await reader.fetch([chunk_id(b"data")])) == 1
    assert await datastore.find_unreferenced() == []
    await close(datastore, reader)
    assert datastore.context.leases.held() == []
    assert len(await datastore.find_unreferenced()) == 2


async def test_a_held_lease_protects_from_discarding(datastore: Datastore, request: pytest.FixtureRequest) -> None:
    result = await backup(datastore, CONTENT)
    writer = await start(datastore, group="host/gone")
    await writer.send(b"data", b"alone")
    await writer.session.abort("gone")
    request.getfixturevalue("full")
    reader = await open_reader(datastore)
    datastore.store.snapshots.remove(result.snapshot)
    await datastore.cleanup()
    states = [info.state for info in datastore.store.info([address_of(b"data"), address_of(b"alone")])]
    assert states == [ChunkState.DURABLE, ChunkState.ABSENT]
    await close(datastore, reader)


async def test_a_released_lease_gives_nothing(datastore: Datastore, request: pytest.FixtureRequest) -> None:
    await backup(datastore, CONTENT)
    request.getfixturevalue("full")
    reader = await open_reader(datastore)
    lease = reader._lease
    assert isinstance(lease, HeldLease)
    lease.release()
    lease.release()
    with pytest.raises(NotFoundError):
        lease.read("etc.tree.idx", 0, 10)
    assert list(lease.indexes()) == []


async def test_a_lost_index_leaves_no_descriptor(datastore: Datastore, request: pytest.FixtureRequest) -> None:
    result = await backup(datastore, {**CONTENT, "disk.img": [b"x"]})
    request.getfixturevalue("full")
    os.unlink(f"{datastore.store.path}/ns/{result.snapshot}/disk.img.idx")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotFoundError):
        await open_reader(datastore)
    assert len(os.listdir("/proc/self/fd")) == before
    assert datastore.context.leases.held() == []


async def test_a_store_whose_disk_failed_is_still_read_and_verified(box: Box) -> None:
    broken = False

    def hook(point: str) -> None:
        if broken and point == "barrier.sync":
            raise OSError(5, "Input/output error")

    box.options = Options(hook=hook)
    datastore = await box.open()
    result = await backup(datastore, CONTENT)
    broken = True
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"new"])
    with pytest.raises(DatastoreReadOnly):
        await writer.commit()
    reader = await open_reader(datastore)
    assert len(await reader.fetch([chunk_id(b"data"), chunk_id(b"meta")])) == 2
    report = await verify_snapshot(datastore, snapshot_of(result))
    assert report.result == "OK"
    assert "verify.not-noted" in box.kinds()
    await close(datastore, reader)


async def test_a_store_that_opens_read_only_is_recovered_as_far_as_it_goes(box: Box) -> None:
    datastore = await box.open()
    result = await backup(datastore, CONTENT)
    writer = await start(datastore)
    await writer.send(b"received")
    reader = await open_reader(datastore)
    datastore.store.staging.create(reader.reader_id)

    def fail(point: str) -> None:
        if point == "barrier.sync":
            raise OSError(5, "Input/output error")

    box.options = Options(hook=fail)
    datastore = await box.kill(datastore)
    assert datastore.store.status[0] == "read-only"
    assert writer.session.session_id in datastore.sessions.interrupted_sessions
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    assert len(await reader.fetch([chunk_id(b"data")])) == 1
    await close(datastore, reader)
