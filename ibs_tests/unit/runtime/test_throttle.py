"""No more than rate times time passes; turns are kept; cancelled callers give back."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ibs.runtime.clock import LoopClock
from ibs.runtime.throttle import Throttle


async def test_the_long_run_rate_holds_after_the_burst(autojump_clock: trio.testing.MockClock) -> None:
    throttle, began = Throttle(LoopClock(), 100, burst=50), trio.current_time()
    for _ in range(100):
        await throttle.take(10)
    assert trio.current_time() - began == pytest.approx((1000 - 50) / 100, rel=0.02)


async def test_after_a_pause_only_the_burst_passes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(LoopClock(), 100, burst=50)
    await trio.sleep(1000)
    assert await throttle.take(50) == 0
    assert await throttle.take(100) == pytest.approx(1.0)


async def test_without_a_rate_nothing_waits_and_the_rate_can_change(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(LoopClock(), None)
    assert throttle.rate is None
    assert await throttle.take(10**12) == 0
    throttle.set_rate(10)
    assert await throttle.take(100) > 5
    throttle.set_rate(None)
    assert await throttle.take(10**12) == 0


async def test_a_cancelled_caller_gives_its_share_back(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(LoopClock(), 100, burst=0)
    with trio.move_on_after(0.001):
        await throttle.take(10**6)
    assert await throttle.take(100) == pytest.approx(1.0, abs=0.01)


async def test_callers_pass_in_the_order_they_came(autojump_clock: trio.testing.MockClock) -> None:
    throttle, order = Throttle(LoopClock(), 10, burst=0), []

    async def caller(number: int) -> None:
        await throttle.take(10)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(caller, number)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(5))
