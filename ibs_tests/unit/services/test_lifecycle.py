"""The lifecycle desk: whose groups a caller touches, what is told, and what the bin and the clock show."""

from __future__ import annotations

import pytest

from ibs.core.names import Namespace
from ibs.engine.datastore import Datastore
from ibs.errors import ConflictError, NotFoundError, RefusedError, UsageError
from ibs.services.lifecycle import Lifecycle, group_of
from ibs.wire.lifecycle import SnapshotChange
from ibs_tests.support.engine import OTHER, OWNER, backup
from ibs_tests.unit.services.conftest import House

WHO = "root@ibs"


def every(_namespace: Namespace, _owner: str) -> bool:
    return True


def none(_namespace: Namespace, _owner: str) -> bool:
    return False


async def made(house: House) -> tuple[Lifecycle, Datastore, str]:
    datastore = await house.make_store()
    result = await backup(datastore, {"etc.tree": [b"a", b"meta"]})
    return Lifecycle(house.datastores), datastore, result.snapshot


async def test_notes_and_protection_are_the_owners_and_told(house: House) -> None:
    desk, _, name = await made(house)
    view = await desk.change("s1", OWNER, SnapshotChange(snapshot=name, notes="n", protected=True), owner=OWNER)
    assert (view.notes, view.protected) == ("n", True)
    with pytest.raises(NotFoundError):
        await desk.change("s1", OTHER, SnapshotChange(snapshot=name, protected=False), owner=OTHER)
    with pytest.raises(RefusedError, match="protected"):
        await desk.forget("s1", WHO, name, "", owner="")
    await desk.change("s1", WHO, SnapshotChange(snapshot=name, protected=False), owner="")
    assert [kind for kind in house.kinds() if kind.startswith("snapshot.")] == [
        "snapshot.protected",
        "snapshot.unprotected",
    ]


async def test_forgotten_listed_undone_and_emptied(house: House) -> None:
    desk, datastore, name = await made(house)
    with pytest.raises(UsageError, match="names no time"):
        await desk.forget("s1", WHO, "host/web01", "", owner="")
    with pytest.raises(NotFoundError):
        await desk.forget("s1", OTHER, name, "", owner=OTHER)
    entry = await desk.forget("s1", WHO, name, "old", owner="")
    assert (entry.snapshot, entry.owner, entry.by, entry.why, entry.waits) == (name, OWNER, WHO, "old", "")
    assert entry.due > entry.forgotten
    assert await desk.bin_list("s1", every) == [entry]
    assert await desk.bin_list("s1", none) == []
    with pytest.raises(NotFoundError):
        await desk.bin_undo("s1", OTHER, name, none)
    assert await desk.bin_undo("s1", WHO, entry.entry, every) == name
    await desk.forget("s1", WHO, name, "", owner=OWNER)
    assert (await desk.bin_empty("s1", WHO, name)).removed == [name]
    assert (await desk.bin_empty("s1", WHO, "")).removed == []
    with pytest.raises(NotFoundError):
        await desk.bin_empty("s1", WHO, name)
    assert await datastore.snapshots.every() == []
    told = [kind for kind in house.kinds() if kind.startswith(("snapshot.", "bin."))]
    assert told == ["snapshot.forgotten", "snapshot.undone", "snapshot.forgotten", "bin.emptied"]


async def test_the_clock_is_shown_and_confirmed(house: House) -> None:
    desk, datastore, name = await made(house)
    assert (await desk.clock("s1")).frozen == ""
    datastore.store.records.write("clock.json", b'{"seconds":5,"frozen":"it jumped"}')
    datastore.context.time.load()
    shown = await desk.clock("s1")
    assert (shown.frozen, shown.time) == ("it jumped", "1970-01-01T00:00:05Z")
    assert (await desk.forget("s1", WHO, name, "", owner="")).waits == "it jumped"
    confirmed = await desk.confirm_clock("s1", WHO)
    assert (confirmed.frozen, confirmed.confirmed_by, confirmed.time) == ("", WHO, confirmed.wall)
    assert house.kinds()[-1] == "datastore.clock-confirmed"


async def test_namespaces_and_owners(house: House) -> None:
    desk, _, name = await made(house)
    assert (await desk.create_namespace("s1", WHO, "a/b")).namespace == "a/b"
    with pytest.raises(ConflictError):
        await desk.create_namespace("s1", WHO, "a")
    shown = await desk.namespaces("s1", lambda space: str(space) != "a")
    assert [(one.namespace, one.groups, one.snapshots) for one in shown] == [("", 1, 1), ("a/b", 0, 0)]
    gone = await desk.remove_namespace("s1", WHO, "a", recursive=True)
    assert (gone.removed, gone.to_bin) == (["a/b", "a"], [])
    changed = await desk.set_owner("s1", WHO, "host/web01", OTHER)
    assert (changed.group, changed.owner, changed.before) == ("host/web01", OTHER, OWNER)
    with pytest.raises(UsageError, match="not a group"):
        await desk.set_owner("s1", WHO, name, OTHER)
    assert group_of("ns:a/host/x").namespace == Namespace.parse("a")


async def test_a_group_moves_and_that_is_told(house: House) -> None:
    desk, datastore, name = await made(house)
    moved = await desk.move_group("s1", WHO, "host/web01", "a")
    assert moved.snapshots == [f"ns:a/{name}"]
    assert [str(one) for one in await datastore.snapshots.every()] == moved.snapshots
    assert house.kinds()[-1] == "group.moved"
