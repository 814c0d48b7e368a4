"""The watch over backups on real datastores in virtual time: an event a change of state, none when paused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from ibs.core import limits
from ibs.core.events import Severity
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.datastore import Datastore
from ibs.errors import NotFoundError, UsageError
from ibs.services.sla import SlaWatch
from ibs.wire.sla import SlaSet
from ibs_tests.support.engine import backup, snapshot_of
from ibs_tests.unit.services.conftest import House

HOUR = 3600.0


def watch(house: House, **more: Any) -> SlaWatch:
    return SlaWatch(
        house.datastores, house.tasks, house.catalog.settings, clock=house.clock, publish=house.publish, **more
    )


async def back_up(store: Datastore, size: int = 3) -> str:
    result = await backup(store, {"etc.tree": [b"x" * size, b"meta"]})
    return str(snapshot_of(result).group)


def told(house: House) -> list[str]:
    return [event.kind for event in house.events if event.kind.startswith("sla.")]


async def test_late_missing_and_cured_once_each(house: House, autojump_clock: trio.testing.MockClock) -> None:
    store = await house.make_store()
    group = await back_up(store)
    sla = watch(house)
    view = await sla.set("a@ibs", SlaSet(group=group, rpo_seconds=26 * HOUR))
    assert (view.store, view.state, view.learned, view.set_by) == ("s1", "ok", False, "a@ibs")
    for _ in range(2):
        await sla.check()
    assert told(house) == []
    await trio.sleep(27 * HOUR)
    await sla.check()
    await sla.check()
    assert told(house) == ["sla.late"]
    assert house.events[-1].fields["group"] == group
    await watch(house).check()  # another server on the same state
    assert told(house) == ["sla.late"]
    await trio.sleep(80 * HOUR)
    await sla.check()
    assert house.events[-1].severity is Severity.ERROR
    await back_up(store)
    await sla.check()
    assert told(house) == ["sla.late", "sla.missing", "sla.cured"]
    [row] = await sla.list("s1")
    assert row.state == "ok"
    assert row.due > row.last


async def test_a_failed_backup(house: House, autojump_clock: trio.testing.MockClock) -> None:
    store = await house.make_store()
    group = await back_up(store)
    sla = watch(house)
    await sla.set("a@ibs", SlaSet(group=group, rpo_seconds=26 * HOUR))
    await trio.sleep(HOUR)
    task = await house.tasks.start(TaskType.BACKUP, f"s1:{group}", "a@ibs")
    await task.finish(TaskState.FAILED, "no")
    await sla.check()
    assert told(house) == ["sla.failed"]
    await trio.sleep(HOUR)
    await back_up(store)
    await sla.check()
    assert told(house) == ["sla.failed", "sla.cured"]


async def test_paused_and_disabled_groups_are_quiet(house: House, autojump_clock: trio.testing.MockClock) -> None:
    store = await house.make_store()
    group = await back_up(store)
    spec = SimpleNamespace(store="s1", namespace="", backup_type="host", backup_id=group.partition("/")[2])
    job = SimpleNamespace(name="nightly", spec=spec, comes_to=[], enabled=False)

    async def jobs() -> list[Any]:
        return [job]

    sla = watch(house, jobs=jobs)
    await sla.set("a@ibs", SlaSet(group=group, rpo_seconds=HOUR))
    await trio.sleep(9 * HOUR)
    await sla.check()
    [row] = await sla.list()
    assert (row.state, row.why) == ("paused", "job nightly is disabled")
    job.enabled = True
    await sla.set("a@ibs", SlaSet(group=group, paused=True))
    await sla.check()
    assert (await sla.list())[0].why == "paused by a@ibs"
    assert told(house) == []
    await sla.unset("", group)
    assert (await sla.list())[0].state == "learning"


async def test_what_is_learned_notices_a_small_one(house: House, autojump_clock: trio.testing.MockClock) -> None:
    store = await house.make_store()
    for _ in range(limits.SLA_LEARN_BACKUPS_MIN):
        await back_up(store, 100_000)
        await trio.sleep(24 * HOUR)
    sla = watch(house)
    await sla.check()
    [row] = await sla.list()
    assert (row.state, row.learned) == ("ok", True)
    await back_up(store, 10)
    await sla.check()
    assert told(house) == ["sla.small"]


async def test_what_cannot_be_meant(house: House, autojump_clock: trio.testing.MockClock) -> None:
    await house.make_store()
    sla = watch(house)
    with pytest.raises(UsageError, match="no datastore that is online has"):
        await sla.set("a@ibs", SlaSet(group="host/nobody", rpo_seconds=HOUR))
    with pytest.raises(NotFoundError):
        await sla.unset("", "host/nobody")
    with pytest.raises(UsageError, match="not a group"):
        await sla.unset("", "host/a/2026-01-01T00:00:00Z")
    view = await sla.set("a@ibs", SlaSet(store="s1", group="ns:a/host/new", rpo_seconds=HOUR))
    assert view.namespace == "a"
    await trio.sleep(2 * HOUR)
    await sla.check()
    assert told(house) == ["sla.missing"]
