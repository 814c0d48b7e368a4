"""The number of writers follows what limits the restore."""

from __future__ import annotations

import trio
import trio.testing

from ibs.client.restore.writers import Writers
from ibs.core import limits
from ibs.runtime.clock import ManualClock


class Load:
    """A process that computes a share of the time."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.computed = 0.0

    def pass_time(self, seconds: float, share: float) -> None:
        self.clock.advance(seconds)
        self.computed += seconds * share


async def test_a_slow_target_gets_more_writers_and_a_busy_processor_fewer() -> None:
    clock = ManualClock()
    load = Load(clock)
    writers = Writers(clock, lambda: load.computed)

    async def job() -> None:
        async with writers.limiter:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(job)
        await trio.testing.wait_all_tasks_blocked()
        assert writers.limiter.borrowed_tokens == 1
        for expected in (2, 3, limits.RESTORE_WRITES, limits.RESTORE_WRITES):
            load.pass_time(1, 0.1)
            writers.look()
            await trio.testing.wait_all_tasks_blocked()
            assert writers.limiter.borrowed_tokens == expected
        load.pass_time(1, 0.9)  # neither idle nor busy: as it is
        writers.look()
        assert writers.limiter.total_tokens == limits.RESTORE_WRITES
        for expected in (3, 2, 1, 1):
            load.pass_time(1, 1.5)
            writers.look()
            assert writers.limiter.total_tokens == expected
        nursery.cancel_scope.cancel()


async def test_nobody_is_added_when_nobody_waits_and_nothing_is_judged_by_a_moment() -> None:
    clock = ManualClock()
    load = Load(clock)
    writers = Writers(clock, lambda: load.computed)
    load.pass_time(1, 0.0)
    writers.look()
    assert writers.limiter.total_tokens == 1
    writers.limiter.total_tokens = 3
    load.pass_time(0.1, 2.0)
    writers.look()
    assert writers.limiter.total_tokens == 3
