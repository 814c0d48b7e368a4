"""Clocks: the machine's, the trio loop's, and one that a test turns by hand. Implement `ports.clock.Clock`.

Made by `app` (or a test) and handed in; nobody else asks the machine for the time.
"""

from __future__ import annotations

import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta

import trio

_NS = 1_000_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
"""When clocks for tests begin."""


class SystemClock:
    """The machine's clock. `now`, `now_ns` and `monotonic` may be called from any thread."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        return datetime.now(UTC)

    def now_ns(self) -> int:
        """Wall time in nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Checkpoint, then resume after `seconds`."""
        await trio.sleep(max(seconds, 0.0))


class LoopClock:
    """The trio loop's own time from `start` on: with trio's MockClock every duration is virtual. Loop thread only."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        return self._start + timedelta(seconds=trio.current_time())

    def now_ns(self) -> int:
        """Wall time in nanoseconds since the epoch."""
        return int(self._start.timestamp()) * _NS + int(trio.current_time() * _NS)

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Checkpoint, then resume after `seconds`."""
        await trio.sleep(max(seconds, 0.0))


class ManualClock:
    """Stands still until `advance`. For tests; the times may also be read outside a trio run."""

    def __init__(self, start: datetime = START) -> None:
        self._start_ns = int(start.timestamp()) * _NS + start.microsecond * 1000
        self._passed_ns = 0
        self._sleepers: list[tuple[int, int, trio.Event]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        whole, rest = divmod(self.now_ns(), _NS)
        return datetime.fromtimestamp(whole, UTC) + timedelta(microseconds=rest // 1000)

    def now_ns(self) -> int:
        """Wall time in nanoseconds since the epoch."""
        return self._start_ns + self._passed_ns

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._passed_ns / _NS

    def advance(self, seconds: float) -> None:
        """Let time pass at once; whoever sleeps until then wakes."""
        self._passed_ns += int(seconds * _NS)
        while self._sleepers and self._sleepers[0][0] <= self._passed_ns:
            heapq.heappop(self._sleepers)[2].set()

    @property
    def sleepers(self) -> int:
        """How many tasks wait for time to pass."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Checkpoint, then resume once the clock was advanced by `seconds`."""
        until = self._passed_ns + int(max(seconds, 0.0) * _NS)
        if until <= self._passed_ns:
            await trio.lowlevel.checkpoint()
            return
        entry = (until, next(self._order), trio.Event())
        heapq.heappush(self._sleepers, entry)
        try:
            await entry[2].wait()
        except trio.Cancelled:
            self._sleepers.remove(entry)
            heapq.heapify(self._sleepers)
            raise
