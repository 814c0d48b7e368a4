"""Write sessions from open to commit, and what they refuse."""

from __future__ import annotations

import msgspec
import pytest
import trio

from ibs.core import limits
from ibs.core.ids import chunk_id
from ibs.core.index import ZERO_ID
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.session.facts import SessionState
from ibs.errors import BusyError, ConflictError, NotFoundError, RefusedError, SessionLost, UsageError
from ibs.ports.chunkstore import ChunkState
from ibs.runtime.pool import ThreadPool
from ibs.wire.session import StageReport
from ibs_tests.support.engine import Box, address_of, backup, read, start


class Watcher:
    """A SessionObserver that remembers."""

    def __init__(self) -> None:
        self.reports: list[StageReport] = []
        self.ends: list[tuple[str, str]] = []

    async def reported(self, report: StageReport) -> None:
        self.reports.append(report)

    async def ended(self, status: str, message: str) -> None:
        self.ends.append((status, message))


async def test_what_is_committed_is_read_back(datastore: Datastore) -> None:
    chunks = [b"one" * 1000, b"two", b"meta"]
    result = await backup(datastore, {"etc.tree": chunks, "disk.img": [b"x" * 500, b"", b"x" * 500]})
    assert result.status == "OK"
    assert await read(datastore, result.snapshot, "etc.tree") == chunks
    assert await read(datastore, result.snapshot, "disk.img") == [b"x" * 500, b"", b"x" * 500]


async def test_committed_chunks_are_durable_and_staging_is_empty(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    infos = datastore.store.info([address_of(b"data"), address_of(b"meta")])
    assert [info.state for info in infos] == [ChunkState.DURABLE] * 2
    assert datastore.store.staging.names() == []


# --- what an index may name (PROTOCOLS 6) ---


async def test_an_id_that_was_not_delivered_is_refused(datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.send(b"mine", b"meta")
    with pytest.raises(RefusedError, match="has not delivered"):
        await writer.append("etc.tree", [b"mine", b"not mine", b"meta"])
    await writer.append("etc.tree", [b"mine", b"meta"])  # nothing of the refused records was kept


async def test_an_id_that_another_session_delivered_is_refused(datastore: Datastore) -> None:
    other = await start(datastore, group="host/db01")
    await other.send(b"secret of db01")
    writer = await start(datastore)
    with pytest.raises(RefusedError):
        await writer.append("etc.tree", [b"secret of db01"])


async def test_an_id_of_a_committed_snapshot_of_another_group_is_refused(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"known to the store", b"meta"]}, group="host/db01")
    writer = await start(datastore)
    with pytest.raises(RefusedError):
        await writer.append("etc.tree", [b"known to the store"])


async def test_a_chunk_sent_whole_may_be_named_though_the_store_had_it(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"shared", b"meta"]}, group="host/db01")
    result = await backup(datastore, {"etc.tree": [b"shared", b"meta"]})
    assert result.new_chunks == 0
    assert await read(datastore, result.snapshot, "etc.tree") == [b"shared", b"meta"]


async def test_zero_blocks_need_no_delivery_in_images_only(datastore: Datastore) -> None:
    writer = await start(datastore, "disk.img", "etc.tree")
    await writer.session.append("disk.img", 0, ZERO_ID * 3)
    with pytest.raises(UsageError):
        await writer.session.append("etc.tree", 0, bytes(40))


async def test_an_archive_that_was_not_announced_is_refused(datastore: Datastore) -> None:
    writer = await start(datastore, "etc.tree")
    with pytest.raises(UsageError, match="not named"):
        await writer.session.append("../../x.tree", 0, b"")


# --- the base (P8, PROTOCOLS 8) ---


async def test_base_chunks_may_be_named_and_read(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"old", b"meta"]})
    writer = await start(datastore)
    assert [base.archive for base in writer.session.opened.bases] == ["etc.tree"]
    blob = await writer.session.base_chunk(writer.id(b"meta"))
    assert blob == writer.blob(b"meta")
    await writer.send(b"meta 2")
    await writer.append("etc.tree", [b"old", b"meta 2"])
    await writer.close("etc.tree", [b"old", b"meta 2"])
    result = await writer.commit()
    assert result.new_chunks == 1
    assert await read(datastore, result.snapshot, "etc.tree") == [b"old", b"meta 2"]


async def test_base_chunk_gives_own_chunks_only(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"foreign", b"meta"]}, group="host/db01")
    writer = await start(datastore)
    for chunk in (chunk_id(b"foreign"), chunk_id(b"nowhere"), b"short"):
        with pytest.raises(NotFoundError, match="not one this session may read"):
            await writer.session.base_chunk(chunk)
    await writer.send(b"own")
    assert await writer.session.base_chunk(writer.id(b"own")) == writer.blob(b"own")


