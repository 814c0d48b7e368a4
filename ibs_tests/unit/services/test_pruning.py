"""The pruning desk: policies with events, plans as they are printed, runs as tasks, the daily round."""

from __future__ import annotations

import pytest
import trio

from ibs.core.names import Namespace
from ibs.core.retention import Policy
from ibs.engine.datastore import Datastore
from ibs.errors import BusyError, FormatError, NotFoundError, Quarantined, UsageError
from ibs.services.pruning import Pruning
from ibs.wire.lifecycle import PolicyBody, PruneRequest, RetentionSet
from ibs_tests.support.engine import OWNER, backup
from ibs_tests.unit.services.conftest import House

WHO = "root@ibs"
ONE = PolicyBody(keep_last=1)


async def filled(house: House, count: int = 2) -> Datastore:
    datastore = await house.make_store()
    for number in range(count):
        await backup(datastore, {"etc.tree": [b"%d" % number, b"meta"]})
    return datastore


async def test_policies_are_set_shown_and_cleared(house: House) -> None:
    await house.make_store()
    async with trio.open_nursery() as nursery:
        desk = Pruning(house.datastores, house.tasks, spawn=nursery.start_soon)
        await desk.set_retention("s1", WHO, RetentionSet(namespace="a", policy=ONE, more_than_half=True))
        set_ = await desk.set_retention(
            "s1", WHO, RetentionSet(policy=PolicyBody(keep_daily=7, timezone="Europe/Vienna"))
        )
        assert (set_.level, set_.text, set_.by) == ("datastore", "keep-daily 7 (Europe/Vienna)", WHO)
        shown = await desk.retention("s1")
        assert [(one.level, one.policy.keep_last, one.more_than_half) for one in shown] == [
            ("datastore", 0, False),
            ("namespace a", 1, True),
        ]
        await desk.clear_retention("s1", WHO, "a")
        with pytest.raises(NotFoundError):
            await desk.clear_retention("s1", WHO, "a")
        assert [one.level for one in await desk.retention("s1")] == ["datastore"]
        with pytest.raises(UsageError):
            await desk.set_retention("s1", WHO, RetentionSet(policy=PolicyBody(timezone="Mars")))
    assert house.kinds().count("retention.changed") == 3


async def test_a_simulation_changes_nothing_and_says_it_all(house: House) -> None:
    datastore = await filled(house)
    before = await datastore.snapshots.every()
    async with trio.open_nursery() as nursery:
        desk = Pruning(house.datastores, house.tasks, spawn=nursery.start_soon)
        found = await desk.simulate("s1", PruneRequest(policy=ONE, count_bytes=True), lambda *_: True)
        none = await desk.simulate("s1", PruneRequest(policy=ONE), lambda *_: False)
        unset = await desk.simulate("s1", PruneRequest(), lambda *_: True)
    assert (found.keep, found.remove, found.stopped, found.freed_note) == (1, 1, 0, "")
    assert found.freed_bytes is not None
    assert found.freed_bytes > 0
    assert [(one.snapshot, one.keep, one.rule) for one in found.groups[0].decisions] == [
        (str(before[1]), True, "keep-last"),
        (str(before[0]), False, ""),
    ]
    assert (none.groups, unset.groups, unset.without_policy, unset.freed_bytes) == ([], [], 1, None)
    assert await datastore.snapshots.every() == before


async def test_a_run_is_a_task_that_tells_what_it_did(house: House) -> None:
    datastore = await filled(house)
    async with trio.open_nursery() as nursery:
        desk = Pruning(house.datastores, house.tasks, spawn=nursery.start_soon)
        upid = await desk.run("s1", OWNER, PruneRequest(policy=ONE, group="host/web01"), None)
        with pytest.raises(BusyError):
            await desk.run("s1", OWNER, PruneRequest(policy=ONE), None)
    lines = await house.log(upid)
    assert lines[-2:] == ["1 snapshots kept, 1 moved to the bin", "TASK OK"]
    assert ":prune:" in upid
    (entry,) = await datastore.bin.entries()
    assert entry.by == OWNER


async def test_a_group_left_alone_is_a_warning(house: House) -> None:
    await filled(house, 3)
    async with trio.open_nursery() as nursery:
        desk = Pruning(house.datastores, house.tasks, spawn=nursery.start_soon)
        upid = await desk.run("s1", WHO, PruneRequest(policy=ONE), None)
    lines = await house.log(upid)
    assert lines[-1] == "TASK WARNING: 1"
    assert any("prune simulate" in line for line in lines)
    async with trio.open_nursery() as nursery:
        desk = Pruning(house.datastores, house.tasks, spawn=nursery.start_soon)
        upid = await desk.run("s1", WHO, PruneRequest(policy=ONE, override=True), None)
    assert (await house.log(upid))[-2] == "1 snapshots kept, 2 moved to the bin"


async def test_the_scheduled_run_prunes_where_a_policy_is_set(house: House) -> None:
    datastore = await filled(house)
    async with trio.open_nursery() as nursery:
        await Pruning(house.datastores, house.tasks, spawn=nursery.start_soon).run_due(datastore)
    assert await house.tasks.list() == []
    assert len(await datastore.snapshots.every()) == 2
    await datastore.retention.set(Namespace(), Policy(keep_last=1), WHO)
    async with trio.open_nursery() as nursery:
        await Pruning(house.datastores, house.tasks, spawn=nursery.start_soon).run_due(datastore)
    assert len(await datastore.snapshots.every()) == 1
    (task,) = await house.tasks.list()
    assert (task.type, task.auth_id, task.state) == ("prune", WHO, "OK")


async def test_what_makes_no_sense_starts_no_task(house: House) -> None:
    datastore = await filled(house)
    async with trio.open_nursery() as nursery:
        desk = Pruning(house.datastores, house.tasks, spawn=nursery.start_soon)
        for wrong in (
            PruneRequest(policy=PolicyBody()),
            PruneRequest(group="web01"),
            PruneRequest(namespace="../x"),
        ):
            with pytest.raises(UsageError):
                await desk.run("s1", WHO, wrong, None)
        await house.datastores.quarantine("s1", WHO, "bad disk")
        with pytest.raises(Quarantined):
            await desk.run("s1", WHO, PruneRequest(policy=ONE), None)
        datastore.store.records.write("retention.json", b"nonsense")
        with pytest.raises(FormatError):
            await desk.retention("s1")
    assert await house.tasks.list() == []
