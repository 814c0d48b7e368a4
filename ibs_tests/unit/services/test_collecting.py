"""Garbage collection as tasks: what the log says, what the status says, what the scheduler starts."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ibs.core.modes import ModeRecord, Quarantine
from ibs.engine.datastore import Datastore
from ibs.engine.gc.progress import Progress
from ibs.engine.gc.record import GcRecord, RunRecord, write
from ibs.errors import NotFoundError, Quarantined
from ibs.runtime.mailbox import Handle
from ibs.services.collecting import StartGc, UndoGc, gc_status, progress_text, steer_gc
from ibs.services.gc import Gc
from ibs.services.taskqueue import TaskQueue
from ibs.wire.gc import GcStart, GcUndo
from ibs_tests.support.engine import backup, snapshot_of, start
from ibs_tests.unit.services.conftest import House


def furnish(house: House) -> Handle:
    queue = TaskQueue("clean-up slot", slots=2)
    return house.add("gc", lambda seat: Gc(seat, queue, house.tasks, house.datastores, clock=house.clock))


async def garbage(store: Datastore) -> None:
    """Two snapshots, of which one is forgotten for good."""
    old = snapshot_of(await backup(store, {"etc.tree": [b"old", b"m1"]}))
    await backup(store, {"etc.tree": [b"new", b"m2"]}, group="host/b")
    await store.bin.purge((await store.bin.put(old, "root@ibs")).entry)


async def ended(house: House, upid: str) -> str:
    await trio.sleep(1)
    task = await house.tasks.get(upid)
    return f"{task.state}: {task.message}"


async def test_a_run_tells_what_it_freed_and_what_waits_until_when(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        await garbage(store)
        gone = await start(store, group="host/c")
        await gone.session.interrupt("the client died")
        upid = await handle.ask(StartGc("a@ibs", "s1", GcStart(allow_share=100)))
        assert (await ended(house, upid)).startswith("OK: 0 chunks, 0 B freed now, 2 chunks, ")
        lines = await house.log(upid)
        assert lines[:2] == ["preparing …", "marking …"]
        assert any(line.startswith("2 references of 1 snapshots read; 2 of 4 chunks (50.0%") for line in lines)
        assert any(line.startswith("in trash until 20") for line in lines)
        assert any("ironcore-backup gc undo s1" in line for line in lines)
        assert any("what 1 interrupted backups delivered" in line for line in lines)
        [status] = await gc_status(house.datastores, "s1")
        assert (status.state, status.trash[0].chunks, status.waits) == ("idle", 2, "")
        assert status.last is not None
        assert (status.last.upid, status.last.by, status.last.result) == (upid, "a@ibs", "OK")
        undone = await handle.ask(UndoGc("a@ibs", "s1", GcUndo()))
        assert (await ended(house, undone)).startswith("OK: 2 chunks")
        with pytest.raises(NotFoundError):
            await handle.ask(UndoGc("a@ibs", "s1", GcUndo()))


async def test_a_brake_fails_the_task_in_its_own_words(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        await garbage(store)
        upid = await handle.ask(StartGc("a@ibs", "s1", GcStart()))
        assert (await ended(house, upid)).startswith("FAILED: 2 of 4 chunks (50%")
        assert any("--allow-share 51" in line for line in await house.log(upid))
        dry = await handle.ask(StartGc("a@ibs", "s1", GcStart(dry_run=True)))
        assert (await ended(house, dry)).startswith("WARNING: dry run: 2 chunks")
        [status] = await gc_status(house.datastores, "")
        assert status.last is not None
        assert status.last.result == "refused"


async def test_a_quarantined_store_is_not_collected(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        store.context.modes.set(ModeRecord(quarantine=Quarantine(reason="rot", since="", by="")))
        with pytest.raises(Quarantined):
            await handle.ask(StartGc("a@ibs", "s1", GcStart()))
        [status] = await gc_status(house.datastores, "s1")
        assert "quarantined" in status.waits


async def test_a_paused_run_says_so_and_a_cut_off_one_too(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        for pause in (True, False):
            with pytest.raises(NotFoundError):
                await steer_gc(house.datastores, "s1", pause=pause)
        await garbage(store)
        upid = await handle.ask(StartGc("a@ibs", "s1", GcStart(allow_share=100, io_limit=100)))
        await trio.testing.wait_all_tasks_blocked()
        assert (await steer_gc(house.datastores, "s1", pause=True)).state == "paused"
        await trio.sleep(3600)
        assert (await house.tasks.get(upid)).state == "running"
        [status] = await gc_status(house.datastores, "s1")
        assert (status.state, status.running is not None) == ("paused", True)
        assert (await steer_gc(house.datastores, "s1", pause=False)).state == "running"
        await trio.sleep(3600)
        assert (await house.tasks.get(upid)).state == "OK"
        write(store.context, GcRecord(running=RunRecord(epoch=9, started="2026-11-23T01:00:00Z", phase="marking")))
        [status] = await gc_status(house.datastores, "s1")
        assert status.state == "interrupted"


async def test_a_stopped_task_stops_the_run(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        await garbage(store)
        writer = await start(store, group="host/c")
        upid = await handle.ask(StartGc("a@ibs", "s1", GcStart(allow_share=100, io_limit=1)))
        await trio.testing.wait_all_tasks_blocked()
        await house.tasks.stop(upid)
        assert (await ended(house, upid)).startswith("CANCELLED")
        assert not store.gc.busy
        assert (await store.gc.record()).running is None
        await writer.session.abort("done")


def test_progress_is_told_in_words() -> None:
    text = progress_text(Progress("marking", "snapshots", 1000, 4000, 5_000_000, 0, 50.0, 60.0))
    assert text == "marking: 1,000 of 4,000 snapshots, 5,000,000 references, 50.0/s, 1 min 00 s left"
    assert progress_text(Progress("sweeping", paused=True)) == "sweeping: paused"
