"""Families about datastores: those that are offline are told, what is not known is left out, not told as zero."""

from __future__ import annotations

from trio.testing import MockClock

from ibs.core.tasks import TaskState, TaskType
from ibs.services import metrics_stores
from ibs.services.metrics_survey import survey
from ibs_tests.support.engine import backup
from ibs_tests.unit.services.conftest import House
from ibs_tests.unit.services.test_metrics_counters import values


def test_standing() -> None:
    found = metrics_stores.standing(
        [("a", "online", "normal"), ("b", "offline", "normal"), ("c", "read-only", "read-only")]
    )
    assert values(found, "datastore_online") == {("a",): 1, ("b",): 0, ("c",): 1}
    assert values(found, "datastore_writable") == {("a",): 1, ("b",): 0, ("c",): 0}
    assert values(found, "datastore_mode")["c", "read-only"] == 1
    assert metrics_stores.surveyed(None) == []


async def test_a_surveyed_store(house: House, autojump_clock: MockClock) -> None:
    datastore = await house.make_store()
    await backup(datastore, {"a.img": [b"one", b"two"]})
    task = await house.tasks.start(TaskType.PRUNE, "s1", "root@ibs", state=TaskState.RUNNING)
    await task.finish(TaskState.FAILED, "no")
    seen = await survey(house.datastores, house.tasks, house.clock, None, groups=True)
    found = metrics_stores.surveyed(seen)
    assert values(found, "datastore_chunks") == {("s1",): 2}
    assert values(found, "datastore_snapshots") == {("s1",): 1}
    assert values(found, "datastore_bytes_free")["s1",] > 0
    assert values(found, "datastore_verify_snapshots")["s1", "never"] == 1
    assert values(found, "datastore_verify_snapshots")["s1", "CORRUPT"] == 0
    assert values(found, "datastore_verify_bytes_per_second") == {}
    assert values(found, "datastore_gc_last_end_time_seconds") == {}
    assert values(found, "namespace_snapshots") == {("s1", ""): 1}
    assert len(values(found, "group_newest_snapshot_time_seconds")) == 1
    assert values(found, "last_run_state")["s1", "FAILED", "prune"] == 1
    assert values(found, "last_run_state")["s1", "OK", "prune"] == 0
    names = [family.name for family in found]
    assert len(names) == len(set(names))
