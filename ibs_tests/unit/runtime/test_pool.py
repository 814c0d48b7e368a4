"""Lanes are bounded, and a started call is never abandoned."""

from __future__ import annotations

import threading

import pytest
import trio

from ibs.runtime.pool import InlinePool, ThreadPool


async def test_work_runs_in_other_threads_and_returns_its_result() -> None:
    pool = ThreadPool()
    assert await pool.disk(lambda a, b: a + b, 1, 2) == 3
    assert await pool.cpu(threading.get_ident) != threading.get_ident()


async def test_a_lane_never_runs_more_calls_than_it_has_threads() -> None:
    pool = ThreadPool(disk_threads=2)
    gate, entered, lock, peak = threading.Event(), trio.Event(), threading.Lock(), [0, 0]

    def work() -> None:
        with lock:
            peak[0] += 1
            peak[1] = max(peak)
        if peak[0] == 2:
            trio.from_thread.run_sync(entered.set)
        gate.wait(10)
        with lock:
            peak[0] -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(pool.disk, work)
        await entered.wait()
        assert pool.statistics()["disk"].busy == 2
        assert pool.statistics()["disk"].waiting == 4
        assert pool.statistics()["cpu"].busy == 0
        gate.set()
    assert peak == [0, 2]


async def test_cancelling_waits_for_the_started_call() -> None:
    pool, gate, done = ThreadPool(), threading.Event(), []

    def work() -> None:
        gate.wait(10)
        done.append(True)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.disk, work)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            gate.set()
    assert done == [True]


async def test_inline_work_runs_in_the_calling_thread_after_a_checkpoint() -> None:
    pool = InlinePool()
    assert await pool.disk(threading.get_ident) == threading.get_ident()
    with trio.CancelScope() as scope:
        scope.cancel()
        await pool.cpu(pytest.fail, "not reached: the checkpoint comes first")
    assert scope.cancelled_caught


async def test_a_conversation_is_ended_by_its_abort_and_waited_for() -> None:
    pool, gate, order = ThreadPool(), threading.Event(), []

    def work() -> None:
        gate.wait(10)
        order.append("ended")

    def abort() -> None:
        order.append("aborted")
        gate.set()

    with trio.move_on_after(0.05) as scope:
        await pool.talk(work, abort)
    assert scope.cancelled_caught
    assert order == ["aborted", "ended"]
    assert pool.statistics()["talk"].busy == 0


async def test_a_conversation_that_ends_by_itself_is_not_aborted() -> None:
    pool, aborted = ThreadPool(), []

    def fail() -> None:
        raise OSError("cut")

    for each in (pool, InlinePool()):
        assert await each.talk(lambda a, b: a * b, lambda: aborted.append(True), 6, 7) == 42
        with pytest.raises(OSError, match="cut"):
            await each.talk(fail, lambda: aborted.append(True))
    assert aborted == []
