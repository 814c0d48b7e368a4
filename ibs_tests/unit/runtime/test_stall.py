"""A step that keeps the loop for itself is caught with its task's name; short ones are not."""

from __future__ import annotations

import trio
import trio.testing

from ibs.core import limits
from ibs.runtime.stall import Stall, StallDetector


class Ticks:
    """A clock that blocking work in the loop moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_deliberate_stall_of_80_ms_is_reported_with_the_task_and_its_length() -> None:
    ticks, reports = Ticks(), list[tuple[Stall, int]]()
    computed = Ticks()
    detector = StallDetector(
        lambda stall, unreported: reports.append((stall, unreported)), monotonic=ticks, computing=computed
    )

    async def blocks() -> None:
        await trio.lowlevel.checkpoint()
        ticks.now += 0.080
        computed.now += 0.030
        await trio.lowlevel.checkpoint()

    async def behaves() -> None:
        for _ in range(10):
            ticks.now += 0.049
            await trio.lowlevel.checkpoint()

    trio.lowlevel.add_instrument(detector)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(blocks, name="blocks")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(behaves, name="behaves")
    finally:
        trio.lowlevel.remove_instrument(detector)
    assert reports == [(Stall("blocks", 80.0, computing_ms=30.0), 0)]
    assert detector.statistics.stalls == 1
    assert (detector.statistics.longest_task, detector.statistics.longest_ms) == ("blocks", 80.0)


async def test_many_stalls_are_all_counted_but_reported_once_in_a_while() -> None:
    ticks, reports = Ticks(), list[tuple[Stall, int]]()
    detector = StallDetector(lambda stall, unreported: reports.append((stall, unreported)), monotonic=ticks)
    task = trio.lowlevel.current_task()
    for _ in range(5):
        detector.before_task_step(task)
        ticks.now += 0.1
        detector.after_task_step(task)
    ticks.now += limits.STALL_REPORT_SECONDS
    detector.before_task_step(task)
    ticks.now += 0.2
    detector.after_task_step(task)
    assert detector.statistics.stalls == 6
    assert detector.statistics.longest_ms == 200.0
    assert [(stall.duration_ms, unreported) for stall, unreported in reports] == [(100.0, 0), (200.0, 4)]


async def test_installed_in_the_middle_of_a_step_it_waits_for_the_next() -> None:
    detector = StallDetector(lambda *_: None)
    detector.after_task_step(trio.lowlevel.current_task())
    assert detector.statistics.last is None
