"""Lists and views of snapshots, also when some of them are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core.manifest import VerifyState
from ibs.core.modes import Maintenance, Mode, ModeRecord, Quarantine
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.engine.datastore import Datastore
from ibs.errors import NotFoundError, UnderMaintenance
from ibs_tests.support.engine import OTHER, OWNER, Box, backup, snapshot_of, start

CONTENT = {"etc.tree": [b"data", b"meta"]}
ROOT = Namespace()


async def test_groups_and_snapshots_are_listed_in_order(datastore: Datastore) -> None:
    names = [(await backup(datastore, CONTENT, group=group)).snapshot for group in ("vm/1", "host/b", "host/a")]
    names.append((await backup(datastore, CONTENT, group="host/b")).snapshot)
    await backup(datastore, CONTENT, namespace="x")
    assert [str(group) for group in await datastore.snapshots.groups(ROOT)] == ["host/a", "host/b", "vm/1"]
    listed = [str(name) for name in await datastore.snapshots.list(ROOT)]
    assert listed == [names[2], names[1], names[3], names[0]]
    assert [str(name) for name in await datastore.snapshots.list(ROOT, Group("host", "b"))] == [names[1], names[3]]
    assert await datastore.snapshots.namespaces() == [ROOT, Namespace(("x",))]
    assert str(await datastore.snapshots.newest(ROOT, Group("host", "b"))) == names[3]
    assert str(await datastore.snapshots.resolve(SnapshotName.parse("host/b"))) == names[3]


async def test_views_tell_what_the_manifest_says(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": [b"data", b"meta"], "disk.img": [b""]})
    (view,) = await datastore.snapshots.snapshot_views(ROOT)
    assert (view.snapshot, view.owner, view.verify, view.signed_by) == (result.snapshot, OWNER, "", "server")
    assert view.plain_bytes == 8 + 4 * 1024 * 1024
    assert [(archive.name, archive.kind, archive.chunks) for archive in view.archives] == [
        ("etc.tree", "tree", 2),
        ("disk.img", "img", 1),
    ]
    (group,) = await datastore.snapshots.group_views(ROOT)
    assert (group.group, group.owner, group.snapshots, group.newest) == ("host/web01", OWNER, 1, view.time)


async def test_sessions_and_empty_groups_are_not_listed(datastore: Datastore) -> None:
    await start(datastore)
    datastore.context.folders.set_owner(ROOT, Group("host", "empty"), OWNER)
    assert await datastore.snapshots.group_views(ROOT) == []
    assert await datastore.snapshots.snapshot_views(ROOT) == []
    assert await datastore.snapshots.snapshot_views(ROOT, Group("host", "none")) == []


async def test_a_damaged_snapshot_is_listed_and_hides_no_other(box: Box, datastore: Datastore) -> None:
    first = (await backup(datastore, CONTENT)).snapshot
    second = (await backup(datastore, CONTENT)).snapshot
    (Path(box.path) / "ns" / first / "manifest.json").write_bytes(b"{}")
    datastore.context.folders.forget(SnapshotName.parse(first))
    views = await datastore.snapshots.snapshot_views(ROOT)
    assert [(view.snapshot, view.verify, view.owner) for view in views] == [
        (first, "CORRUPT", OWNER),
        (second, "", OWNER),
    ]
    (Path(box.path) / "ns" / "host" / "web01" / "owner.json").write_bytes(b"")
    assert [view.owner for view in await datastore.snapshots.group_views(ROOT)] == [""]
    assert (await datastore.snapshots.snapshot_views(ROOT))[0].owner == ""


async def test_one_view_for_its_owner_only(datastore: Datastore) -> None:
    result = await backup(datastore, CONTENT, auth_id="alice@ibs!laptop")
    name = SnapshotName.parse("host/web01")
    for owner in (None, "alice@ibs!laptop", "alice@ibs"):
        assert (await datastore.snapshots.snapshot_view(name, owner=owner)).snapshot == result.snapshot
    for stranger in (OTHER, "alice@ibs!phone"):
        with pytest.raises(NotFoundError):
            await datastore.snapshots.snapshot_view(name, owner=stranger)
    with pytest.raises(NotFoundError):
        await datastore.snapshots.snapshot_view(SnapshotName.parse("host/none"))


async def test_the_result_of_a_verification_is_noted(box: Box, datastore: Datastore) -> None:
    name = SnapshotName.parse((await backup(datastore, CONTENT)).snapshot)
    await datastore.snapshots.set_verify(name, VerifyState(result="OK", time="2026-01-01T00:00:00Z", chunks=2))
    assert (await datastore.snapshots.snapshot_views(ROOT))[0].verify == "OK"
    datastore = await box.kill(datastore)
    stored = await datastore.snapshots.load(name)
    assert stored.state.verify is not None
    assert stored.state.verify.chunks == 2
    with pytest.raises(NotFoundError):
        await datastore.snapshots.set_verify(
            SnapshotName.parse("host/x/2020-01-01T00:00:00Z"), VerifyState(result="OK", time="")
        )


async def test_notes_and_protection_are_changed_one_by_one(datastore: Datastore) -> None:
    name = snapshot_of(await backup(datastore, {"etc.tree": [b"a", b"meta"]}))
    noted = await datastore.snapshots.annotate(name, notes="before the upgrade")
    assert (noted.notes, noted.protected) == ("before the upgrade", False)
    protected = await datastore.snapshots.annotate(name, protected=True)
    assert (protected.notes, protected.protected) == ("before the upgrade", True)
    assert await datastore.snapshots.annotate(name) == protected
    with pytest.raises(NotFoundError):
        await datastore.snapshots.annotate(SnapshotName.parse("host/web01/2020-01-01T00:00:00Z"), notes="x")


async def test_a_snapshot_can_be_protected_in_a_quarantine_but_not_in_maintenance(datastore: Datastore) -> None:
    name = snapshot_of(await backup(datastore, {"etc.tree": [b"a", b"meta"]}))
    datastore.context.modes.set(ModeRecord(quarantine=Quarantine(reason="x", since="", by="")))
    assert (await datastore.snapshots.annotate(name, protected=True)).protected
    held = Maintenance(mode=Mode.READ_ONLY, reason="", since="", by="")
    datastore.context.modes.set(ModeRecord(maintenance=held))
    with pytest.raises(UnderMaintenance):
        await datastore.snapshots.annotate(name, protected=False)
