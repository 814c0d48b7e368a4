"""What a running backup counts: seconds, bytes and items of each stage, and the lines it has to say.

Importable by the backup pipeline only. Threads add under a lock; the trio side reads snapshots.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ibs.core import limits
from ibs.sources.notes import Note
from ibs.wire.session import StageFigures

STAGES = ("scan", "read", "chunk", "hash", "compress", "encrypt", "send", "wait")


@dataclass(slots=True)
class Stage:
    """Sums of one stage."""

    busy_seconds: float = 0.0
    wait_seconds: float = 0.0
    bytes: int = 0
    items: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """For a person watching. `bytes_seen` counts the content of all files gone past, read or taken over."""

    archive: str
    path: str
    files: int
    bytes_seen: int
    bytes_read: int
    bytes_sent: int
    total_bytes: int
    seconds: float


@dataclass(slots=True)
class Figures:
    """Counters of one session. Integers are added to by one thread each; `add` is for any thread."""

    stages: dict[str, Stage] = field(default_factory=lambda: {name: Stage() for name in STAGES})
    entries: int = 0
    entries_before: int = 0
    """Entries of the archives before this one."""
    files: int = 0
    files_read: int = 0
    files_reused: int = 0
    files_healed: int = 0
    files_repacked: int = 0
    bytes_repacked: int = 0
    chunks_repacked: int = 0
    bytes_seen: int = 0
    bytes_read: int = 0
    bytes_reused: int = 0
    total_bytes: int = 0
    chunks: int = 0
    chunks_sent: int = 0
    bytes_sent: int = 0
    archive: str = ""
    path: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self, archive: str) -> None:
        """What follows belongs to this archive."""
        self.archive = archive
        self.entries_before = self.entries

    def end(self) -> None:
        """What follows belongs to no archive."""
        self.entries_before = self.entries

    def add(self, stage: str, *, busy: float = 0.0, wait: float = 0.0, size: int = 0, items: int = 0) -> None:
        """Add to the sums of a stage."""
        with self._lock:
            sums = self.stages[stage]
            sums.busy_seconds += busy
            sums.wait_seconds += wait
            sums.bytes += size
            sums.items += items

    def progress(self, seconds: float) -> Progress:
        """How far it is after `seconds`."""
        return Progress(
            archive=self.archive,
            path=os.fsdecode(self.path),
            files=self.files,
            bytes_seen=self.bytes_seen,
            bytes_read=self.bytes_read,
            bytes_sent=self.bytes_sent,
            total_bytes=self.total_bytes,
            seconds=seconds,
        )

    def wire(self) -> dict[str, StageFigures]:
        """The stages as a report tells them."""
        with self._lock:
            return {
                name: StageFigures(
                    busy_seconds=round(stage.busy_seconds, 3),
                    wait_seconds=round(stage.wait_seconds, 3),
                    bytes=stage.bytes,
                    items=stage.items,
                )
                for name, stage in self.stages.items()
            }


class Line(NamedTuple):
    """A note, and where it was made: after so many entries of an archive (0: outside of any)."""

    note: Note
    archive: str = ""
    entry: int = 0

    @property
    def private(self) -> str:
        """What may be told where names may not: what happened, and the entry for the key holder to look up."""
        return f"{self.archive} entry {self.entry}: {self.note.text}" if self.entry else self.note.text


class Notebook:
    """Lines said during one session, bounded: past BACKUP_NOTES_MAX they are only counted. Any thread may `note`."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._lock = threading.Lock()
        self._unsent: deque[Line] = deque()
        self.kept: list[Note] = []
        self.warnings = 0
        self.dropped = 0

    def note(self, note: Note) -> None:
        """Take a line."""
        figures = self._figures
        line = Line(note, figures.archive, figures.entries - figures.entries_before)
        with self._lock:
            if note.level == "warning":
                self.warnings += 1
            if len(self.kept) < limits.BACKUP_NOTES_MAX:
                self.kept.append(note)
                self._unsent.append(line)
            else:
                self.dropped += 1

    def warning_lines(self) -> tuple[str, ...]:
        """The kept warnings, whole."""
        with self._lock:
            return tuple(note.line for note in self.kept if note.level == "warning")

    def take(self, count: int = limits.BACKUP_REPORT_LINES) -> list[Line]:
        """The next lines for the server's task log."""
        with self._lock:
            return [self._unsent.popleft() for _ in range(min(count, len(self._unsent)))]
