"""What a restore did, and what it could not do: counts and the first paths by reason, in bounded memory.

Used by the writers of `restore` and by `client.restore`. Thread-safe: several writers report at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ibs.core import limits
from ibs.errors import FormatError, IbsError
from ibs.restore.tree.safe_path import Folder, shown


class Severity(StrEnum):
    """`note`: as asked, worth telling. `warning`: restored, but not in full. `lost`: the data could not be had."""

    NOTE = "note"
    WARNING = "warning"
    LOST = "lost"


class Reason(StrEnum):
    """Why something is not in the target as it is in the archive. The values are read by programs."""

    UNCHANGED = "unchanged"
    NEWER = "newer-kept"
    INCOMPLETE = "incomplete-in-backup"
    EXISTS = "exists"
    IN_THE_WAY = "in-the-way"
    OWNER = "owner-not-set"
    SPECIAL_BITS = "special-bits-not-set"
    MODE = "mode-not-set"
    XATTR = "xattr-not-set"
    ACL = "acl-not-set"
    CAPABILITY = "capability-not-set"
    TIMES = "times-not-set"
    DEVICE = "device-not-created"
    NOT_CREATED = "not-created"
    LINK_COPIED = "hard-link-copied"
    PATTERN = "pattern-matched-nothing"
    SIGNATURE = "signature"
    CORRUPT = "corrupt"
    MISSING = "chunk-not-found"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Meaning:
    severity: Severity
    text: str


MEANINGS: Final[Mapping[Reason, Meaning]] = {
    Reason.UNCHANGED: Meaning(Severity.NOTE, "was there already with the same size and time"),
    Reason.NEWER: Meaning(Severity.NOTE, "the existing one is not older and was kept"),
    Reason.INCOMPLETE: Meaning(Severity.NOTE, "changed or failed while it was backed up"),
    Reason.EXISTS: Meaning(Severity.WARNING, "exists and was kept (see --overwrite)"),
    Reason.IN_THE_WAY: Meaning(Severity.WARNING, "something of another kind is in its place"),
    Reason.OWNER: Meaning(Severity.WARNING, "owner could not be set"),
    Reason.SPECIAL_BITS: Meaning(Severity.WARNING, "set-id bits left off, as the owner could not be set"),
    Reason.MODE: Meaning(Severity.WARNING, "mode could not be set"),
    Reason.XATTR: Meaning(Severity.WARNING, "extended attribute could not be set"),
    Reason.ACL: Meaning(Severity.WARNING, "access control list could not be set"),
    Reason.CAPABILITY: Meaning(Severity.WARNING, "file capability could not be set"),
    Reason.TIMES: Meaning(Severity.WARNING, "times could not be set"),
    Reason.DEVICE: Meaning(Severity.WARNING, "device node could not be created"),
    Reason.NOT_CREATED: Meaning(Severity.WARNING, "could not be created"),
    Reason.LINK_COPIED: Meaning(Severity.NOTE, "hard link restored from its own copy of the data"),
    Reason.PATTERN: Meaning(Severity.WARNING, "pattern matched nothing"),
    Reason.SIGNATURE: Meaning(Severity.WARNING, "manifest"),
    Reason.CORRUPT: Meaning(Severity.LOST, "CORRUPT chunk"),
    Reason.MISSING: Meaning(Severity.LOST, "chunk not found"),
    Reason.MALFORMED: Meaning(Severity.LOST, "breaks the archive format"),
}


@dataclass(slots=True)
class Problem:
    """One reason with the number of entries it met and the first paths, each with a detail."""

    reason: Reason
    count: int = 0
    paths: list[tuple[str, str]] = field(default_factory=list)

    @property
    def severity(self) -> Severity:
        return MEANINGS[self.reason].severity

    @property
    def text(self) -> str:
        return MEANINGS[self.reason].text


@dataclass(slots=True)
class Counts:
    """Entries made in the target by kind, and bytes of file content written (holes not counted)."""

    files: int = 0
    folders: int = 0
    symlinks: int = 0
    hard_links: int = 0
    special: int = 0
    bytes: int = 0


class RestoreReport:
    """Collects counts and problems of one restore."""

    def __init__(self, *, paths_max: int = limits.RESTORE_REPORT_PATHS_MAX) -> None:
        self._lock = threading.Lock()
        self._paths_max = paths_max
        self._problems: dict[Reason, Problem] = {}
        self.counts = Counts()
        self.first_loss: tuple[IbsError, str] | None = None
        """The first error about data that could not be had, and the path that needed it."""

    def add(self, reason: Reason, path: bytes | Folder, detail: str = "", *, error: IbsError | None = None) -> None:
        """Note that `reason` befell the entry at `path`; the first `error` about lost data is kept whole."""
        with self._lock:
            if MEANINGS[reason].severity is Severity.LOST and self.first_loss is None:
                where = path.path() if isinstance(path, Folder) else path
                self.first_loss = (error or FormatError(f"{shown(where)}: {detail}"), shown(where))
            problem = self._problems.setdefault(reason, Problem(reason))
            problem.count += 1
            if len(problem.paths) < self._paths_max:
                where = path.path() if isinstance(path, Folder) else path
                problem.paths.append((shown(where) or ".", detail))

    def made(self, *, files: int = 0, symlinks: int = 0, hard_links: int = 0, special: int = 0, size: int = 0) -> None:
        """Count entries that are complete under their final names, and `size` bytes written."""
        with self._lock:
            self.counts.files += files
            self.counts.symlinks += symlinks
            self.counts.hard_links += hard_links
            self.counts.special += special
            self.counts.bytes += size

    def made_folder(self) -> None:
        with self._lock:
            self.counts.folders += 1

    def problems(self) -> list[Problem]:
        """By severity, worst first, then by reason."""
        order = (Severity.LOST, Severity.WARNING, Severity.NOTE)
        with self._lock:
            return sorted(self._problems.values(), key=lambda each: (order.index(each.severity), each.reason))

    def count(self, severity: Severity) -> int:
        """How many times reasons of that severity were met."""
        return sum(problem.count for problem in self.problems() if problem.severity is severity)

    def view(self) -> dict[str, object]:
        """The report as JSON types."""
        with self._lock:
            counts = {name: getattr(self.counts, name) for name in Counts.__slots__}
        return {
            "restored": counts,
            "problems": [
                {
                    "reason": problem.reason.value,
                    "severity": problem.severity.value,
                    "text": problem.text,
                    "count": problem.count,
                    "paths": [{"path": path, "detail": detail} for path, detail in problem.paths],
                }
                for problem in self.problems()
            ],
        }

    def lines(self) -> list[str]:
        """One line a reason for people and logs: `warning: owner could not be set: 12 entries (a, b, …)`."""
        return [
            f"{problem.severity}: {problem.text}: {problem.count} "
            f"{'entry' if problem.count == 1 else 'entries'} ({_first(problem)})"
            for problem in self.problems()
        ]


def _first(problem: Problem) -> str:
    names = [f"{path}: {detail}" if detail else path for path, detail in problem.paths[:3]]
    return "; ".join(names) + ("; …" if problem.count > len(names) else "")
