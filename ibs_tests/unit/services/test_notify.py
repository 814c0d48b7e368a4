"""Events from notice on reach the inbox once the catalog takes them, whatever happens in between."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from trio.testing import MockClock

from ibs.core.events import Event, EventSource, Severity
from ibs.errors import NoSpace
from ibs.runtime.bus import Subscription
from ibs.services.notify import Inbox, Notify
from ibs_tests.unit.services.conftest import House


def event(house: House, severity: Severity, text: str) -> Event:
    return Event(house.clock.now(), EventSource.DATASTORE, severity, "datastore.offline", text, {"datastore": "a"})


def furnish(house: House, inbox: Inbox, slots: int = 100) -> Subscription[Event]:
    subscription = house.bus.subscribe("notify", slots=slots)
    house.supervisor.add(lambda seat: Notify(seat, subscription, inbox, house.clock), "notify")
    return subscription


async def texts(house: House) -> list[str]:
    return [record.text for record in await house.catalog.inbox.list()][::-1]


async def test_events_that_matter_are_kept_in_order(house: House, autojump_clock: MockClock) -> None:
    furnish(house, house.catalog.inbox)
    async with house.running():
        for severity in Severity:
            house.bus.publish(event(house, severity, f"a {severity} event"))
        await trio.testing.wait_all_tasks_blocked()
        assert await texts(house) == [
            "a notice event",
            "a warning event",
            "a error event",
            "a critical event",
        ]
        newest = (await house.catalog.inbox.list(limit=1))[0]
        assert (newest.severity, newest.source, newest.kind) == ("critical", "datastore", "datastore.offline")
        assert newest.fields == {"datastore": "a"}
        assert abs(newest.time_ns - house.clock.now_ns()) < 10**9


class Flaky:
    """An inbox that is full at first, then blocks, then works."""

    def __init__(self, inbox: Inbox, failures: int) -> None:
        self.inbox, self.failures, self.block = inbox, failures, False

    async def add(self, **row: Any) -> int:
        if self.block:
            await trio.sleep_forever()
        if self.failures:
            self.failures -= 1
            raise NoSpace("the state folder", "bytes")
        return await self.inbox.add(**row)


async def test_a_full_disk_delays_events_and_loses_none(house: House, autojump_clock: MockClock) -> None:
    furnish(house, Flaky(house.catalog.inbox, failures=3))
    async with house.running():
        house.bus.publish(event(house, Severity.ERROR, "one"))
        house.bus.publish(event(house, Severity.ERROR, "two"))
        await trio.sleep(60)
        assert await texts(house) == ["one", "two"]


async def test_an_event_in_hand_when_the_actor_dies_is_delivered_by_the_next(
    house: House, autojump_clock: MockClock
) -> None:
    inbox = Flaky(house.catalog.inbox, failures=0)
    inbox.block = True
    furnish(house, inbox)
    async with house.running():
        house.bus.publish(event(house, Severity.ERROR, "one"))
        await trio.testing.wait_all_tasks_blocked()
        inbox.block = False
        house.supervisor.inject_fault("notify")
        house.bus.publish(event(house, Severity.ERROR, "two"))
        await trio.sleep(5)
        assert await texts(house) == ["one", "two"]
        assert house.state("notify").restarts == 1


async def test_a_stop_delivers_what_waits_first(house: House, autojump_clock: MockClock) -> None:
    furnish(house, house.catalog.inbox)
    async with house.running():
        for number in range(50):
            house.bus.publish(event(house, Severity.NOTICE, str(number)))
    assert await texts(house) == [str(number) for number in range(50)]


async def test_a_stop_does_not_wait_for_a_disk_that_stays_full(house: House, autojump_clock: MockClock) -> None:
    furnish(house, Flaky(house.catalog.inbox, failures=10**9))
    async with house.running():
        house.bus.publish(event(house, Severity.NOTICE, "lost but logged"))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
    assert trio.current_time() - began < 1


async def test_what_did_not_fit_is_counted_in_the_inbox(house: House, autojump_clock: MockClock) -> None:
    furnish(house, house.catalog.inbox, slots=2)
    for number in range(5):
        house.bus.publish(event(house, Severity.NOTICE, str(number)))
    async with house.running():
        await trio.sleep(1)
        house.bus.publish(event(house, Severity.NOTICE, "later"))
        await trio.sleep(1)
        kept = await texts(house)
    assert kept[0] == "0"
    assert kept[-1] == "later"
