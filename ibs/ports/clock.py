"""The clock as the product sees it: wall time, monotone time and sleep, handed in so that tests own time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time is for people and names; `monotonic` (seconds) is for durations and deadlines."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        ...

    def now_ns(self) -> int:
        """Wall time in nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Checkpoint, then resume after `seconds`."""
        ...
