"""Tells when a task keeps the event loop to itself: blocking work that belongs in the pool.

A trio instrument, installed by `app` for the server's run; `status` shows its counters. Invariant: it never raises
(trio would remove it) and costs three clock readings a step.

A step may be long because it computes, because it waits for the disk or the interpreter's lock, or because the machine
gave the processor to others; how much of it the loop's thread computed tells the first from the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from ibs.core import limits


@dataclass(frozen=True, slots=True)
class Stall:
    """One step of one task that took too long; `computing_ms` of it the thread had the processor."""

    task: str
    duration_ms: float
    computing_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class StallStatistics:
    """`longest_ms` is 0.0 as long as nothing stalled."""

    stalls: int = 0
    longest_ms: float = 0.0
    longest_task: str = ""
    last: Stall | None = None


class StallDetector(trio.abc.Instrument):
    """Measures every step between two checkpoints of a task.

    `report` is called in the loop, for at most one stall in STALL_REPORT_SECONDS, with the stall and how many others
    went unreported since; it must not block.
    """

    def __init__(
        self,
        report: Callable[[Stall, int], None],
        *,
        threshold_seconds: float = limits.LOOP_STALL_SECONDS,
        monotonic: Callable[[], float] = time.perf_counter,
        computing: Callable[[], float] = time.thread_time,
    ) -> None:
        self._report = report
        self._threshold = threshold_seconds
        self._monotonic = monotonic
        self._computing = computing
        self._computed = 0.0
        self._began: float | None = None
        self._reported_at: float | None = None
        self._unreported = 0
        self._statistics = StallStatistics()

    @property
    def statistics(self) -> StallStatistics:
        """Counts since the start."""
        return self._statistics

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's interface
        self._computed = self._computing()
        self._began = self._monotonic()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began is None:  # installed from inside this very step
            return
        now = self._monotonic()
        seconds, self._began = now - self._began, None
        if seconds <= self._threshold:
            return
        computed = self._computing() - self._computed
        stall = Stall(task.name, round(seconds * 1000, 1), round(computed * 1000, 1))
        before = self._statistics
        longer = stall.duration_ms > before.longest_ms
        self._statistics = StallStatistics(
            before.stalls + 1,
            stall.duration_ms if longer else before.longest_ms,
            stall.task if longer else before.longest_task,
            stall,
        )
        if self._reported_at is not None and now - self._reported_at < limits.STALL_REPORT_SECONDS:
            self._unreported += 1
            return
        unreported, self._unreported, self._reported_at = self._unreported, 0, now
        self._report(stall, unreported)
