"""How far a garbage collection is, how fast, and how long it will take; and the switch that pauses it.

Used by `engine.gc` and `services`. Belongs to the trio thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from ibs.core import limits
from ibs.ports.clock import Clock

PREPARING, MARKING, SWEEPING, EMPTYING = "preparing", "marking", "sweeping", "emptying trash"


@dataclass(frozen=True, slots=True)
class Progress:
    """`unit` is what `done`, `total` and `rate` (a second) count; `total` 0 and `eta` None: not known."""

    phase: str = PREPARING
    unit: str = ""
    done: int = 0
    total: int = 0
    references: int = 0
    bytes: int = 0
    rate: float = 0.0
    eta: float | None = None
    paused: bool = False


class Meter:
    """Measures phases; tells `show` about once a second, and at each change of phase."""

    def __init__(self, clock: Clock, show: Callable[[Progress], None]) -> None:
        self._clock = clock
        self._show = show
        self._began = self._shown = self._waited = self._paused_at = 0.0
        self.now = Progress()

    def begin(self, phase: str, unit: str = "", total: int = 0) -> None:
        """A phase begins."""
        self._began = clock = self._clock.monotonic()
        self._waited = 0.0
        self._shown = clock
        self.now = Progress(phase, unit, 0, total, self.now.references, 0)
        self._show(self.now)

    def at(self, done: int, *, total: int | None = None, references: int | None = None, size: int = 0) -> None:
        """`done` of the phase's units are done; `size` bytes with them."""
        now = self._clock.monotonic()
        seconds = now - self._began - self._waited
        total = self.now.total if total is None else total
        references = self.now.references if references is None else references
        rate = done / seconds if seconds > 0 else 0.0
        eta = (total - done) / rate if total and rate > 0 else None
        self.now = Progress(self.now.phase, self.now.unit, done, total, references, size, rate, eta, self.now.paused)
        if now - self._shown >= limits.GC_PROGRESS_SECONDS:
            self._shown = now
            self._show(self.now)

    def pause(self, *, paused: bool) -> None:
        """Time that passes while paused counts for no rate."""
        now = self._clock.monotonic()
        if paused:
            self._paused_at = now
        else:
            self._waited += now - self._paused_at
        p = self.now
        self.now = Progress(p.phase, p.unit, p.done, p.total, p.references, p.bytes, p.rate, p.eta, paused)
        self._show(self.now)


class Pause:
    """A switch between two steps."""

    def __init__(self) -> None:
        self._go = trio.Event()
        self._go.set()

    @property
    def on(self) -> bool:
        return not self._go.is_set()

    def set(self) -> None:
        """Wait at the next step."""
        if not self.on:
            self._go = trio.Event()

    def clear(self) -> None:
        """Go on."""
        self._go.set()

    async def passed(self) -> None:
        """Return once it is off."""
        await self._go.wait()
