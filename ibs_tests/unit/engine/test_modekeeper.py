"""Quarantine and maintenance of configured datastores: at once, durable, in good order, ended only with its cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ibs.engine import holding
from ibs.engine.modes import Mode, Use
from ibs.errors import ConflictError, DatastoreOffline, Quarantined, SessionLost, UnderMaintenance, UsageError
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs_tests.support.engine import OWNER, backup, read, start
from ibs_tests.unit.engine.test_datastores import World

WHO = "root@ibs"


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    world = World(tmp_path)
    yield world
    for datastores in world.started:
        await datastores.close()


async def test_quarantine_interrupts_backups_which_go_on_after_the_release(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    datastore = await datastores.get("s1")
    writer = await start(datastore)
    await writer.send(b"one", b"two")
    view = await datastores.quarantine("s1", WHO, "a disk lies")
    assert (view.status, view.mode, view.warnings) == ("quarantined", "quarantined", [])
    assert "by root@ibs: a disk lies" in view.reason
    with pytest.raises(SessionLost, match=r"datastore s1 is quarantined: a disk lies"):
        await writer.send(b"three")
    with pytest.raises(Quarantined):
        await start(datastore)
    assert (await datastores.stats("s1")).status == "quarantined"
    assert (await datastores.probe("s1")).status == "quarantined"
    await datastores.release("s1", WHO, "a loose cable, now fixed")
    again = await start(datastore)
    assert again.session.opened.resumed_chunks == 2
    kinds = [event.kind for event in world.events]
    assert kinds.index("datastore.quarantined") < kinds.index("datastore.released")


async def test_a_quarantine_whose_asker_hangs_up_ends_the_backups_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    writer = await start(await datastores.get("s1"))
    tighten = holding.tighten

    async def hung_up(*given: Any) -> str:
        asker.cancel()
        return await tighten(*given)

    monkeypatch.setattr(holding, "tighten", hung_up)
    with trio.CancelScope() as asker:
        await datastores.quarantine("s1", WHO, "a disk lies")
    with pytest.raises(SessionLost, match="a disk lies"):
        await writer.send(b"one")
    assert [event.kind for event in world.events].count("datastore.quarantined") == 1


async def test_a_quarantine_outlives_the_server_and_its_state(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    await datastores.quarantine("s1", WHO, "a disk lies")
    await datastores.close()
    later = await world.start()
    with pytest.raises(Quarantined, match="a disk lies"):
        await start(await later.get("s1"))


async def test_a_release_needs_its_cause_and_keeps_it(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    with pytest.raises(ConflictError, match="is not quarantined"):
        await datastores.release("s1", WHO, "why not")
    await datastores.quarantine("s1", WHO)
    with pytest.raises(UsageError, match="cause is empty"):
        await datastores.release("s1", WHO, "  ")
    with pytest.raises(ConflictError, match="quarantined already"):
        await datastores.quarantine("s1", WHO)
    assert (await datastores.release("s1", WHO, "cosmic rays")).status == "online"
    released = (await datastores.get("s1")).context.modes.record.released
    assert released is not None
    assert (released.cause, released.by) == ("cosmic rays", WHO)
    assert b"cosmic rays" in (world.path / "s1/.ibs/mode.json").read_bytes()


async def test_a_damaged_record_counts_as_quarantine(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    await datastores.close()
    (world.path / "s1/.ibs/mode.json").write_bytes(b'{"quarantine":')
    later = await world.start()
    assert (await later.view("s1")).mode == "quarantined"
    await later.release("s1", WHO, "the record was torn")
    assert (await later.view("s1")).status == "online"


async def test_read_only_lets_what_runs_finish(world: World, autojump_clock: trio.testing.MockClock) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    datastore = await datastores.get("s1")
    writer = await start(datastore)
    await datastores.maintain("s1", WHO, Mode.READ_ONLY, "new disks")
    with pytest.raises(UnderMaintenance, match="new disks"):
        await start(datastore, group="host/other")
    told: list[str] = []
    async with trio.open_nursery() as nursery:

        async def settle() -> None:
            told.append(await datastores.settle("s1", 300, told.append))

        nursery.start_soon(settle)
        await trio.testing.wait_all_tasks_blocked()
        await writer.archive("etc.tree", [b"one"])
        result = await writer.commit()
    assert told[0] == "waiting for 1 backup"
    assert told[-1] == "datastore s1 is read-only for maintenance; nothing was interrupted"
    assert await read(datastore, result.snapshot, "etc.tree") == [b"one"]
    await datastores.maintain("s1", WHO, Mode.NORMAL)
    assert (await datastores.view("s1")).status == "online"


async def test_offline_drains_then_ends_and_lets_go(world: World, autojump_clock: trio.testing.MockClock) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    datastore = await datastores.get("s1")
    result = await backup(datastore, {"etc.tree": [b"one"]})
    writer = await start(datastore, group="host/slow")
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    await datastores.maintain("s1", WHO, Mode.OFFLINE)
    with pytest.raises(DatastoreOffline, match="in maintenance since") as caught:
        await datastores.get("s1")
    assert "datastore maintenance s1 off" in caught.value.hint
    assert datastores.opened() == [datastore]  # what is under way can still come to its end
    told: list[str] = []
    done = await datastores.settle("s1", 60, told.append)
    assert told == ["waiting for 1 backup, 1 reader"]
    assert done == "datastore s1 is offline for maintenance; interrupted after 60 s: 1 backup, 1 reader"
    with pytest.raises(SessionLost, match="in maintenance"):
        await writer.send(b"two")
    assert reader.over
    (world.path / "s1").rename(world.path / "elsewhere")  # nothing holds it
    (world.path / "elsewhere").rename(world.path / "s1")
    probed = await datastores.probe("s1")
    assert (probed.status, probed.mode) == ("offline", "offline")
    assert not probed.checks[0].ok
    assert "in maintenance" in probed.checks[0].detail
    await datastores.close()
    later = await world.start()
    assert (await later.view("s1")).mode == "offline"
    assert (await later.maintain("s1", WHO, Mode.NORMAL)).status == "online"
    assert await read(await later.get("s1"), result.snapshot, "etc.tree") == [b"one"]


async def test_the_end_of_a_maintenance_while_it_waits_changes_nothing_more(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    writer = await start(await datastores.get("s1"))
    await datastores.maintain("s1", WHO, Mode.OFFLINE)
    async with trio.open_nursery() as nursery:

        async def settle() -> None:
            with pytest.raises(ConflictError, match="changed meanwhile"):
                await datastores.settle("s1", 300, lambda _: None)

        nursery.start_soon(settle)
        await trio.testing.wait_all_tasks_blocked()
        await datastores.maintain("s1", WHO, Mode.NORMAL)
    await writer.send(b"one")
    assert (await datastores.view("s1")).status == "online"


async def test_other_work_is_ended_by_a_quarantine(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    modes = (await datastores.get("s1")).context.modes
    async with trio.open_nursery() as nursery:

        async def collect() -> None:
            with pytest.raises(Quarantined), modes.using(Use.GC):
                await trio.sleep_forever()

        nursery.start_soon(collect)
        await trio.testing.wait_all_tasks_blocked()
        await datastores.quarantine("s1", WHO)
    with pytest.raises(UsageError, match="not a maintenance mode"):
        await datastores.maintain("s1", WHO, Mode.QUARANTINED)


async def test_a_reader_is_not_ended_by_a_quarantine(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    datastore = await datastores.get("s1")
    result = await backup(datastore, {"etc.tree": [b"one"]})
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    await datastores.quarantine("s1", WHO)
    assert len(await reader.file("etc.tree.idx")) > 0
    await datastore.readers.close_reader(reader.reader_id, OWNER, ReaderClose())
