"""Moving a group: stated anew where the server may, refused where it may not, and goes on when stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ibs.core import manifest as manifests
from ibs.core.keys import DataKeys
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.engine import moving
from ibs.engine.datastore import Datastore
from ibs.engine.moving import Moved, move_group
from ibs.errors import BusyError, ConflictError, NotFoundError, RefusedError, UsageError
from ibs_tests.support.engine import OTHER, OWNER, Box, backup, key_registry, read, snapshot_of, start

WEB, ROOT, NEW = Group.parse("host/web01"), Namespace(), Namespace.parse("a/b")


async def made(box: Box, datastore: Datastore, count: int = 2, **options: object) -> list[SnapshotName]:
    names = []
    for number in range(count):
        box.clock.advance(3600)
        names.append(snapshot_of(await backup(datastore, {"etc.tree": [b"%d" % number, b"meta"]}, **options)))
    return names


async def move(datastore: Datastore, target: Namespace = NEW, *, busy: Namespace | None = None) -> Moved:
    group = SnapshotName(ROOT, WEB)
    return await move_group(
        datastore.context, datastore.bin, group, target, "root@ibs", busy=lambda space, _: space == busy
    )


async def test_snapshots_have_new_names_manifests_and_their_state(box: Box, datastore: Datastore) -> None:
    old = await made(box, datastore)
    await datastore.snapshots.annotate(old[0], notes="n", protected=True)
    before = [await datastore.snapshots.load(name) for name in old]
    moved = await move(datastore)
    assert [str(name) for name in moved.snapshots] == [f"ns:a/b/{name}" for name in old]
    after = [await datastore.snapshots.load(name) for name in moved.snapshots]
    assert [one.manifest.source for one in after] == [one.digest.hex() for one in before]
    assert [one.manifest.previous for one in after] == ["", after[0].digest.hex()]
    assert (after[0].state.notes, after[0].state.protected) == ("n", True)
    for number, one in enumerate(after):
        manifests.verify(one.manifest_bytes, one.signature)
        assert await read(datastore, str(one.name), "etc.tree") == [b"%d" % number, b"meta"]
    assert await datastore.snapshots.every() == list(moved.snapshots)
    assert await datastore.snapshots.owner(NEW, WEB) == OWNER
    assert {entry.snapshot for entry in await datastore.bin.entries()} == set(old)
    await datastore.bin.undo(str(old[1]))
    assert await read(datastore, str(old[1]), "etc.tree") == [b"1", b"meta"]
    box.clock.advance(3600)
    again = await start(datastore, namespace="a/b")
    assert again.session.opened.previous_manifest_digest == after[1].digest.hex()


async def test_what_a_client_signed_is_refused_before_anything_moves(box: Box) -> None:
    keys = DataKeys.from_root(bytes(32))
    box.keys = key_registry(keys)
    datastore = await box.open()
    old = await made(box, datastore, 1)
    old += await made(box, datastore, 1, keys=keys)
    with pytest.raises(RefusedError, match="signed by its client"):
        await move(datastore)
    assert await datastore.snapshots.every() == old


async def test_stopped_half_way_it_goes_on_when_asked_again(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await made(box, datastore, 3)
    issue = moving._issue

    def fails(*given: object) -> object:
        if given[1].name == old[2]:  # type: ignore[attr-defined]
            raise BusyError("stopped")
        return issue(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(moving, "_issue", fails)
    with pytest.raises(BusyError):
        await move(datastore)
    assert len(await datastore.snapshots.every()) == 5
    monkeypatch.setattr(moving, "_issue", issue)
    moved = await move(datastore)
    assert await datastore.snapshots.every() == list(moved.snapshots)
    assert len(moved.snapshots) == 3
    assert datastore.store.staging.names() == []


async def test_stopped_while_the_old_ones_go_to_the_bin_it_goes_on(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await made(box, datastore, 3)
    put = datastore.bin.put_held

    async def fails(name: SnapshotName, by: str, why: str = "") -> object:
        if name == old[1]:
            raise BusyError("stopped")
        return await put(name, by, why)

    monkeypatch.setattr(datastore.bin, "put_held", fails)
    with pytest.raises(BusyError):
        await move(datastore)
    assert len(await datastore.snapshots.every()) == 5
    monkeypatch.setattr(datastore.bin, "put_held", put)
    await move(datastore)
    assert [name.namespace for name in await datastore.snapshots.every()] == [NEW] * 3
    assert {entry.snapshot for entry in await datastore.bin.entries()} == set(old)


async def test_what_cannot_be_moved(box: Box, datastore: Datastore) -> None:
    with pytest.raises(NotFoundError):
        await move(datastore)
    await made(box, datastore, 1)
    with pytest.raises(UsageError):
        await move(datastore, ROOT)
    for busy in (ROOT, NEW):
        with pytest.raises(BusyError):
            await move(datastore, busy=busy)
    await made(box, datastore, 1, namespace="a/b", auth_id=OTHER)
    with pytest.raises(ConflictError):
        await move(datastore)
    assert len(await datastore.snapshots.every()) == 2


async def test_entries_that_left_the_bin_meanwhile_do_not_stop_it(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await made(box, datastore, 3)
    put = datastore.bin.put_held

    async def fails(name: SnapshotName, by: str, why: str = "") -> object:
        if name == old[2]:
            raise BusyError("stopped")
        return await put(name, by, why)

    monkeypatch.setattr(datastore.bin, "put_held", fails)
    with pytest.raises(BusyError):
        await move(datastore)
    monkeypatch.setattr(datastore.bin, "put_held", put)
    for entry in await datastore.bin.entries():  # days go by
        await datastore.bin.purge(entry.entry)
    await made(box, datastore, 1, namespace="a/b")  # and the group lives on in its new place
    assert len((await move(datastore)).snapshots) == 1
    assert [name.namespace for name in await datastore.snapshots.every()] == [NEW] * 4


async def test_a_backup_that_begins_meanwhile_waits_and_is_not_moved(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(box, datastore, 2)
    issue, seen = moving._issue, []

    def watched(*given: Any) -> Any:
        for space in (ROOT, NEW):
            seen.append(datastore.context.locks.of(space, WEB).locked())
        return issue(*given)

    monkeypatch.setattr(moving, "_issue", watched)
    await move(datastore)
    assert seen == [True] * 4
    assert not datastore.context.locks.of(ROOT, WEB).locked()


async def test_another_owners_group_is_never_taken_for_what_was_moved(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await made(box, datastore, 1)

    async def fails(name: SnapshotName, by: str, why: str = "") -> object:
        raise BusyError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(datastore.bin, "put_held", fails)
        with pytest.raises(BusyError):
            await move(datastore)
    datastore.context.folders.set_owner(NEW, WEB, OTHER)
    with pytest.raises(ConflictError):
        await move(datastore)
    datastore.context.folders.set_owner(NEW, WEB, OWNER)
    assert await datastore.snapshots.every() == [*old, SnapshotName(NEW, WEB, old[0].time)]
    assert (await move(datastore)).snapshots == [SnapshotName(NEW, WEB, old[0].time)]


async def test_a_snapshot_of_the_same_time_with_other_content_is_in_the_way(box: Box, datastore: Datastore) -> None:
    (old,) = await made(box, datastore, 1)
    there = datastore.context.folders.load(old)
    other = await backup(datastore, {"etc.tree": [b"other", b"meta"]}, namespace="a/b", group="host/web01")
    new = datastore.context.folders.load(snapshot_of(other))
    assert moving._is_made_from(there, there) is False
    forged = replace(new, manifest=msgspec.structs.replace(new.manifest, source=there.digest.hex()))
    assert moving._is_made_from(forged, there) is False
