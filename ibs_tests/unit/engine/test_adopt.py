"""Existing datastores attached to another server: with all that is in them, refused clearly, taken over safely."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ibs.engine.datastores import Datastores
from ibs.engine.modes import Mode
from ibs.errors import ConflictError, DatastoreOffline, UsageError
from ibs_tests.support.engine import backup, read, start
from ibs_tests.unit.engine.test_datastores import Records, World

CONTENT = {"etc.tree": [b"data", b"meta"]}
ELSEWHERE = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    for datastores in world.started:
        for datastore in datastores.opened():
            await datastore.close("the test is over", clean=False)


async def other_server(world: World) -> Datastores:
    """Another server, with a catalog of its own, that reaches the same disk."""
    world.records, world.server = Records(), ELSEWHERE
    return await world.start()


async def test_removed_here_and_adopted_there(world: World) -> None:
    first = await world.start()
    await first.create("s1", str(world.path / "store"))
    result = await backup(await first.get("s1"), CONTENT)
    await first.quarantine("s1", "root@ibs", "a disk lies")
    await first.detach("s1")
    second = await other_server(world)
    view = await second.adopt("renamed", str(world.path / "store"), "from afar")
    assert (view.name, view.status, view.snapshots, view.comment) == ("renamed", "quarantined", 1, "from afar")
    assert await read(await second.get("renamed"), result.snapshot, "etc.tree") == CONTENT["etc.tree"]
    await second.release("renamed", "root@ibs", "a new disk")
    await second.close()
    third = await world.start()
    assert (await third.view("renamed")).status == "online"
    await third.detach("renamed")
    assert (await third.adopt("again", str(world.path / "store"))).snapshots == 1


async def test_a_store_of_a_lost_server_needs_takeover(world: World) -> None:
    first = await world.start()
    await first.create("s1", str(world.path / "store"))
    await backup(await first.get("s1"), CONTENT)
    await first.close()
    lost = world.server
    second = await other_server(world)
    with pytest.raises(ConflictError, match=f"belongs to server {lost}") as caught:
        await second.adopt("s1", str(world.path / "store"))
    assert "--takeover" in caught.value.hint
    assert await second.list() == []
    assert (await second.adopt("s1", str(world.path / "store"), takeover=True)).snapshots == 1
    assert "datastore.adopted" in world.kinds()


async def test_the_old_server_stops_writing_at_its_next_look(world: World) -> None:
    """Two hosts on one disk: locks of the one are not seen by the other."""
    first = await world.start()
    await first.create("s1", str(world.path / "store"))
    old = await first.get("s1")
    writer = await start(old)
    await writer.archive("etc.tree", [b"data", b"meta"])
    fcntl.flock(old.store._lock_fd, fcntl.LOCK_UN)
    for index in list((world.path / "store/.ibs").glob("chunks.db*")):
        index.rename(index.with_name(f"old-{index.name}"))
    second = await other_server(world)
    await second.adopt("s1", str(world.path / "store"), takeover=True)
    with pytest.raises(DatastoreOffline, match=f"owner elsewhere: server {ELSEWHERE} took it over"):
        await writer.commit()
    probed = await first.probe("s1")
    assert probed.status == "offline"
    assert "owner elsewhere" in probed.reason
    result = await backup(await second.get("s1"), CONTENT, group="host/other")
    assert await read(await second.get("s1"), result.snapshot, "etc.tree") == CONTENT["etc.tree"]
    assert [str(name) for name in await (await second.get("s1")).snapshots.every()] == [result.snapshot]


async def test_what_cannot_be_adopted_is_refused_and_left_alone(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "store"))
    (world.path / "plain").mkdir()
    (world.path / "plain/file").write_text("x")
    for name, path, error, words in (
        ("s2", "plain", UsageError, "is not a datastore"),
        ("s2", "nowhere", UsageError, "path does not exist"),
        ("s2", "store", ConflictError, "is the place of datastore s1"),
        ("s1", "plain", ConflictError, "exists already"),
        ("-x", "plain", UsageError, "not valid"),
    ):
        with pytest.raises(error, match=words):
            await datastores.adopt(name, str(world.path / path))
    assert [view.name for view in await datastores.list()] == ["s1"]
    assert sorted(each.name for each in (world.path / "plain").iterdir()) == ["file"]
    second = await other_server(world)
    with pytest.raises(ConflictError, match="in use by a running server on this host"):
        await second.adopt("s1", str(world.path / "store"), takeover=True)


async def test_a_store_that_moved_is_told_from_its_twin(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "store"))
    await datastores.close()
    (world.path / "store").rename(world.path / "moved")
    datastores = await world.start()
    with pytest.raises(ConflictError, match="holds datastore s1, which is attached already"):
        await datastores.adopt("s2", str(world.path / "moved"))
    await datastores.detach("s1")
    assert (await datastores.adopt("s2", str(world.path / "moved"))).status == "online"


async def test_one_in_maintenance_stays_in_it(world: World) -> None:
    first = await world.start()
    await first.create("s1", str(world.path / "store"))
    await first.maintain("s1", "root@ibs", Mode.OFFLINE)
    await first.settle("s1", 0, lambda _: None)
    await first.detach("s1")
    second = await other_server(world)
    view = await second.adopt("s1", str(world.path / "store"), takeover=True)
    assert (view.status, view.mode) == ("offline", "offline")
    assert (await second.maintain("s1", "root@ibs", Mode.NORMAL)).status == "online"
