"""The journal of a session's promises on disk, and where in it each id is that the session may name.

Used by `engine.session` only. Ids are 32 bytes, one after the other; a torn last one is left out by readers. In memory
an id takes eight bytes: the file is read to compare. Not thread-safe: `PinSet` holds its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ibs.core import limits_index
from ibs.core.ids import ID_BYTES
from ibs.core.idtable import IdTable, IdTableBuilder
from ibs.core.index import IdArray, distinct
from ibs.errors import FailedError, NotFoundError
from ibs.storage.local.workfolder import WorkFolder

JOURNAL_FILE = "pins.journal"

_RECENT_IDS_MAX = 1 << 16
_RUN_IDS_MIN = 1 << 12


def id_array(ids: bytes | bytearray | memoryview) -> IdArray:
    """Concatenated ids as an array of shape (n, 32), without a copy; a torn last id is left out."""
    whole = len(ids) - len(ids) % ID_BYTES
    return np.frombuffer(ids, dtype=np.uint8, count=whole).reshape(-1, ID_BYTES)


def journal_blocks(folder: WorkFolder) -> Iterator[tuple[int, IdArray]]:
    """The ids in a session's journal in pieces, each with the row of its first; none when there is no journal."""
    first = 0
    while True:
        try:
            ids = _read(folder, first, limits_index.JOURNAL_BLOCK_IDS)
        except NotFoundError:
            return
        if len(ids):
            yield first, ids
        first += len(ids)
        if len(ids) < limits_index.JOURNAL_BLOCK_IDS:
            return


def _read(folder: WorkFolder, row: int, count: int) -> IdArray:
    return id_array(folder.read(JOURNAL_FILE, offset=row * ID_BYTES, length=count * ID_BYTES))


class Journal:
    """The journal of one session.

    New ids gather in a dictionary and are frozen into sorted runs of rows; runs of like size are merged.
    """

    def __init__(self, folder: WorkFolder) -> None:
        """Of a new session: the file is made by its first ids."""
        self._folder = folder
        self.length = 0
        """Ids in the file, whether they may be named or not."""
        self._recent: dict[bytes, int] = {}
        self._runs: list[IdTable] = []

    @classmethod
    def reopened(cls, folder: WorkFolder) -> Journal:
        """Of a session that has ended: everything in it counts."""
        journal = cls(folder)
        for first, ids in journal_blocks(folder):
            journal.length = first + len(ids)
            journal.take(first, ids, np.ones(len(ids), dtype=np.bool_))
        return journal

    def append(self, ids: bytes) -> int:
        """Write concatenated ids at the end; returns the row of the first. Raises NoSpace, and nothing is added."""
        first = self.length
        self._folder.append(JOURNAL_FILE, ids, at=first * ID_BYTES)
        self.length += len(ids) // ID_BYTES
        return first

    def new(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of `ids` that may not be named yet, each once."""
        fresh = [chunk for chunk in dict.fromkeys(ids) if chunk not in self._recent]
        if not fresh or not self._runs:
            return fresh
        known = self._in_runs(id_array(b"".join(fresh))) >= 0
        return [chunk for chunk, here in zip(fresh, known, strict=True) if not here]

    def add(self, ids: Iterable[bytes], first: int) -> None:
        """These new ids, in the file from row `first` on, may be named."""
        self._recent.update((chunk, first + at) for at, chunk in enumerate(ids))
        if len(self._recent) >= _RECENT_IDS_MAX:
            rows = np.fromiter(self._recent.values(), dtype=np.int64)
            self._freeze(rows, id_array(b"".join(self._recent)))
            self._recent = {}

    def take(self, first: int, ids: IdArray, there: NDArray[np.bool_]) -> None:
        """Of these new ids, in the file from row `first` on, those that are `there` may be named."""
        rows, ids = first + np.flatnonzero(there), ids[there]
        if len(ids) < _RUN_IDS_MIN:
            self._recent.update(zip(map(bytes, ids), rows.tolist(), strict=True))
        else:
            self._freeze(rows, ids)

    def _freeze(self, rows: NDArray[np.int64], ids: IdArray) -> None:
        builder = IdTableBuilder(self._ids_at, len(ids), int(rows.min()))
        builder.add(rows, ids)
        self._runs.append(builder.done()[0])
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            first, second = sorted(self._runs[-2:], key=lambda run: run.first)
            both = first.joined(second)
            if both is None:
                return
            self._runs[-2:] = [both]

    def _ids_at(self, row: int, count: int) -> IdArray:
        ids = _read(self._folder, row, count)
        if len(ids) != count:
            raise FailedError(
                "the journal of the session has become shorter",
                hint="the disk or file system below the datastore is faulty; check it, then start the backup again",
            )
        return ids

    def rows(self, ids: IdArray) -> NDArray[np.int64]:
        """The row of each id that may be named, the same one each time; -1 for others."""
        found = self._in_runs(ids)
        if self._recent:
            left = np.flatnonzero(found < 0)
            found[left] = [self._recent.get(chunk, -1) for chunk in map(bytes, ids[left])]
        return found

    def _in_runs(self, ids: IdArray) -> NDArray[np.int64]:
        found = np.full(len(ids), -1, dtype=np.int64)
        for run in self._runs:
            left = np.flatnonzero(found < 0)
            if len(left):
                found[left] = run.rows(ids[left])
        return found

    def unnamed(self, named: NDArray[np.bool_]) -> IdArray:
        """The ids of the file that are at no row which is true in `named`, each once."""
        gone: list[IdArray] = [np.zeros((0, ID_BYTES), dtype=np.uint8)]
        for first, ids in [] if named.all() else journal_blocks(self._folder):
            here = named[first : first + len(ids)]
            left = ids[: len(here)][~here]
            rows = self.rows(left)  # named may be another row of the same id
            gone.append(left[(rows < 0) | ~named[rows]])
        return distinct(np.concatenate(gone))

    def forget(self) -> None:
        """Free the memory."""
        self._recent, self._runs = {}, []
