"""Worker threads for blocking work: lanes for the disk, the processor, the network; and one without threads for tests.

The one owner of `trio.to_thread`. Made by `app` and handed to everything that blocks; implements `ports.pool.Pool`.
Invariants: a lane never runs more calls at once than it has threads, callers beyond that wait in order; a call that
has started always finishes before its caller goes on, so no file or lock stays in the hands of a thread nobody awaits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from ibs.core import limits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """Threads of one lane: how many there may be, how many work, how many callers wait for one."""

    threads: int
    busy: int
    waiting: int


class ThreadPool:
    """The server's pool: three bounded lanes of threads. May be made outside a trio run."""

    def __init__(
        self, *, disk_threads: int = limits.POOL_DISK_THREADS, cpu_threads: int = limits.POOL_CPU_THREADS
    ) -> None:
        self._disk = trio.CapacityLimiter(disk_threads)
        self._cpu = trio.CapacityLimiter(cpu_threads)
        self._talk = trio.CapacityLimiter(limits.POOL_TALK_THREADS)

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking I/O in a thread and return its result.

        *Cancellation*: while waiting for a thread nothing has happened. Once started the call finishes and its result
        is returned (so that what it opened is not lost); the cancellation arrives at the caller's next checkpoint.
        """
        return await _run(self._disk, work, *args)

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        """Run work that computes with the GIL released. *Cancellation*: as for `disk`."""
        return await _run(self._cpu, work, *args)

    async def talk(self, work: Callable[..., T], abort: Callable[[], None], *args: object) -> T:
        """See the port. `abort` is called from the loop, once, and must not block."""
        found: list[T] = []
        failed: list[Exception] = []

        async def call(scope: trio.CancelScope) -> None:
            with trio.CancelScope(shield=True):
                try:
                    found.append(await _run(self._talk, work, *args))
                except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery
                    failed.append(error)
            scope.cancel()

        async with trio.open_nursery() as nursery:  # noqa: TID251 - the call, and who ends it early
            nursery.start_soon(call, nursery.cancel_scope)
            try:
                await trio.sleep_forever()
            finally:
                if not found and not failed:
                    abort()
        await trio.lowlevel.checkpoint_if_cancelled()
        if failed:
            raise failed[0]
        return found[0]

    def statistics(self) -> dict[str, LaneStatistics]:
        """Load of each lane, by name."""
        return {"disk": _statistics(self._disk), "cpu": _statistics(self._cpu), "talk": _statistics(self._talk)}


class InlinePool:
    """Runs work in the calling task, so that simulated and unit-tested runs repeat exactly."""

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        """A checkpoint, then the call."""
        await trio.lowlevel.checkpoint()
        return work(*args)

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        """A checkpoint, then the call."""
        await trio.lowlevel.checkpoint()
        return work(*args)

    async def talk(self, work: Callable[..., T], abort: Callable[[], None], *args: object) -> T:  # noqa: ARG002
        """A checkpoint, then the call."""
        await trio.lowlevel.checkpoint()
        return work(*args)


async def _run(limiter: trio.CapacityLimiter, work: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(work, *args, abandon_on_cancel=False, limiter=limiter)  # noqa: TID251 - owner


def _statistics(limiter: trio.CapacityLimiter) -> LaneStatistics:
    now = limiter.statistics()
    return LaneStatistics(int(now.total_tokens), now.borrowed_tokens, now.tasks_waiting)
