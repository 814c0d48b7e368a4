"""Namespaces: made, counted, removed only when empty or on request, and owners set anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core.manifest import SnapshotState
from ibs.core.names import Group, Namespace
from ibs.engine.datastore import Datastore
from ibs.errors import ConflictError, NotFoundError, RefusedError, UsageError
from ibs_tests.support.engine import OTHER, OWNER, Box, backup, read, snapshot_of

CONTENT = {"etc.tree": [b"a", b"meta"]}
WEB = Group.parse("host/web01")


def ns(text: str) -> Namespace:
    return Namespace.parse(text)


async def listed(datastore: Datastore) -> dict[str, tuple[int, int]]:
    return {str(one.namespace): (one.groups, one.snapshots) for one in await datastore.namespaces.filled()}


async def test_made_with_those_above_and_listed_with_what_is_in_them(box: Box, datastore: Datastore) -> None:
    await datastore.namespaces.create(ns("a/b"))
    for _ in range(2):
        box.clock.advance(60)
        await backup(datastore, CONTENT, namespace="a")
    assert await listed(datastore) == {"": (0, 0), "a": (1, 2), "a/b": (0, 0)}
    with pytest.raises(ConflictError):
        await datastore.namespaces.create(ns("a"))
    with pytest.raises(UsageError):
        await datastore.namespaces.create(ns(""))


async def test_only_an_empty_one_is_removed(box: Box, datastore: Datastore) -> None:
    await datastore.namespaces.create(ns("a/b"))
    with pytest.raises(ConflictError, match="1 namespaces below"):
        await datastore.namespaces.remove(ns("a"), "root@ibs")
    assert [str(one) for one in (await datastore.namespaces.remove(ns("a/b"), "root@ibs")).namespaces] == ["a/b"]
    name = snapshot_of(await backup(datastore, CONTENT, namespace="a"))
    with pytest.raises(ConflictError, match="1 snapshots"):
        await datastore.namespaces.remove(ns("a"), "root@ibs")
    await datastore.bin.put(name, "root@ibs")
    await datastore.namespaces.remove(ns("a"), "root@ibs")
    assert not Path(box.path, "ns/@a").exists()
    for wrong, error in (("a", NotFoundError), ("", UsageError)):
        with pytest.raises(error):
            await datastore.namespaces.remove(ns(wrong), "root@ibs")
    await datastore.bin.undo(str(name))
    assert await read(datastore, str(name), "etc.tree") == CONTENT["etc.tree"]
    assert await datastore.snapshots.owner(ns("a"), WEB) == OWNER


async def test_removed_recursively_everything_can_be_undone(box: Box, datastore: Datastore) -> None:
    names = []
    for space in ("a", "a/b", "a/b/c", "ab"):
        box.clock.advance(60)
        names.append(snapshot_of(await backup(datastore, CONTENT, namespace=space)))
    gone = await datastore.namespaces.remove(ns("a"), "root@ibs", recursive=True)
    assert [str(one) for one in gone.namespaces] == ["a/b/c", "a/b", "a"]
    assert list(gone.to_bin) == names[:3]
    assert await listed(datastore) == {"": (0, 0), "ab": (1, 1)}
    for entry in await datastore.bin.entries():
        assert entry.why == "namespace a was removed"
        await datastore.bin.undo(entry.entry)
    assert set(await datastore.snapshots.every()) == set(names)


async def test_a_protected_snapshot_keeps_all_of_it(box: Box, datastore: Datastore) -> None:
    names = []
    for space in ("a", "a/b"):
        box.clock.advance(60)
        names.append(snapshot_of(await backup(datastore, CONTENT, namespace=space)))
    datastore.context.folders.change_state(names[1], lambda _: SnapshotState(protected=True))
    with pytest.raises(RefusedError, match="nothing was removed"):
        await datastore.namespaces.remove(ns("a"), "root@ibs", recursive=True)
    assert set(await datastore.snapshots.every()) == set(names)


async def test_what_came_into_it_meanwhile_stays(box: Box, datastore: Datastore) -> None:
    name = snapshot_of(await backup(datastore, CONTENT, namespace="a"))
    files = datastore.store.snapshots
    for groups in ([WEB], []):
        with pytest.raises(ConflictError):
            files.remove_namespace(ns("a"), groups)
    assert await datastore.snapshots.owner(ns("a"), WEB) == OWNER
    assert await datastore.snapshots.every() == [name]


async def test_a_group_gets_another_owner_also_when_its_record_is_lost(box: Box, datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    assert await datastore.namespaces.set_owner(ns(""), WEB, OTHER) == OWNER
    Path(box.path, "ns/host/web01/owner.json").unlink()
    assert await datastore.namespaces.set_owner(ns(""), WEB, OWNER) == ""
    assert await datastore.snapshots.owner(ns(""), WEB) == OWNER
    with pytest.raises(UsageError):
        await datastore.namespaces.set_owner(ns(""), WEB, "nobody")
    with pytest.raises(NotFoundError):
        await datastore.namespaces.set_owner(ns(""), Group.parse("host/none"), OTHER)
