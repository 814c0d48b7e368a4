"""Measures a restore while it runs: seconds and bytes by stage, and progress told at a bounded rate.

Imported by the modules of `client.restore`. Trio thread only.
"""

from __future__ import annotations

from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.plan import ProgressSink, RestoreProgress
from ibs.ports.clock import Clock
from ibs.wire.session import StageFigures

PROGRESS_SECONDS = 0.1


class Gauge:
    """Figures of one restore. Stages: `fetch`, `decode`, `plan`, `write`."""

    def __init__(self, clock: Clock, sink: ProgressSink | None) -> None:
        self.clock = clock
        self._sink = sink
        self._told = self.began = clock.monotonic()
        self._stages: dict[str, list[float]] = {}
        self.done_bytes = 0
        self.total_bytes = 0
        self.entries = 0
        self.fetcher: ChunkFetcher | None = None

    def now(self) -> float:
        """Seconds."""
        return self.clock.monotonic()

    def add(self, stage: str, *, busy: float = 0.0, wait: float = 0.0, size: int = 0, items: int = 0) -> None:
        """Seconds a stage was busy and waiting, and what went through it."""
        figures = self._stages.setdefault(stage, [0.0, 0.0, 0, 0])
        for at, more in enumerate((busy, wait, size, items)):
            figures[at] += more

    def advance(self, *, size: int = 0, entries: int = 0) -> None:
        """So much more is done; tell it when it is time."""
        self.done_bytes += size
        self.entries += entries
        if self.clock.monotonic() - self._told >= PROGRESS_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Hand out progress now."""
        self._told = self.clock.monotonic()
        if self._sink is not None:
            self._sink(RestoreProgress(self.done_bytes, self.total_bytes, self.entries, self.stages()))

    def stages(self) -> dict[str, StageFigures]:
        """All stages so far."""
        found = {
            name: StageFigures(busy_seconds=busy, wait_seconds=wait, bytes=int(size), items=int(items))
            for name, (busy, wait, size, items) in self._stages.items()
        }
        if self.fetcher is not None:
            figures = self.fetcher.figures
            found["fetch"] = StageFigures(
                busy_seconds=figures.fetch_seconds,
                wait_seconds=figures.wait_seconds,
                bytes=figures.stored_bytes,
                items=figures.chunks,
            )
            found["decode"] = StageFigures(
                busy_seconds=figures.decode_seconds, bytes=figures.plain_bytes, items=figures.chunks
            )
        return found
