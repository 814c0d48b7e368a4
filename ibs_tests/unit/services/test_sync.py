"""Datastores are probed without one holding up another; snapshots that come or go by themselves are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.errors import DatastoreOffline
from ibs.ports.chunkstore import Space
from ibs.runtime.mailbox import Handle
from ibs.services.sync import KnownSnapshots, Probe, Reconcile, Sync
from ibs.wire.datastore import ProbeResult
from ibs_tests.support.engine import backup
from ibs_tests.unit.services.conftest import House

TREE = {"etc.tree": [b"data", b"root"]}


def furnish(house: House, known: KnownSnapshots) -> Handle:
    return house.add(
        "sync",
        lambda seat: Sync(
            seat, house.catalog.datastores, house.datastores, known, clock=house.clock, publish=house.publish
        ),
    )


def strange(house: House) -> list[str]:
    return [event.kind for event in house.events if event.kind.startswith("datastore.snapshots")]


async def tell(handle: Handle, message: Probe | Reconcile) -> None:
    handle.tell(message)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_lost_datastore_goes_offline_and_comes_back(house: House, autojump_clock: MockClock) -> None:
    await house.make_store()
    handle = furnish(house, KnownSnapshots())
    folder = house.catalog.state.parent / "s1"
    async with house.running():
        folder.rename(folder.with_name("away"))
        await tell(handle, Probe())
        assert (await house.datastores.view("s1")).status == "offline"
        folder.with_name("away").rename(folder)
        await tell(handle, Probe())
        assert (await house.datastores.view("s1")).status == "online"
    assert house.kinds().count("datastore.offline") == 1


async def test_space_that_becomes_scarce_is_told_once_a_step_and_when_all_is_well(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await house.make_store()
    handle = furnish(house, KnownSnapshots())
    free = 100
    monkeypatch.setattr(type(store.store), "space", lambda _: Space(100, free, 0, 0))
    async with house.running():
        for free in (100, 9, 8, 2, 1, 9, 50, 60):  # noqa: B007 - what the file system says next
            await tell(handle, Probe())
    told = [event for event in house.events if event.kind.startswith("datastore.space")]
    assert [(event.kind, str(event.severity)) for event in told] == [
        ("datastore.space-low", "warning"),
        ("datastore.space-out", "error"),
        ("datastore.space-well", "notice"),
    ]
    assert told[1].text == (
        "datastore s1: 98 % of its file system are used, 2 B are free; backups are about to be refused"
    )
    assert (told[0].fields["datastore"], told[0].fields["bytes_free"]) == ("s1", 9)


async def test_our_own_commits_are_nothing_strange(house: House, autojump_clock: MockClock) -> None:
    store, known = await house.make_store(), KnownSnapshots()
    handle = furnish(house, known)
    async with house.running():
        await tell(handle, Reconcile())
        made = await backup(store, TREE)
        known.note_commit(store.uuid, made.snapshot)
        for _ in range(3):
            await tell(handle, Reconcile())
    assert strange(house) == []


async def test_snapshots_that_vanish_or_appear_are_told_once(house: House, autojump_clock: MockClock) -> None:
    store, known = await house.make_store(), KnownSnapshots()
    first = await backup(store, TREE)
    await backup(store, TREE, group="host/web02")
    handle = furnish(house, known)
    group = Path(house.catalog.state.parent) / "s1" / "ns" / "host" / "web01"
    async with house.running():
        await tell(handle, Reconcile())
        aside = house.catalog.state.parent / "aside"
        shutil.move(group, aside)
        await tell(handle, Reconcile())
        await tell(handle, Reconcile())
        assert strange(house) == ["datastore.snapshots-vanished"]
        vanished = next(event for event in house.events if event.kind == "datastore.snapshots-vanished")
        assert (vanished.severity, vanished.fields["first"]) == ("error", first.snapshot)
        shutil.move(aside, group)
        await tell(handle, Reconcile())
        assert len(strange(house)) == 1  # it may be a commit that is about to be noted
        await tell(handle, Reconcile())
        await tell(handle, Reconcile())
        assert strange(house) == ["datastore.snapshots-vanished", "datastore.snapshots-appeared"]


async def test_what_is_known_survives_the_actor(house: House, autojump_clock: MockClock) -> None:
    store, known = await house.make_store(), KnownSnapshots()
    await backup(store, TREE)
    handle = furnish(house, known)
    async with house.running():
        await tell(handle, Reconcile())
        await house.kill("sync")
        shutil.rmtree(house.catalog.state.parent / "s1" / "ns" / "host")
        await tell(handle, Reconcile())
    assert strange(house) == ["datastore.snapshots-vanished"]


async def test_a_disk_that_hangs_holds_up_nobody_else(house: House, autojump_clock: MockClock) -> None:
    probed: list[str] = []

    class Stores:
        async def probe(self, name: str) -> ProbeResult:
            probed.append(name)
            if name == "hangs":
                await trio.sleep_forever()
            if name == "fails":
                raise DatastoreOffline(name, "gone")
            return ProbeResult(name=name, status="online", checks=[])

        def opened(self) -> list[object]:
            return []

    class Records:
        async def list(self) -> list[object]:
            return [type("Row", (), {"name": name}) for name in ("hangs", "fails", "works")]

    handle = house.add(
        "sync",
        lambda seat: Sync(
            seat,
            Records(),  # type: ignore[arg-type]
            Stores(),  # type: ignore[arg-type]
            KnownSnapshots(),
            clock=house.clock,
            publish=house.publish,
        ),
    )
    async with house.running():
        await tell(handle, Probe())
        await tell(handle, Probe())
        assert sorted(probed) == ["fails", "fails", "hangs", "works", "works"]
        assert house.state("sync").restarts == 0
        house.supervisor.abort()


def test_comparing_takes_the_new_state_over() -> None:
    known = KnownSnapshots()
    known.note_commit("u", "before the first look")
    assert known.compare("u", {"a"}) == ([], [])
    known.note_commit("u", "b")
    assert known.compare("u", {"a", "b"}) == ([], [])
    assert known.compare("u", {"b"}) == (["a"], [])
    assert known.compare("u", {"b", "x"}) == ([], [])
    assert known.compare("u", {"b", "x"}) == ([], ["x"])
    assert known.compare("u", {"b", "x"}) == ([], [])
    known.note_commit("u", "made and gone")
    assert known.compare("u", {"b", "x"}) == (["made and gone"], [])


def test_what_the_server_takes_away_or_brings_back_is_no_surprise() -> None:
    known = KnownSnapshots()
    known.note_moved("u", "a", False)  # nothing is known yet
    assert known.compare("u", {"a", "b"}) == ([], [])
    known.note_moved("u", "a", False)
    assert known.compare("u", {"a", "b"}) == ([], [])  # announced, and still there
    assert known.compare("u", {"b"}) == ([], [])
    known.note_moved("u", "a", True)
    assert known.compare("u", {"a", "b"}) == ([], [])
    assert known.compare("u", {"b"}) == (["a"], [])
