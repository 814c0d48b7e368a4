"""When a datastore's upkeep runs: kept in the store, with defaults where nothing is set."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.engine.schedules import GC, PRUNE, VERIFY, Schedule
from ibs.errors import FormatError, NotFoundError, UsageError
from ibs_tests.support.engine import Box


async def shown(datastore: Datastore) -> list[tuple[str, str, str, bool]]:
    return [(one.kind, one.namespace, one.when, one.is_default) for one in await datastore.schedules.all()]


async def test_garbage_goes_every_night_and_nothing_is_verified_unasked(datastore: Datastore) -> None:
    assert await shown(datastore) == [(GC, "", "*-*-* 03:30", True), (PRUNE, "", "*-*-* 00:30", True)]


async def test_what_is_set_lies_in_the_store(box: Box, datastore: Datastore) -> None:
    for kind, when, namespace in ((VERIFY, "Sun 04:30", ""), (VERIFY, "daily", "a/b"), (GC, "never", "")):
        made = await datastore.schedules.set(Schedule(kind=kind, when=when, namespace=namespace), "alice@ibs")
        assert (made.by, made.time != "") == ("alice@ibs", True)
    again = await box.kill(datastore)
    assert await shown(again) == [
        (VERIFY, "", "Sun 04:30", False),
        (VERIFY, "a/b", "daily", False),
        (GC, "", "never", False),
        (PRUNE, "", "*-*-* 00:30", True),
    ]
    await again.schedules.set(Schedule(kind=VERIFY, when="weekly"), "bob@ibs")
    await again.schedules.unset(VERIFY, "a/b")
    await again.schedules.unset(GC)
    assert [row[:3] for row in await shown(again)] == [
        (VERIFY, "", "weekly"),
        (GC, "", "*-*-* 03:30"),
        (PRUNE, "", "*-*-* 00:30"),
    ]
    with pytest.raises(NotFoundError, match="no schedule is set for gc"):
        await again.schedules.unset(GC)


@pytest.mark.parametrize(
    "wrong",
    [
        Schedule(kind="tape", when="daily"),
        Schedule(kind=VERIFY, when=""),
        Schedule(kind=VERIFY, when="x" * (limits.SCHEDULE_CHARS_MAX + 1)),
        Schedule(kind=VERIFY, when="daily", namespace="/a/"),
        Schedule(kind=GC, when="daily", namespace="a"),
    ],
)
async def test_what_cannot_be_is_refused(datastore: Datastore, wrong: Schedule) -> None:
    with pytest.raises(UsageError):
        await datastore.schedules.set(wrong, "alice@ibs")
    assert len(await shown(datastore)) == 2


async def test_there_are_so_many_and_no_more(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_PER_STORE_MAX", 2)
    for space in ("a", "b", "a"):
        await datastore.schedules.set(Schedule(kind=VERIFY, when="daily", namespace=space), "alice@ibs")
    with pytest.raises(UsageError, match="more than 2"):
        await datastore.schedules.set(Schedule(kind=VERIFY, when="daily"), "alice@ibs")


async def test_a_damaged_record_is_told_and_can_be_stated_anew(datastore: Datastore) -> None:
    datastore.store.records.write("schedules.json", b'{"schedules":[{"kind":"tape","when":"daily"}]}')
    with pytest.raises(FormatError, match="schedules of datastore s1 cannot be read"):
        await datastore.schedules.all()
    with pytest.raises(FormatError):
        await datastore.schedules.unset(GC)
    await datastore.schedules.set(Schedule(kind=VERIFY, when="daily"), "alice@ibs")
    assert len(await shown(datastore)) == 3
