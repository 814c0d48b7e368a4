"""The audit log's files below `STATE/audit`: appending durably, reading, checking. Used by `services.audit` only.

Everything blocks and runs in the pool, one call that writes at a time. Invariants: a file is only ever appended to; a
line is complete and flushed before its link is handed out; a torn last line, which nobody was answered for, is cut
away at the next start. A reserve beside the files is given up when the disk is full, so that what was already done can
still be written down.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ibs.core import audit, limits
from ibs.core.audit import AuditRow, Link
from ibs.errors import FailedError, FormatError, NoSpace
from ibs.wire.audit import AuditCheck

RESERVE: Final = "reserve"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class AuditFiles:
    """The files of one folder. `opened` first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _name(1)

    def open(self) -> Link:
        """Make the folder where needed, cut away a torn last line; the last link. Raises FailedError, NoSpace."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(self.folder.parent)
            last = self.paths()[-1:]
            self._path = last[0] if last else self._path
            return self._last(self._path) if last else audit.BEGIN
        except OSError as error:
            raise self._told(error) from error

    def _last(self, path: Path) -> Link:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - 2 * limits.AUDIT_LINE_BYTES_MAX))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(start + whole)
                os.fsync(file.fileno())
        for line in reversed(tail[:whole].splitlines()):
            with suppress(FormatError):
                row, _body, digest = audit.decode(line)
                return Link(row.n, digest)
        previous = [one for one in self.paths() if one < path]
        return self._last(previous[-1]) if previous else audit.BEGIN

    def paths(self) -> Sequence[Path]:
        """All files, oldest first."""
        return sorted(self.folder.glob("audit-*.jsonl"))

    def keep_reserve(self) -> None:
        """See that there is room for what a change under way will have to say. Raises NoSpace, FailedError."""
        path = self.folder / RESERVE
        try:
            if path.exists() and path.stat().st_size >= limits.AUDIT_RESERVE_BYTES:
                return
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, limits.AUDIT_RESERVE_BYTES)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise self._told(error) from error

    def append(self, lines: Sequence[bytes]) -> None:
        """*Durability*: kept when it returns. On an error nothing of it is left. Raises NoSpace, FailedError."""
        try:
            try:
                self._append(b"".join(lines))
            except OSError as error:
                if error.errno not in _FULL or not (self.folder / RESERVE).exists():
                    raise
                (self.folder / RESERVE).unlink()
                self._append(b"".join(lines))
        except OSError as error:
            raise self._told(error) from error

    def _append(self, content: bytes) -> None:
        with suppress(FileNotFoundError):
            if self._path.stat().st_size >= limits.AUDIT_FILE_BYTES:
                self._path = self.folder / _name(int(self._path.stem.rpartition("-")[2]) + 1)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
                if not before:
                    _sync_folder(self.folder)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)

    def _told(self, error: OSError) -> FailedError:
        if error.errno in _FULL:
            return NoSpace(str(self.folder), "quota" if error.errno == errno.EDQUOT else "bytes")
        return FailedError(f"the audit log cannot be kept in {self.folder}: {error.strerror}", hint="cure the disk")

    def lines(self) -> Iterator[tuple[Path, int, bytes]]:
        """File, number and bytes of each line, oldest first; bounded in length, so that a damaged file is read too."""
        for path in self.paths():
            with path.open("rb") as file:
                number = 0
                while line := file.readline(limits.AUDIT_LINE_BYTES_MAX + 2):
                    number += 1
                    yield path, number, line.removesuffix(b"\n")

    def find(self, wanted: Mapping[str, str], limit: int) -> list[tuple[AuditRow, str]]:
        """Rows that fit, with their hashes, newest first; lines that are no rows are passed over."""
        found: deque[tuple[AuditRow, str]] = deque(maxlen=limit)
        for _path, _number, line in self.lines():
            with suppress(FormatError):
                row, _body, digest = audit.decode(line)
                if audit.matches(row, wanted):
                    found.append((row, digest.hex()))
        return list(reversed(found))

    def row(self, n: int) -> tuple[AuditRow, str] | None:
        """The row with that number."""
        for _path, _number, line in self.lines():
            with suppress(FormatError):
                row, _body, digest = audit.decode(line)
                if row.n == n:
                    return row, digest.hex()
        return None

    def check(self, head: Link) -> AuditCheck:
        """Follow the chain from its first line to `head`, the last one that was ever answered for."""
        link, first, until, problem = audit.BEGIN, "", "", ""
        name, at, unproven = "", 0, 0
        for path, number, line in self.lines():
            if problem:
                unproven += 1
                continue
            try:
                row, link = audit.follow(line, link)
                first, until = first or row.time, row.time
            except FormatError as error:
                problem, name, at, unproven = error.message, path.name, number, 1
            else:
                if link.n == head.n and link.hash != head.hash:
                    problem, name, at, unproven = f"row {row.n} is not the one that was written", path.name, number, 1
        if not problem and link.n < head.n:
            problem = f"rows {link.n + 1} to {head.n} are missing at the end"
        return AuditCheck(
            ok=not problem,
            rows=link.n,
            files=len(self.paths()),
            first=first,
            good_until=until,
            head=link.hash.hex(),
            file=name,
            line=at,
            problem=problem,
            unproven=unproven,
        )


def _name(number: int) -> str:
    return f"audit-{number:08d}.jsonl"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
