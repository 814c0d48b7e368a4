"""Tells the server and whoever watches how the backup goes, and keeps the lease alive through quiet phases.

Importable by `run`.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ibs.client.backup.figures import Figures, Line, Notebook, Progress
from ibs.core import limits
from ibs.ports.clock import Clock
from ibs.ports.transport import BackupTransport
from ibs.wire.session import LogLine, StageReport

ProgressCall = Callable[[Progress], None]


class Reporter:
    """Sends figures and new lines at intervals. With `private`, lines name entries by number, not by path.

    (PROTOCOLS 18: the names in an encrypted archive are nobody's business but the key holder's.)
    """

    def __init__(
        self,
        transport: BackupTransport,
        clock: Clock,
        figures: Figures,
        notebook: Notebook,
        *,
        private: bool,
        progress: ProgressCall | None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._figures = figures
        self._notebook = notebook
        self._private = private
        self._progress = progress
        self._began = clock.monotonic()
        self._stopping = False
        self._nap = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Until `stop`. Raises what the transport raises, so that a lost session ends the backup."""
        try:
            last = self._clock.monotonic()
            while not self._stopping:
                self._nap = trio.CancelScope()
                with self._nap:
                    await self._clock.sleep(limits.BACKUP_PROGRESS_SECONDS)
                self.show()
                if self._clock.monotonic() - last >= limits.BACKUP_REPORT_SECONDS:
                    last = self._clock.monotonic()
                    await self.report()
        finally:
            self._ended.set()

    async def stop(self) -> StageReport:
        """End `run` between two reports, never within one; then send what is left but for the last report."""
        self._stopping = True
        self._nap.cancel()
        await self._ended.wait()
        self.show()
        while len((report := self._next()).lines) == limits.BACKUP_REPORT_LINES:
            await self._transport.report(report)
        return report

    async def report(self) -> None:
        """One report now."""
        await self._transport.report(self._next())

    def _next(self) -> StageReport:
        figures = self._figures
        return StageReport(
            done_bytes=figures.bytes_seen,
            total_bytes=max(figures.total_bytes, figures.bytes_seen) if figures.total_bytes else 0,
            files=figures.files,
            stages=figures.wire(),
            lines=[LogLine(level=line.note.level, text=self._text(line)) for line in self._notebook.take()],
        )

    def show(self) -> None:
        """Tell whoever watches."""
        if self._progress is None:
            return
        self._progress(self._figures.progress(self._clock.monotonic() - self._began))

    def _text(self, line: Line) -> str:
        return (line.private if self._private else line.note.line)[: limits.TASK_LOG_TEXT_CHARS_MAX]
