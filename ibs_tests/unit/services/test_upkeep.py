"""The upkeep desk: what is wrong with a request is said at once, what takes time is told as a task."""

from __future__ import annotations

import pytest
import trio

from ibs.errors import DatastoreOffline, UsageError
from ibs.services.upkeep import Upkeep
from ibs.wire.datastore import MaintenanceRequest
from ibs_tests.support.engine import backup
from ibs_tests.unit.services.conftest import House

WHO = "root@ibs"


async def test_maintenance_is_a_task_that_sees_it_through(house: House) -> None:
    await house.make_store()
    async with trio.open_nursery() as nursery:
        desk = Upkeep(house.datastores, house.tasks, spawn=nursery.start_soon)
        offline = await desk.maintain("s1", WHO, MaintenanceRequest(mode="offline", reason="new disks"))
        with pytest.raises(DatastoreOffline, match="new disks"):
            await house.datastores.get("s1")
    lines = await house.log(offline)
    assert lines[-2:] == ["datastore s1 is offline for maintenance; nothing was interrupted", "TASK OK"]
    async with trio.open_nursery() as nursery:
        desk = Upkeep(house.datastores, house.tasks, spawn=nursery.start_soon)
        off = await desk.maintain("s1", WHO, MaintenanceRequest(mode="off"))
    assert (await house.log(off))[-2] == "the maintenance of datastore s1 has ended; it is online"
    assert ":maintenance:" in off


@pytest.mark.parametrize(
    "request_", [MaintenanceRequest(mode="closed"), MaintenanceRequest(mode="offline", drain_seconds=-1)]
)
async def test_a_wrong_request_starts_no_task(house: House, request_: MaintenanceRequest) -> None:
    await house.make_store()
    async with trio.open_nursery() as nursery:
        with pytest.raises(UsageError):
            await Upkeep(house.datastores, house.tasks, spawn=nursery.start_soon).maintain("s1", WHO, request_)
    assert await house.tasks.list() == []


async def test_reindex_is_a_task_with_progress(house: House) -> None:
    store = await house.make_store()
    await backup(store, {"etc.tree": [b"one", b"two"]})
    async with trio.open_nursery() as nursery:
        upid = await Upkeep(house.datastores, house.tasks, spawn=nursery.start_soon).reindex("s1", WHO)
    task = await house.tasks.get(upid)
    assert (task.state, task.type, task.files) == ("OK", "repair", 65_536)
    assert "2 chunk files looked at: nothing to set right; 1 snapshots read, 0 damaged" in await house.log(upid)
