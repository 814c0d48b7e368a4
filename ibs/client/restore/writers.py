"""How many threads write a tree: one as long as the processor is the limit, more when the target's disk is.

Imported by `client.restore.tree`. Making small files is five system calls each, and every one of them hands the
interpreter over: threads beside each other then spend their time on that. Where the calls wait for a disk or a network
instead, more of them at once are what makes it fast. Trio thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from ibs.core import limits
from ibs.ports.clock import Clock

_LOOK_SECONDS = 0.25
_IDLE_SHARE = 0.7
_BUSY_SHARE = 1.0


class Writers:
    """A limiter for writing jobs whose width follows the load. `cpu_seconds` is what this process has computed."""

    def __init__(self, clock: Clock, cpu_seconds: Callable[[], float] = time.process_time) -> None:
        self.limiter = trio.CapacityLimiter(1)
        self._clock = clock
        self._cpu_seconds = cpu_seconds
        self._seen = clock.monotonic()
        self._computed = cpu_seconds()

    def look(self) -> None:
        """Adapt; to be called after each job. Never more than RESTORE_WRITES, never less than one."""
        now = self._clock.monotonic()
        passed = now - self._seen
        if passed < _LOOK_SECONDS:
            return
        computed = self._cpu_seconds()
        share = (computed - self._computed) / passed
        self._seen, self._computed = now, computed
        width = int(self.limiter.total_tokens)
        if share < _IDLE_SHARE and self.limiter.statistics().tasks_waiting:
            width += 1
        elif share > _BUSY_SHARE:
            width -= 1
        self.limiter.total_tokens = max(1, min(width, limits.RESTORE_WRITES))
