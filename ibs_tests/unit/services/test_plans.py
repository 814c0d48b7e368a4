"""Schedules of datastores: run when due, once after a miss, and changed while the server runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ibs.core.modes import ModeRecord, Quarantine
from ibs.engine.datastore import Datastore
from ibs.engine.schedules import Schedule
from ibs.errors import BusyError, FormatError, NotFoundError, UsageError
from ibs.runtime.clock import START, ManualClock
from ibs.services.plans import StorePlans
from ibs.services.roster import CatalogMemory
from ibs.wire.schedule import ScheduleSet
from ibs_tests.unit.services.conftest import House

DAY = 86_400


class Hands:
    """Takes the messages that would start work."""

    def __init__(self, *, busy: bool = False) -> None:
        self.asked: list[Any] = []
        self.busy = busy

    async def ask(self, message: Any) -> str:
        self.asked.append(message)
        if self.busy:
            raise BusyError("the queue is full")
        return "UPID:x"

    def started(self) -> list[tuple[str, str]]:
        told = [(type(one).__name__, one.store) for one in self.asked]
        self.asked.clear()
        return told


def plans_of(house: House, clock: ManualClock, hands: Hands, pruned: list[str] | None = None) -> StorePlans:
    async def prune(datastore: Datastore) -> None:
        if pruned is not None:
            pruned.append(datastore.name)

    plans = StorePlans(house.datastores, CatalogMemory(house.catalog.timetable), clock, prune=prune)
    plans.bind(hands, hands)  # type: ignore[arg-type]
    return plans


def everything(store: str) -> bool:
    return True


async def test_by_default_garbage_goes_every_night(house: House) -> None:
    await house.make_store()
    clock, hands, pruned = ManualClock(), Hands(), []
    plans = plans_of(house, clock, hands, pruned)
    await plans.run_due()
    assert (hands.started(), pruned) == ([], [])
    clock.advance(3600)
    await plans.run_due()
    assert (hands.started(), pruned) == ([], ["s1"])
    clock.advance(3 * 3600)
    await plans.run_due()
    await plans.run_due()
    assert (hands.started(), pruned) == ([("StartGc", "s1")], ["s1"])
    clock.advance(DAY)
    await plans.run_due()
    assert (hands.started(), pruned) == ([("StartGc", "s1")], ["s1", "s1"])


async def test_a_verification_runs_as_it_was_asked_for(house: House) -> None:
    await house.make_store()
    clock, hands = ManualClock(), Hands()
    plans = plans_of(house, clock, hands)
    made = await plans.set(
        "s1",
        "alice@ibs",
        ScheduleSet(kind="verify", when="*-*-* 02:00", namespace="a", io_limit=5, max_concurrent_snapshots=3),
    )
    assert (made.next, made.last, made.by) == ("2026-01-01T02:00:00Z", "", "alice@ibs")
    clock.advance(2 * 3600)
    await plans.run_due()
    (asked,) = [one for one in hands.asked if type(one).__name__ == "StartVerify"]
    assert (asked.auth_id, asked.store, asked.request.namespace) == ("root@ibs", "s1", "a")
    assert (asked.request.io_limit, asked.request.max_concurrent_snapshots) == (5, 3)
    (row,) = await plans.list(everything, "s1", "verify")
    assert (row.last, row.next) == ("2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z")
    assert [one.when for one in (await plans.of_verification())["s1"]] == ["*-*-* 02:00"]
    await plans.unset("s1", "alice@ibs", "verify", "a")
    clock.advance(DAY)
    hands.asked.clear()
    await plans.run_due()
    assert hands.started() == [("StartGc", "s1")]


async def test_a_missed_run_is_made_up_for_once(house: House) -> None:
    await house.make_store()
    hands = Hands()
    await plans_of(house, ManualClock(), hands).run_due()
    later = ManualClock(START + timedelta(days=9, hours=12))  # the server was down
    plans = plans_of(house, later, hands)
    (row,) = await plans.list(everything, kind="gc")
    assert row.next < "2026-01-10"
    await plans.run_due()
    await plans.run_due()
    assert hands.started() == [("StartGc", "s1")]
    (row,) = await plans.list(everything, kind="gc")
    assert (row.last, row.next, row.default) == ("2026-01-10T12:00:00Z", "2026-01-11T03:30:00Z", True)


async def test_a_new_time_counts_at_once_and_never_is_never(house: House) -> None:
    await house.make_store()
    clock, hands = ManualClock(), Hands()
    plans = plans_of(house, clock, hands)
    await plans.run_due()
    await plans.set("s1", "alice@ibs", ScheduleSet(kind="gc", when="never"))
    clock.advance(3 * DAY)
    await plans.run_due()
    assert hands.started() == []
    (row,) = await plans.list(everything, kind="gc")
    assert (row.when, row.next, row.default) == ("never", "", False)
    assert (await plans.set("s1", "alice@ibs", ScheduleSet(kind="gc", when=" hourly\n"))).when == "hourly"
    await plans.run_due()
    assert hands.started() == [], "what was missed while it was off is not made up for"
    clock.advance(3600)
    await plans.run_due()
    assert hands.started() == [("StartGc", "s1")]
    await plans.unset("s1", "alice@ibs", "gc", "")
    with pytest.raises(NotFoundError):
        await plans.unset("s1", "alice@ibs", "gc", "")


async def test_what_cannot_start_waits_for_its_next_time_and_hurts_nobody(house: House) -> None:
    first, second = await house.make_store(), await house.make_store("s2")
    first.store.records.write("schedules.json", b"nonsense")
    clock, hands = ManualClock(), Hands(busy=True)
    plans = plans_of(house, clock, hands)
    await plans.run_due()
    clock.advance(DAY)
    await plans.run_due()
    await plans.run_due()
    assert hands.started() == [("StartGc", "s2")]
    assert "s1" not in await plans.of_verification()
    assert {row.store for row in await plans.list(everything)} == {"s2"}
    with pytest.raises(FormatError):
        await plans.list(everything, "s1")
    second.context.modes.set(ModeRecord(quarantine=Quarantine(reason="rot", since="", by="")))
    assert {row.store for row in await plans.list(lambda store: store == "s2", kind="gc")} == {"s2"}


async def test_a_time_that_never_comes_hides_nothing_else(house: House) -> None:
    datastore = await house.make_store()
    await datastore.schedules.set(Schedule(kind="verify", when="someday"), "whoever had the store before")
    clock, hands = ManualClock(), Hands()
    plans = plans_of(house, clock, hands)
    await plans.run_due()
    clock.advance(DAY)
    await plans.run_due()
    assert hands.started() == [("StartGc", "s1")]
    assert [(row.kind, row.next != "") for row in await plans.list(everything)] == [
        ("verify", False),
        ("gc", True),
        ("prune", True),
    ]
    (row,) = (await plans.of_verification())["s1"]
    assert row.next == ""


async def test_a_clock_that_was_set_back_does_not_stop_it(house: House) -> None:
    await house.make_store()
    hands = Hands()
    plans = plans_of(house, ManualClock(START + timedelta(days=300)), hands)
    await plans.run_due()
    early = plans_of(house, ManualClock(), hands)
    await early.run_due()
    (row,) = await early.list(everything, kind="gc")
    assert row.next == "2026-01-01T03:30:00Z"


@pytest.mark.parametrize(
    "wrong",
    [
        ScheduleSet(kind="verify", when="someday"),
        ScheduleSet(kind="verify", when=""),
        ScheduleSet(kind="tape", when="daily"),
        ScheduleSet(kind="verify", when="daily", max_concurrent_snapshots=0),
        ScheduleSet(kind="verify", when="daily", io_limit=-1),
        ScheduleSet(kind="verify", when="daily", notification_mode="maybe"),
        ScheduleSet(kind="verify", when="daily", namespace="../a"),
    ],
)
async def test_what_cannot_be_is_refused(house: House, wrong: ScheduleSet) -> None:
    datastore = await house.make_store()
    plans = plans_of(house, ManualClock(), Hands())
    with pytest.raises(UsageError):
        await plans.set("s1", "alice@ibs", wrong)
    assert all(one.is_default for one in await datastore.schedules.all())
    assert Schedule(kind="gc", when="never").on is False