async def test_a_suspect_chunk_is_offered_no_more_and_replaced_by_the_next_body(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"old", b"meta"]})
    writer = await start(datastore)
    await writer.session.suspect(writer.id(b"meta"))
    (suspect,) = datastore.store.unavailable()
    assert suspect.id == writer.id(b"meta")
    assert await writer.session.base_chunk(writer.id(b"meta")) == writer.blob(b"meta")  # still served, never removed
    await writer.session.abort("x")
    writer = await start(datastore)
    bits = await writer.session.base_available("etc.tree")
    assert bits == b"\x01"
    with pytest.raises(RefusedError):
        await writer.append("etc.tree", [b"old", b"meta"])
    await writer.send(b"meta")
    assert not datastore.store.unavailable()
    await writer.append("etc.tree", [b"old", b"meta"])
    await writer.close("etc.tree", [b"old", b"meta"])
    result = await writer.commit()
    assert await read(datastore, result.snapshot, "etc.tree") == [b"old", b"meta"]


async def test_only_own_chunks_can_be_doubted(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"foreign", b"meta"]}, group="host/db01")
    writer = await start(datastore)
    await writer.send(b"own")
    for ids in (chunk_id(b"foreign"), writer.id(b"own") + chunk_id(b"foreign"), chunk_id(b"nowhere")):
        with pytest.raises(NotFoundError, match="not one this session may read"):
            await writer.session.suspect(ids)
    for ids in (b"", b"short", bytes(33), bytes(32 * (limits.FETCH_IDS_MAX + 1))):
        with pytest.raises(UsageError):
            await writer.session.suspect(ids)
    assert not datastore.store.unavailable()


