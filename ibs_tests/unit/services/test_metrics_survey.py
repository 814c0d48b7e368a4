"""What a look at the datastores finds: namespaces, groups, last runs; bounded, and without what went offline."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from ibs.core import limits
from ibs.core.names import SnapshotName
from ibs.core.tasks import TaskState, TaskType
from ibs.services import metrics_survey
from ibs.services.metrics_survey import seconds_of, store_of, survey
from ibs_tests.support.engine import backup
from ibs_tests.unit.services.conftest import House


async def test_a_look(house: House, autojump_clock: MockClock) -> None:
    datastore = await house.make_store()
    await backup(datastore, {"a.img": [b"one"]})
    await house.make_store("s2")
    task = await house.tasks.start(TaskType.VERIFY, "s1:all", "root@ibs", state=TaskState.RUNNING)
    await task.finish(TaskState.OK)
    await house.tasks.start(TaskType.VERIFY, "s1:again", "root@ibs")
    found = await survey(house.datastores, house.tasks, house.clock, None, groups=True)
    assert sorted(found.stores) == ["s1", "s2"]
    one = found.stores["s1"]
    assert (one.stats.snapshots, one.counts.chunks, one.outlook and one.outlook.never) == (1, 1, 1)
    assert one.space.bytes_total > 0
    (place,) = one.places.values()
    assert (place.groups, place.snapshots) == (1, 1)
    assert place.newest == place.stalest == next(iter(one.groups.values()))
    assert found.stores["s2"].places == {}
    assert found.runs["verify", "s1"].upid == task.upid
    without = await survey(house.datastores, house.tasks, house.clock, None, groups=False)
    assert without.stores["s1"].groups == {}


def test_places_are_bounded_and_know_the_stalest_group(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        SnapshotName.parse(text)
        for text in (
            "host/a/2026-11-01T00:00:00Z",
            "host/a/2026-11-03T00:00:00Z",
            "host/b/2026-11-02T00:00:00Z",
            "ns:x/host/c/2026-11-04T00:00:00Z",
        )
    ]
    places, groups = metrics_survey._places(names)
    assert len(groups) == 3
    root = places[""]
    assert (root.groups, root.snapshots) == (2, 3)
    assert root.newest == seconds_of("2026-11-03T00:00:00Z")
    assert root.stalest == seconds_of("2026-11-02T00:00:00Z")
    monkeypatch.setattr(limits, "METRICS_SERIES_MAX", 1)
    places, groups = metrics_survey._places(names)
    assert (len(places), len(groups)) == (1, 1)


def test_small_things() -> None:
    assert store_of("s1:host/web01", ["s1"]) == "s1"
    assert store_of("s1", ["s1"]) == "s1"
    assert store_of("gone:x", ["s1"]) == ""
    assert seconds_of("") is None
    assert seconds_of("yesterday") is None
