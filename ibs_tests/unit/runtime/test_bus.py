"""Publishing never waits; order is kept; a slow subscriber loses the newest and knows how many."""

from __future__ import annotations

import pytest
import trio

from ibs.runtime.bus import Bus
from ibs.runtime.pool import ThreadPool


async def test_every_subscriber_gets_every_fact_in_order() -> None:
    bus: Bus[int] = Bus()
    with bus.subscribe("a") as a, bus.subscribe("b") as b:
        for fact in range(5):
            bus.publish(fact)
        assert [await anext(a) for _ in range(5)] == list(range(5))
        assert [await anext(b) for _ in range(5)] == list(range(5))
    assert bus.subscriptions == ()


async def test_a_slow_subscriber_loses_the_newest_and_is_told_while_others_get_all() -> None:
    bus: Bus[int] = Bus()
    slow, quick = bus.subscribe("slow", slots=2), bus.subscribe("quick")
    for fact in range(5):
        bus.publish(fact)
    assert (slow.lost, slow.waiting) == (3, 2)
    assert [await anext(slow), await anext(slow)] == [0, 1]
    assert quick.lost == 0
    bus.publish(5)
    assert await anext(slow) == 5


async def test_a_waiting_reader_wakes_and_a_closed_subscription_ends_after_what_it_holds() -> None:
    bus: Bus[str] = Bus()
    subscription, seen = bus.subscribe("a"), []

    async def read() -> None:
        async for fact in subscription:
            seen.append(fact)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        bus.publish("one")
        bus.publish("two")
        subscription.close()
        bus.publish("too late")
    assert seen == ["one", "two"]


async def test_facts_may_be_published_from_threads() -> None:
    bus: Bus[int] = Bus()
    subscription = bus.subscribe("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ThreadPool().disk, lambda: [bus.publish(n) for n in range(100)])
        assert [await anext(subscription) for _ in range(100)] == list(range(100))


async def test_a_peeked_fact_stays_until_it_is_confirmed() -> None:
    bus: Bus[int] = Bus()
    subscription = bus.subscribe("a")
    bus.publish(7)
    with trio.CancelScope() as scope:
        scope.cancel()
        await subscription.peek()
    assert await subscription.peek() == await subscription.peek() == 7
    subscription.confirm()
    subscription.close()
    with pytest.raises(StopAsyncIteration):
        await subscription.peek()
