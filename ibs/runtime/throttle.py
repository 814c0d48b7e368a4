"""Bandwidth limits: a token bucket whose rate may be changed while it is in use.

Used by whoever moves bytes under a limit. Invariants: over any span longer than the burst's worth, no more than
rate x span passes; callers pass in the order they came; a cancelled caller gives its share back.
"""

from __future__ import annotations

from ibs.ports.clock import Clock


class Throttle:
    """`rate` in units (bytes) a second, None for no limit; `burst` units may pass at once after a pause."""

    def __init__(self, clock: Clock, rate: float | None, *, burst: float | None = None) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        # Arrival times instead of a level: a caller's turn is fixed when it comes, so no queue and no lock is needed.
        self._free_at = float("-inf")

    @property
    def rate(self) -> float | None:
        """Units a second, None for no limit."""
        return self._rate

    def set_rate(self, rate: float | None) -> None:
        """From now on. Callers already waiting keep their turn."""
        self._rate = rate
        self._free_at = min(self._free_at, self._clock.monotonic())

    async def take(self, units: float) -> float:
        """Wait until `units` may pass; return the seconds waited. *Cancellation*: nothing was taken."""
        if self._rate is None or units <= 0:
            await self._clock.sleep(0)
            return 0.0
        rate = self._rate
        burst_seconds = (self._burst if self._burst is not None else rate) / rate
        now = self._clock.monotonic()
        cost = units / rate
        self._free_at = max(self._free_at, now - burst_seconds) + cost
        wait = max(self._free_at - now, 0.0)
        try:
            await self._clock.sleep(wait)
        except BaseException:
            self._free_at -= cost
            raise
        return wait
