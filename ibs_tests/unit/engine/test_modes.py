"""Modes in a running engine: who is refused, who is ended, and that what was ended says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from ibs.core.modes import Maintenance, Mode, Quarantine
from ibs.engine.modes import ModeRecord, Modes, Use
from ibs.errors import DatastoreOffline, Quarantined
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import OWNER, Box, backup, read, start

SINCE = "2026-11-22T19:00:00Z"
QUARANTINED = ModeRecord(quarantine=Quarantine(reason="a disk lies", since=SINCE, by="root@ibs"))
OFFLINE = ModeRecord(maintenance=Maintenance(mode=Mode.OFFLINE, reason="", since=SINCE, by="root@ibs"))


async def test_work_that_is_forbidden_now_is_ended_and_says_why() -> None:
    modes, reading = Modes("s1"), trio.Event()

    async def collect() -> None:
        with pytest.raises(Quarantined, match="it takes no garbage collection"), modes.using(Use.GC):
            await trio.sleep_forever()

    async def restore() -> None:
        with modes.using(Use.READ):
            await reading.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        nursery.start_soon(restore)
        await trio.testing.wait_all_tasks_blocked()
        modes.set(QUARANTINED)
        assert modes.at_work() == [Use.GC]
        modes.interrupt()
        await modes.progress()
        assert modes.at_work() == []
        reading.set()


async def test_what_is_forbidden_does_not_begin() -> None:
    modes = Modes("s1", QUARANTINED)
    with pytest.raises(Quarantined), modes.using(Use.PRUNE):
        pytest.fail("it began")
    assert not modes.allows(Use.WRITE)
    assert modes.mode is Mode.QUARANTINED


async def test_somebody_elses_cancellation_is_left_alone() -> None:
    modes = Modes("s1")
    with trio.CancelScope() as outer:
        outer.cancel()
        with modes.using(Use.GC):
            await trio.sleep_forever()
    assert outer.cancelled_caught
    assert modes.at_work() == []


async def test_work_that_was_interrupted_is_not_done_though_the_mode_is_over_by_then() -> None:
    modes = Modes("s1")
    async with trio.open_nursery() as nursery:

        async def collect() -> None:
            with modes.using(Use.GC):
                with trio.CancelScope(shield=True):
                    await released.wait()
                await trio.sleep_forever()

        async def work() -> None:
            with pytest.raises(Quarantined):
                await collect()

        released = trio.Event()
        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
        modes.set(QUARANTINED)
        modes.interrupt()
        modes.set(ModeRecord())
        released.set()
    with modes.using(Use.GC):
        pass


async def test_a_quarantined_datastore_takes_no_backup_and_is_read(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [b"one", b"two"]})
    datastore.context.modes.set(QUARANTINED)
    with pytest.raises(Quarantined, match="it takes no new backups"):
        await start(datastore)
    assert await read(datastore, result.snapshot, "etc.tree") == [b"one", b"two"]
    assert datastore.status[0] == "quarantined"
    box.close()


async def test_what_was_interrupted_is_kept_through_a_quarantine(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    writer = await start(datastore)
    await writer.send(b"one")
    datastore.context.modes.set(QUARANTINED)
    await datastore.sessions.interrupt_all("quarantined")
    box.clock.advance(10 * 86_400)
    await datastore.expire()
    with pytest.raises(Quarantined):
        await datastore.cleanup()
    assert len(datastore.sessions.interrupted_sessions) == 1
    datastore.context.modes.set(ModeRecord())
    resumed = await start(datastore)
    assert resumed.session.opened.resumed_chunks == 1
    box.close()


async def test_a_datastore_taken_offline_opens_no_reader(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [b"one"]})
    datastore.context.modes.set(OFFLINE)
    with pytest.raises(DatastoreOffline, match="in maintenance since"):
        await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    box.close()