async def test_base_index_is_the_file_of_the_snapshot(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": [b"old", b"meta"]})
    folder = str(SnapshotName.parse(result.snapshot))
    writer = await start(datastore)
    content = await writer.session.base_index("etc.tree")
    assert content == datastore.store.snapshots.read(folder, "etc.tree.idx")
    assert await writer.session.base_index_part("etc.tree", 10, 20) == content[10:30]
    with pytest.raises(NotFoundError):
        await writer.session.base_index("disk.img")


# --- calls and ends ---


async def test_blobs_are_replaced_bounded_and_named_well(datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.session.put_blob("client.log", b"first")
    await writer.put_blob("client.log", b"second")
    for name in ("manifest.json", "etc.tree.idx", "../x", "state.json"):
        with pytest.raises(UsageError):
            await writer.session.put_blob(name, b"")
    with pytest.raises(UsageError, match="too long"):
        await writer.session.put_blob("big", bytes(limits.SNAPSHOT_BLOB_BYTES_MAX + 1))
    for number in range(limits.SNAPSHOT_BLOBS_MAX - 1):
        await writer.put_blob(f"b{number}", b"")
    with pytest.raises(UsageError, match="too many"):
        await writer.session.put_blob("one.more", b"")
    await writer.archive("etc.tree", [b"meta"])
    result = await writer.commit()
    assert datastore.store.snapshots.read(result.snapshot, "client.log") == b"second"


async def test_reports_reach_the_observer_and_keep_the_lease(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    watcher = Watcher()
    writer.session._observer = watcher
    box.clock.advance(100)
    await writer.session.report(StageReport(files=3))
    assert watcher.reports == [StageReport(files=3)]
    assert writer.session.idle_seconds(box.clock.monotonic()) == 0


async def test_the_last_report_may_come_with_the_commit(datastore: Datastore) -> None:
    writer = await start(datastore)
    watcher = Watcher()
    writer.session._observer = watcher
    await writer.archive("etc.tree", [b"one"])
    request = msgspec.structs.replace(writer.request(), report=StageReport(files=7))
    first = await writer.session.commit(request)
    assert await writer.session.commit(request) == first
    assert watcher.reports == [StageReport(files=7)]


async def test_abort_ends_the_session_and_tells_why(datastore: Datastore) -> None:
    watcher = Watcher()
    writer = await start(datastore)
    writer.session._observer = watcher
    await writer.send(b"data")
    await writer.session.abort("the user pressed control-c")
    assert watcher.ends == [("CANCELLED", "the user pressed control-c")]
    with pytest.raises(SessionLost, match="control-c"):
        await writer.send(b"more")
    with pytest.raises(SessionLost):
        await writer.session.commit(writer.request)  # type: ignore[arg-type]
    assert list(datastore.sessions.interrupted_sessions) == [writer.session.session_id]


async def test_a_committed_session_takes_nothing_more(datastore: Datastore) -> None:
    writer = await start(datastore)
    watcher = Watcher()
    writer.session._observer = watcher
    await writer.archive("etc.tree", [b"meta"])
    await writer.commit()
    assert watcher.ends[0][0] == "OK"
    with pytest.raises(ConflictError):
        await writer.send(b"late")
    with pytest.raises(ConflictError):
        await writer.session.abort("too late")
    await writer.session.interrupt("expired")
    assert writer.session.state is SessionState.COMMITTED


class SlowPool(ThreadPool):
    """Holds disk work until the gate opens, so that a test stands in the middle of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.waiting = trio.Event()
        self.slow = False

    async def disk(self, work, *args):  # type: ignore[no-untyped-def]
        if self.slow:
            self.waiting.set()
            await self.gate.wait()
        return await super().disk(work, *args)


@pytest.fixture
def slow(box: Box) -> SlowPool:
    box.pool = SlowPool()
    return box.pool


async def test_abort_waits_for_calls_under_way(box: Box, slow: SlowPool) -> None:
    datastore = await box.open()
    writer = await start(datastore)
    slow.slow = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, b"under way")
        await slow.waiting.wait()
        nursery.start_soon(writer.session.abort, "stop")
        await trio.testing.wait_all_tasks_blocked()
        assert writer.session.state is SessionState.INTERRUPTED
        assert datastore.sessions.interrupted_sessions == {}  # nobody may inherit while a body is being taken
        slow.gate.set()
    assert len(datastore.sessions.interrupted_sessions) == 1
    assert datastore.store.info([address_of(b"under way")])[0].state is ChunkState.RECEIVED


async def test_nothing_is_added_while_it_is_committed(box: Box, slow: SlowPool) -> None:
    datastore = await box.open()
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"meta"])
    slow.slow = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.commit)
        await slow.waiting.wait()
        with pytest.raises(BusyError):
            await writer.send(b"late")
        with pytest.raises(BusyError):
            await writer.session.abort("late")
        slow.gate.set()
    assert len(await datastore.snapshots.every()) == 1


class CancellingPool:
    """Cancels `scope` at the given step of work, then does the work all the same, as the thread pool would."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.scope = trio.CancelScope()

    async def disk(self, work, *args):  # type: ignore[no-untyped-def]
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()
        await trio.lowlevel.checkpoint()
        return work(*args)

    cpu = disk


async def test_cancellation_at_any_step_leaves_all_or_nothing(datastore: Datastore, box: Box) -> None:
    """Cancel at each step in turn: afterwards the same backup can be made, and clean-up leaves nothing over."""
    content = {"etc.tree": [b"data", b"meta"], "disk.img": [b"block"]}
    step, calm = 0, datastore.context.pool
    while True:
        step += 1
        pool, group = CancellingPool(step), f"host/g{step}"
        object.__setattr__(datastore.context, "pool", pool)
        with pool.scope:
            await backup(datastore, content, group=group)
        object.__setattr__(datastore.context, "pool", calm)
        if pool.left > 0:
            break
        for session in datastore.sessions.open_sessions:
            await session.interrupt("cancelled")
        await backup(datastore, content, group=group)
        assert len(datastore.sessions.open_sessions) == 0
    assert step > 8
    for name in await datastore.snapshots.every():
        assert await read(datastore, str(name), "etc.tree") == content["etc.tree"]
    await datastore.cleanup()
    assert await datastore.find_unreferenced() == []
    assert datastore.store.staging.names() == []


async def test_a_commit_cancelled_while_it_publishes_is_committed(box: Box, datastore: Datastore) -> None:
    """The snapshot is visible, so the session must know it, whatever becomes of the one who asked."""
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"data", b"meta"])
    request, calm = writer.request(), datastore.context.pool

    class Pool:
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            result = work(*args)
            if work.__name__ == "_publish":
                scope.cancel()
            await trio.lowlevel.checkpoint()
            return result

        cpu = disk

    object.__setattr__(datastore.context, "pool", Pool())
    with trio.CancelScope() as scope:
        await writer.session.commit(request)
    object.__setattr__(datastore.context, "pool", calm)
    assert writer.session.state is SessionState.COMMITTED
    assert (await writer.session.commit(request)).snapshot == writer.session.opened.snapshot
    assert datastore.sessions.open_sessions == []


async def test_many_bodies_at_once(box: Box) -> None:
    box.pool = ThreadPool()
    datastore = await box.open()
    writer = await start(datastore)
    chunks = [bytes([number]) * 5000 for number in range(60)]
    async with trio.open_nursery() as nursery:
        for data in chunks:
            nursery.start_soon(writer.send, data)
    await writer.archive("etc.tree", chunks, send=False)
    result = await writer.commit()
    assert result.new_chunks == 60
    assert await read(datastore, result.snapshot, "etc.tree") == chunks
