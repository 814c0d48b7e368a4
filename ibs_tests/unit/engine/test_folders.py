"""Snapshots as values: what is found, remembered, refused; owners and states."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ibs.core import limits
from ibs.core.manifest import SnapshotState, VerifyState
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.folders import SnapshotFolders
from ibs.errors import FormatError, NotFoundError
from ibs_tests.support.engine import Box, backup

CONTENT = {"etc.tree": [b"data", b"meta"]}
WEB = Group("host", "web01")


async def test_every_snapshot_is_found(datastore: Datastore) -> None:
    names = [
        (await backup(datastore, CONTENT, group=group, namespace=space)).snapshot
        for group, space in (("host/web01", ""), ("host/web01", ""), ("vm/100", "a/b"), ("ct/7", "a"))
    ]
    assert sorted(str(name) for name in datastore.context.folders.every()) == sorted(names)


async def test_names_without_a_time_are_the_newest(datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    newest = (await backup(datastore, CONTENT)).snapshot
    folders = datastore.context.folders
    assert str(folders.resolve(SnapshotName.parse("host/web01"))) == newest
    for missing in ("host/db01", "host/web01/2020-01-01T00:00:00Z", "ns:a/host/web01"):
        with pytest.raises(NotFoundError, match=missing):
            folders.resolve(SnapshotName.parse(missing))
    assert folders.newest(Namespace(), Group("vm", "1")) is None


async def test_what_was_read_is_remembered_until_it_changes(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = SnapshotName.parse((await backup(datastore, CONTENT)).snapshot)
    folders = datastore.context.folders
    first = folders.load(name)
    assert folders.load(name) is first
    folders.change_state(name, lambda state: msgspec.structs.replace(state, notes="hello"))
    assert folders.load(name).state.notes == "hello"
    monkeypatch.setattr(limits, "SNAPSHOTS_REMEMBERED", 0)
    fresh = SnapshotFolders(datastore.store.snapshots)
    assert fresh.load(name) is not fresh.load(name)


async def test_a_removed_snapshot_is_not_remembered(datastore: Datastore) -> None:
    name = SnapshotName.parse((await backup(datastore, CONTENT)).snapshot)
    datastore.context.folders.load(name)
    datastore.store.snapshots.remove(str(name))
    with pytest.raises(NotFoundError):
        datastore.context.folders.load(name)


async def test_a_snapshot_in_the_place_of_another_is_refused(box: Box, datastore: Datastore) -> None:
    first = (await backup(datastore, CONTENT)).snapshot
    second = (await backup(datastore, CONTENT)).snapshot
    ns = Path(box.path) / "ns"
    for file in ("manifest.json", "manifest.sig"):
        (ns / first / file).write_bytes((ns / second / file).read_bytes())
    with pytest.raises(FormatError, match=f"names {second}"):
        SnapshotFolders(datastore.store.snapshots).load(SnapshotName.parse(first))


@pytest.mark.parametrize("file", ["manifest.json", "manifest.sig", "state.json"])
async def test_damaged_files_are_refused(box: Box, datastore: Datastore, file: str) -> None:
    name = (await backup(datastore, CONTENT)).snapshot
    (Path(box.path) / "ns" / name / file).write_bytes(b"{")
    with pytest.raises(FormatError):
        SnapshotFolders(datastore.store.snapshots).load(SnapshotName.parse(name))


async def test_state_is_optional_and_a_torn_one_can_be_replaced(box: Box, datastore: Datastore) -> None:
    name = SnapshotName.parse((await backup(datastore, CONTENT)).snapshot)
    path = Path(box.path) / "ns" / str(name) / "state.json"
    folders = datastore.context.folders
    path.unlink()
    assert folders.state(name) == SnapshotState()
    path.write_bytes(b"\0" * 50)
    folders.change_state(name, lambda state: msgspec.structs.replace(state, protected=True))
    assert folders.state(name).protected
    with pytest.raises(NotFoundError):
        folders.change_state(SnapshotName.parse("host/x/2020-01-01T00:00:00Z"), lambda state: state)


async def test_verify_failed(datastore: Datastore) -> None:
    name = SnapshotName.parse((await backup(datastore, CONTENT)).snapshot)
    folders = datastore.context.folders
    assert not folders.load(name).verify_failed
    for result, failed in (("OK", False), ("CORRUPT", True), ("MISSING", True)):
        verify = VerifyState(result=result, time="2026-01-01T00:00:00Z")
        folders.change_state(name, lambda state, verify=verify: msgspec.structs.replace(state, verify=verify))
        assert folders.load(name).verify_failed is failed


async def test_an_owner_exists_only_with_a_snapshot(box: Box, datastore: Datastore) -> None:
    folders = datastore.context.folders
    folders.set_owner(Namespace(), WEB, "mallory@ibs")
    assert folders.owner(Namespace(), WEB) == ""
    await backup(datastore, CONTENT)
    assert folders.owner(Namespace(), WEB) == "alice@ibs"
    (Path(box.path) / "ns" / "host" / "web01" / "owner.json").unlink()
    with pytest.raises(FormatError, match=r"no owner\.json"):
        folders.owner(Namespace(), WEB)


async def test_a_damaged_manifest_is_told_with_its_snapshot(datastore: Datastore, tmp_path: Path) -> None:
    result = await backup(datastore, CONTENT)
    name = SnapshotName.parse(result.snapshot)
    (path,) = tmp_path.rglob("manifest.json")
    path.write_bytes(path.read_bytes().replace(b'"sequence": 1', b'"sequence": -1'))
    datastore.context.folders.forget(name)
    with pytest.raises(FormatError, match=f"snapshot {result.snapshot} is damaged") as caught:
        await datastore.snapshots.load(name)
    assert "verify start" in caught.value.hint


@pytest.mark.parametrize("file", ["manifest.json", "manifest.sig", "state.json"])
async def test_a_file_that_was_repaired_in_place_is_read_again(box: Box, datastore: Datastore, file: str) -> None:
    """The folder's own stamp does not change then."""
    name = SnapshotName.parse((await backup(datastore, CONTENT)).snapshot)
    datastore.context.folders.change_state(name, lambda state: state)
    folders, path = SnapshotFolders(datastore.store.snapshots), Path(box.path) / "ns" / str(name) / file
    first = folders.load(name)
    assert folders.load(name) is first
    path.write_bytes(path.read_bytes())
    assert folders.load(name) is not first
