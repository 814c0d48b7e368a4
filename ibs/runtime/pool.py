"""Worker threads for blocking work: one lane for the disk, one for the processor; and a lane without threads for tests.

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
    """The server's pool: two bounded lanes of threads. May be made outside a trio run."""

    def __init__(
        self, *, disk_threads: int = limits.POOL_DISK_THREADS, cpu_threads: int = limits.POOL_CPU_THREADS
    ) -> None:
        self._disk = trio.CapacityLimiter(disk_threads)
        self._cpu = trio.CapacityLimiter(cpu_threads)

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking I/O in a thread and return its result.

        *Cancellation*: while waiting for a thread nothing has happened. Once started the call finishes and its result
        is returned (so that what it opened is not lost); the cancellation arrives at the caller's next checkpoint.
        """
        return await _run(self._disk, work, *args)

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        """Run work that computes with the GIL released. *Cancellation*: as for `disk`."""
        return await _run(self._cpu, work, *args)

    def statistics(self) -> dict[str, LaneStatistics]:
        """Load of each lane, by name."""
        return {"disk": _statistics(self._disk), "cpu": _statistics(self._cpu)}


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


async def _run(limiter: trio.CapacityLimiter, work: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(work, *args, abandon_on_cancel=False, limiter=limiter)  # noqa: TID251 - owner


def _statistics(limiter: trio.CapacityLimiter) -> LaneStatistics:
    now = limiter.statistics()
    return LaneStatistics(int(now.total_tokens), now.borrowed_tokens, now.tasks_waiting)
