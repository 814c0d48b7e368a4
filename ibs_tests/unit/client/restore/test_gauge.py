"""Figures of a running restore."""

from __future__ import annotations

from datetime import UTC, datetime

from ibs.client.restore.gauge import PROGRESS_SECONDS, Gauge
from ibs.client.restore.plan import RestoreProgress


class HandClock:
    """Goes on when told."""

    seconds = 100.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def now_ns(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def test_progress_is_told_at_a_bounded_rate() -> None:
    clock, told = HandClock(), list[RestoreProgress]()
    gauge = Gauge(clock, told.append)
    for _ in range(100):
        gauge.advance(size=10, entries=1)
    assert told == []
    clock.seconds += 2 * PROGRESS_SECONDS
    gauge.advance(size=5)
    assert [(each.done_bytes, each.entries) for each in told] == [(1005, 100)]
    gauge.tell()
    assert len(told) == 2


def test_stages_add_up() -> None:
    gauge = Gauge(HandClock(), None)
    gauge.add("write", busy=1.5, size=10, items=1)
    gauge.add("write", busy=0.5, wait=2, size=5, items=1)
    (figures,) = gauge.stages().values()
    assert (figures.busy_seconds, figures.wait_seconds, figures.bytes, figures.items) == (2.0, 2.0, 15, 2)
    gauge.advance(size=1)
    gauge.tell()
