"""Clocks agree with themselves, and the manual one moves only when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio
import trio.testing

from ibs.runtime.clock import START, LoopClock, ManualClock, SystemClock


async def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now_ns() / 1e9 - clock.now().timestamp()) < 60
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before


async def test_the_manual_clock_wakes_sleepers_in_order() -> None:
    clock, woken = ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, 10)
        nursery.start_soon(sleeper, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert clock.sleepers == 2
        clock.advance(5)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [5]
        clock.advance(5)
    assert woken == [5, 10]
    assert clock.now() == datetime(2026, 3, 1, 0, 0, 10, tzinfo=UTC)
    assert clock.now_ns() == int(clock.now().timestamp()) * 10**9
    assert clock.monotonic() == 10.0


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.sleep, 1)
            nursery.start_soon(clock.sleep, 2)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert clock.sleepers == 0


async def test_the_loop_clock_follows_the_loop(autojump_clock: trio.testing.MockClock) -> None:
    clock = LoopClock()
    begin = clock.now()
    await clock.sleep(3600)
    assert clock.now() - begin == timedelta(hours=1)
    assert clock.now() >= START
    assert abs(clock.now_ns() / 1e9 - clock.now().timestamp()) < 1
    assert clock.monotonic() >= 3600
