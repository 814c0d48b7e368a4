"""First names of inodes that have several: what a backup must remember to make hard links of the others.

Importable by the backup pipeline; one thread at a time, any thread. An inode is forgotten when as many names were
seen as it has. Copies made of hard links (as rotating backups make them) keep millions of them waiting for their
second name; past LINKS_MEMORY_MAX they wait in an unlinked SQLite file, so that memory stays flat.
"""

from __future__ import annotations

import sqlite3

from ibs.core import limits
from ibs.errors import FailedError

Key = tuple[int, int]
"""Device and inode number."""


class HardLinks:
    """A map from inodes to first names. `close` it."""

    def __init__(self, memory_max: int = limits.LINKS_MEMORY_MAX) -> None:
        self._memory_max = memory_max
        self._memory: dict[Key, tuple[bytes, int]] = {}
        self._disk: sqlite3.Connection | None = None
        self._spilled = 0

    def first_name(self, key: Key) -> bytes | None:
        """The name that stands for the inode, if one was seen."""
        known = self._memory.get(key)
        if known is not None:
            return known[0]
        if not self._spilled:
            return None
        row = self._sql("SELECT path FROM links WHERE inode = ?", _text(key)).fetchone()
        return row[0] if row is not None else None

    def add(self, key: Key, path: bytes, names: int) -> None:
        """`path` is the first name seen of an inode that has `names` of them."""
        if names <= 1:
            return
        if len(self._memory) < self._memory_max:
            self._memory[key] = (path, names - 1)
        else:
            self._sql("INSERT OR REPLACE INTO links VALUES (?, ?, ?)", _text(key), path, names - 1)
            self._spilled += 1

    def passed(self, key: Key) -> None:
        """One more name of a known inode was seen."""
        known = self._memory.pop(key, None)
        if known is not None:
            path, left = known
            if left > 1:
                self._memory[key] = (path, left - 1)
        elif self._spilled:
            self._sql("UPDATE links SET left = left - 1 WHERE inode = ?", _text(key))
            gone = self._sql("DELETE FROM links WHERE inode = ? AND left <= 0", _text(key)).rowcount
            self._spilled -= gone

    def __len__(self) -> int:
        return len(self._memory) + self._spilled

    def close(self) -> None:
        """Forget everything; may be called twice."""
        self._memory = {}
        self._spilled = 0
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def _sql(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            if self._disk is None:
                # The empty name is SQLite's for a temporary file that is gone when it is closed. Turns of the reading
                # thread may be taken by different threads of the pool, never by two at once.
                self._disk = sqlite3.connect("", isolation_level=None, check_same_thread=False)
                self._disk.execute("PRAGMA journal_mode = OFF")
                self._disk.execute("PRAGMA synchronous = OFF")
                self._disk.execute("CREATE TABLE links (inode TEXT PRIMARY KEY, path BLOB, left INTEGER) WITHOUT ROWID")
            return self._disk.execute(statement, values)
        except sqlite3.Error as error:
            raise FailedError(
                f"hard links cannot be kept in a temporary file: {error}", hint="free space or set SQLITE_TMPDIR"
            ) from error


def _text(key: Key) -> str:
    """Inode numbers may exceed what SQLite's integers hold."""
    return f"{key[0]:x}:{key[1]:x}"
