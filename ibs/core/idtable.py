"""A set of ids that lie in a file: eight bytes of memory each, and the file is read to compare what seems to be found.

Pure but for the reading, which the maker hands in; used by `engine`. An id is remembered by 38 bits of a hash and the
26 bits of its row. The hash is keyed by this process, so nobody can choose ids that meet (ids of encrypted chunks are
their clients' own choice); two that meet by chance are told apart by the file. Whatever the file says later, an id is
never found that was not asked for: damage can only lose one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from operator import mul
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ibs.core.ids import ID_BYTES
from ibs.core.index import IdArray

ReadIds = Callable[[int, int], IdArray]
"""`read(row, count)`: the ids of so many rows from `row` on, all of them. Thread-safe where the table is shared."""
Keys = NDArray[np.uint64]

ROW_BITS: Final = 26
ROWS_MAX: Final = 1 << ROW_BITS
_ROW: Final = np.uint64(ROWS_MAX - 1)
_HASH: Final = np.uint64((1 << 64) - ROWS_MAX)
_BLOCK_IDS: Final = 1 << 15
_GAP_ROWS: Final = 16
"""Rows between two wanted ones that are rather read than skipped."""
_FACTORS: Final = np.frombuffer(os.urandom(2 * ID_BYTES), dtype=np.uint64) | np.uint64(1)
_WORDS: Final = struct.Struct("<8I")
_HASH_NUMBER: Final = int(_HASH)
_FACTOR_NUMBERS: Final = tuple(int(factor) for factor in _FACTORS)
# Vector multiply-shift over 32-bit words (Dietzfelbinger 1996): any two ids meet with a chance of about 2^-32.


def _hashes(ids: IdArray) -> Keys:
    """The hash of each id in the upper bits, zeros below."""
    words = np.ascontiguousarray(ids).view("<u4").astype(np.uint64)
    return (words @ _FACTORS) & _HASH


def _hash(chunk_id: bytes) -> int:
    words: tuple[int, ...] = _WORDS.unpack(chunk_id)
    total: int = sum(map(mul, words, _FACTOR_NUMBERS))
    return total & _HASH_NUMBER


class IdTable:
    """An immutable set of ids, found by their rows. Made by `IdTableBuilder`. Thread-safe as far as its `read` is."""

    __slots__ = ("_keys", "_read", "first")

    def __init__(self, read: ReadIds, keys: Keys, first: int = 0) -> None:
        """`keys`: sorted, hash and row less `first` each."""
        self._read, self._keys, self.first = read, keys, first

    def __len__(self) -> int:
        """Number of ids."""
        return len(self._keys)

    def __contains__(self, chunk_id: bytes) -> bool:
        if len(chunk_id) != ID_BYTES:
            return False
        wanted = _hash(chunk_id)
        at = int(self._keys.searchsorted(np.uint64(wanted)))
        while at < len(self._keys) and (key := int(self._keys[at])) & _HASH_NUMBER == wanted:
            if self._read(self.first + (key & (ROWS_MAX - 1)), 1).tobytes() == chunk_id:
                return True
            at += 1
        return False

    def contains(self, ids: IdArray) -> NDArray[np.bool_]:
        """For each id, shape (n, 32), whether it is in the set. Raises what `read` raises."""
        return self.rows(ids) >= 0

    def rows(self, ids: IdArray) -> NDArray[np.int64]:
        """For each id its row, or -1. Raises what `read` raises."""
        found = np.full(len(ids), -1, dtype=np.int64)
        if len(self._keys):
            for start in range(0, len(ids), _BLOCK_IDS):
                block = slice(start, start + _BLOCK_IDS)
                self._find(ids[block], found[block])
        return found

    def _find(self, wanted: IdArray, found: NDArray[np.int64]) -> None:
        """`rows` of some ids, into `found`, which holds -1 throughout."""
        hashes = _hashes(wanted)
        at = np.searchsorted(self._keys, hashes)
        left = np.arange(len(wanted))
        while True:
            left = left[at[left] < len(self._keys)]
            keys = self._keys[at[left]]
            meet = (keys & _HASH) == hashes[left]
            left, keys = left[meet], keys[meet]
            if not len(left):
                return
            rows = self.first + (keys & _ROW).astype(np.int64)
            same = (gather(self._read, rows) == wanted[left]).all(axis=1)
            found[left[same]] = rows[same]
            left = left[~same]
            at[left] += 1

    def only(self, kept: NDArray[np.bool_]) -> IdTable:
        """The same set without the rows that are false in `kept` (one boolean for each row from the first on)."""
        return IdTable(self._read, self._keys[kept[(self._keys & _ROW).astype(np.int64)]], self.first)

    def joined(self, other: IdTable) -> IdTable | None:
        """Both in one, of the same file, this with the earlier rows; None when together they have too many rows."""
        shift = other.first - self.first
        if shift < 0 or (len(other._keys) and shift + int((other._keys & _ROW).max()) >= ROWS_MAX):
            return None
        keys = np.concatenate((self._keys, other._keys + np.uint64(shift)))
        keys.sort()
        return IdTable(self._read, keys, self.first)


class IdTableBuilder:
    """Takes ids in row by row. `room`: how many at most, `first`: the lowest row; at most ROWS_MAX rows from there."""

    def __init__(self, read: ReadIds, room: int, first: int = 0) -> None:
        self._read, self._first = read, first
        self._keys: Keys = np.empty(room, dtype=np.uint64)
        self._count = 0

    def add(self, rows: NDArray[np.int64], ids: IdArray) -> None:
        """The ids of these rows."""
        for start in range(0, len(ids), _BLOCK_IDS):
            part = slice(start, start + _BLOCK_IDS)
            near = (rows[part] - self._first).astype(np.uint64)
            self._keys[self._count : self._count + len(near)] = _hashes(ids[part]) | near
            self._count += len(near)

    def done(self) -> tuple[IdTable, int]:
        """The set of what was added, the first row of each id, and how many rows repeated one. Reads ids that may.

        Nothing may be added after this. Raises what `read` raises.
        """
        keys = self._keys[: self._count]
        keys.sort()
        again = self._repeats(keys)
        if again is not None:
            keys = keys[~again]
        return IdTable(self._read, keys, self._first), self._count - len(keys)

    def _repeats(self, keys: Keys) -> NDArray[np.bool_] | None:
        """Which keys are of the id that their predecessor is of; None for none."""
        again: NDArray[np.bool_] | None = None
        for start in range(1, len(keys), _BLOCK_IDS):
            here, before = keys[start : start + _BLOCK_IDS], keys[start - 1 : start - 1 + _BLOCK_IDS]
            before = before[: len(here)]
            at = np.flatnonzero((here & _HASH) == (before & _HASH))
            if not len(at):
                continue
            rows = self._first + (np.concatenate((here[at], before[at])) & _ROW).astype(np.int64)
            ids = gather(self._read, rows)
            same = (ids[: len(at)] == ids[len(at) :]).all(axis=1)
            if again is None:
                again = np.zeros(len(keys), dtype=np.bool_)
            again[start + at[same]] = True
        return again


def gather(read: ReadIds, rows: NDArray[np.int64]) -> IdArray:
    """The ids of `rows`, in their order, shape (n, 32); neighbours are read together. Raises what `read` raises."""
    out = np.empty((len(rows), ID_BYTES), dtype=np.uint8)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    breaks = np.flatnonzero(np.diff(ordered) > _GAP_ROWS) + 1
    for places in np.split(order, breaks) if len(rows) else []:
        low, high = int(rows[places[0]]), int(rows[places[-1]])
        out[places] = read(low, high - low + 1)[rows[places] - low]
    return out
