"""Workers that a seed switches keep the promises of real threads and locks."""

from __future__ import annotations

from random import Random

import pytest
import trio

from ibs_tests.sim.threads import Killed, SimCondition, SimLock, Stuck, Threads


def threads(seed: int = 1, *, restless: float = 0.5) -> Threads:
    return Threads(Random(seed), restless=restless)


async def test_calls_run_side_by_side_and_locks_exclude() -> None:
    pool = threads()
    lock = SimLock(pool)
    inside = most = 0
    overlapped = False

    def work() -> None:
        nonlocal inside, most, overlapped
        pool.switch()
        with lock:
            inside += 1
            most = max(most, inside)
            pool.switch()
            overlapped = True
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pool.disk, work)
    assert (most, inside, overlapped) == (1, 0, True)


async def test_the_loop_lets_the_holder_of_a_lock_run() -> None:
    pool = threads()
    lock = SimLock(pool)
    done = []

    def hold() -> None:
        with lock:
            pool.switch()
            pool.switch()
            done.append("held")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.disk, hold)
        while not lock.locked():
            await trio.lowlevel.checkpoint()
        with lock:
            assert done == ["held"]


async def test_locks_that_wait_for_each_other_are_found() -> None:
    pool = threads()
    first, second = SimLock(pool), SimLock(pool)

    def take(one: SimLock, other: SimLock) -> None:
        with one:
            pool.switch()
            with other:
                pass

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.disk, take, first, second)
            nursery.start_soon(pool.disk, take, second, first)

    with pytest.raises(BaseExceptionGroup) as stuck:
        await both()
    assert stuck.value.subgroup(Stuck) is not None


async def test_a_condition_wakes_who_waits() -> None:
    pool = threads()
    condition = SimCondition(pool)
    ready = False

    def wait() -> bool:
        with condition:
            return condition.wait_for(lambda: ready)

    def wake() -> None:
        nonlocal ready
        with condition:
            ready = True
            condition.notify_all()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.disk, wait)
        nursery.start_soon(pool.disk, wake)
    assert ready


async def test_a_killed_process_does_nothing_more() -> None:
    pool = threads()
    begun: list[int] = []
    after: list[str] = []

    def work() -> None:
        begun.append(1)
        try:
            for _ in range(3):
                pool.switch()
            after.append("went on")
        finally:
            with pytest.raises(Killed):
                pool.maybe_switch()

    async def kill() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.disk, work)
            while not begun:
                await trio.lowlevel.checkpoint()
            pool.dead = True

    with pytest.raises(BaseExceptionGroup) as killed:
        await kill()
    assert killed.value.subgroup(Killed) is not None
    assert after == []


async def test_a_call_that_began_is_finished_when_its_caller_is_cancelled() -> None:
    pool = threads()
    begun: list[int] = []
    done: list[int] = []

    def work() -> None:
        begun.append(1)
        for _ in range(3):
            pool.switch()
        done.append(1)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.disk, work)
            while not begun:
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert done == [1]
