from __future__ import annotations

import trio
import trio.testing

from ibs.engine.gc.progress import MARKING, Meter, Pause, Progress
from ibs.runtime.clock import ManualClock


def test_rate_and_eta_are_of_the_phase_and_leave_out_pauses() -> None:
    clock, shown = ManualClock(), list[Progress]()
    meter = Meter(clock, shown.append)
    meter.begin(MARKING, "snapshots", 100)
    clock.advance(10)
    meter.at(20, references=5000)
    assert (meter.now.rate, meter.now.eta, meter.now.references) == (2.0, 40.0, 5000)
    meter.pause(paused=True)
    clock.advance(1000)
    assert shown[-1].paused
    meter.pause(paused=False)
    clock.advance(10)
    meter.at(40)
    assert (meter.now.rate, meter.now.eta, meter.now.references, meter.now.paused) == (2.0, 30.0, 5000, False)
    meter.begin("sweeping", "chunks")
    meter.at(1)
    assert (meter.now.eta, meter.now.references) == (None, 5000)


def test_it_is_told_about_once_a_second_and_at_each_phase() -> None:
    clock, shown = ManualClock(), list[Progress]()
    meter = Meter(clock, shown.append)
    meter.begin(MARKING)
    for done in range(10):
        meter.at(done)
    assert len(shown) == 1
    clock.advance(1)
    meter.at(10)
    assert [progress.done for progress in shown] == [0, 10]


async def test_a_pause_lets_nobody_by_until_it_is_over() -> None:
    pause = Pause()
    await pause.passed()
    pause.set()
    pause.set()
    passed = []

    async def go() -> None:
        await pause.passed()
        passed.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go)
        await trio.testing.wait_all_tasks_blocked()
        assert (passed, pause.on) == ([], True)
        pause.clear()
    assert passed == [True]
