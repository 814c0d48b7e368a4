"""Marking for garbage collection: which of very many chunks are referred to, by the first 64 bits of their ids.

Pure; used by `engine.gc`. A table holds one range of ids, sorted; references are thrown at it in any order, as often as
they come. Two ids that share their first 64 bits share one mark: that can only keep garbage, never lose a chunk, since
a chunk counts as unreferred only when nothing with its first 64 bits is. Invariants: a table takes no more memory than
`PASS_BYTES_MAX`, because a store with more chunks is marked in several passes over ranges of ids; what a reference
costs does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ibs.core import limits
from ibs.core.ids import ID_BYTES
from ibs.core.index import IdArray

PASS_BYTES_MAX: Final = 192 * limits.MIB
ROW_BYTES: Final = 48
"""What one chunk of a table takes while the table is made; about 26 bytes afterwards."""
SLICE_IDS: Final = 1 << 18
"""References looked up at once: bounds the memory beside the table."""
_LOOKS: Final = 6

Prefixes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Range:
    """Ids from `first` to `last`, both of them included, 32 bytes each."""

    first: bytes
    last: bytes

    @property
    def bounds(self) -> tuple[int, int]:
        """The first 64 bits of both, as numbers."""
        return int.from_bytes(self.first[:8], "big"), int.from_bytes(self.last[:8], "big")


WHOLE: Final = Range(bytes(ID_BYTES), b"\xff" * ID_BYTES)


def passes(chunks: int, *, bytes_max: int = PASS_BYTES_MAX) -> list[Range]:
    """Ranges that divide all ids into equal parts, so few that a table of each fits into `bytes_max`.

    Ids are digests, so equal ranges hold equally many, up to chance; a margin of a quarter covers that.
    """
    per_pass = max(1, bytes_max // ROW_BYTES * 3 // 4)
    count = max(1, -(-chunks // per_pass))
    edges = [(1 << 64) * number // count for number in range(count + 1)]
    return [
        Range(low.to_bytes(8, "big") + bytes(24), (high - 1).to_bytes(8, "big") + b"\xff" * 24)
        for low, high in pairwise(edges)
    ]


def prefixes_of(ids: IdArray) -> Prefixes:
    """The first 64 bits of each id as a number in native byte order."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").ravel().astype(np.uint64)


def contains(table: Prefixes, wanted: Prefixes) -> NDArray[np.bool_]:
    """For each of `wanted` whether it is in the sorted `table`."""
    if not len(table):
        return np.zeros(len(wanted), dtype=np.bool_)
    at = np.searchsorted(table, wanted)
    np.minimum(at, len(table) - 1, out=at)
    found: NDArray[np.bool_] = table[at] == wanted
    return found


class ChunkTable:
    """The chunks of one range. Add them all, then `seal`, then `mark`."""

    def __init__(self, part: Range = WHOLE) -> None:
        self.part = part
        self._low, self._high = (np.uint64(bound) for bound in part.bounds)
        self._parts: list[tuple[Prefixes, NDArray[np.uint32], NDArray[np.bool_], NDArray[np.bool_]]] = []
        self.chunks = 0
        """Rows that are not in trash."""
        self.prefixes: Prefixes = np.zeros(0, dtype=np.uint64)
        self.marked: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._rows: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
        self._bytes: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
        self._retired: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._shift = np.uint64(0)
        self._starts: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)

    def __len__(self) -> int:
        return len(self.prefixes)

    def add(
        self,
        ids: IdArray,
        stored_bytes: NDArray[np.int64],
        collectable: NDArray[np.bool_],
        retired: NDArray[np.bool_],
    ) -> None:
        """Some chunks of the range."""
        self.chunks += int((~retired).sum())
        self._parts.append((prefixes_of(ids), stored_bytes.astype(np.uint32), collectable, retired))

    def add_known(self, ids: Sequence[bytes]) -> None:
        """Ids that are known though no chunk is there, so that references to them can be told."""
        first, last = self.part.first, self.part.last
        inside = [one for one in ids if first <= one <= last]
        none = np.zeros(len(inside), dtype=np.bool_)
        array = np.frombuffer(b"".join(inside), dtype=np.uint8).reshape(-1, ID_BYTES)
        self._parts.append((prefixes_of(array), np.zeros(len(inside), dtype=np.uint32), none, none))

    def seal(self) -> None:
        """Sort, and join what shares its first 64 bits."""
        parts, self._parts = self._parts, []
        if not parts:
            return
        prefixes, sizes, collectable, retired = (np.concatenate(column) for column in zip(*parts, strict=True))
        del parts
        if len(prefixes) > 1 and (prefixes[1:] < prefixes[:-1]).any():
            order = np.argsort(prefixes, kind="stable")
            prefixes, sizes, collectable, retired = prefixes[order], sizes[order], collectable[order], retired[order]
        first = np.ones(len(prefixes), dtype=np.bool_)
        first[1:] = prefixes[1:] != prefixes[:-1]
        at = np.flatnonzero(first)
        self.prefixes = prefixes[at]
        if len(at):
            self._rows = np.add.reduceat(collectable.astype(np.uint32), at, dtype=np.uint32)
            self._bytes = np.add.reduceat(sizes * collectable, at, dtype=np.uint32)
            self._retired = np.logical_or.reduceat(retired, at)
        self.marked = np.zeros(len(at), dtype=np.bool_)
        self._index()

    def _index(self) -> None:
        """Where each bucket of equal width begins, as many buckets as chunks up to a factor of two."""
        span = int(self._high) - int(self._low)
        bits = max(1, len(self.prefixes).bit_length())
        self._shift = np.uint64(max(0, span.bit_length() - bits))
        buckets = (span >> int(self._shift)) + 1
        counts = np.bincount(((self.prefixes - self._low) >> self._shift).astype(np.intp), minlength=buckets)
        self._starts = np.zeros(buckets, dtype=np.uint32)
        np.cumsum(counts[:-1], out=self._starts[1:])

    def mark(self, ids: IdArray) -> Iterator[NDArray[np.intp]]:
        """Mark what `ids` refer to. Yields positions in `ids` that no chunk of the range has; consume it all."""
        for start in range(0, len(ids), SLICE_IDS):
            absent = self._mark(prefixes_of(ids[start : start + SLICE_IDS]))
            if len(absent):
                wanted = prefixes_of(ids[start : start + SLICE_IDS])
                yield np.flatnonzero(np.isin(wanted, absent)) + start

    def _mark(self, wanted: Prefixes) -> Prefixes:
        """Mark these; those among them that are in the range, and not in the table."""
        if self.part is not WHOLE:
            wanted = wanted[(wanted >= self._low) & (wanted <= self._high)]
        if not len(self.prefixes) or not len(wanted):
            return wanted
        bucket = ((wanted - self._low) >> self._shift).astype(np.intp)
        at = self._starts[bucket].astype(np.intp)
        # Ids are digests, so a bucket holds one chunk or two, rarely more: a look or two instead of a binary search.
        for _ in range(_LOOKS):
            np.minimum(at, len(self.prefixes) - 1, out=at)
            found = self.prefixes[at] == wanted
            self.marked[at[found]] = True
            left = np.flatnonzero(~found)
            wanted, at = wanted[left], at[left] + 1
            if not len(wanted):
                return wanted
        # The long way: for what is not in the table, and for ids that somebody chose to crowd a bucket.
        at = self.prefixes.searchsorted(wanted)
        np.minimum(at, len(self.prefixes) - 1, out=at)
        found = self.prefixes[at] == wanted
        self.marked[at[found]] = True
        absent: Prefixes = wanted[~found]
        return absent

    def is_marked(self, chunk: bytes) -> bool:
        """Whether something with the first 64 bits of this id, of the range, is referred to."""
        prefix = np.uint64(int.from_bytes(chunk[:8], "big"))
        at = int(self.prefixes.searchsorted(prefix))
        return at < len(self.prefixes) and self.prefixes[at] == prefix and bool(self.marked[at])

    # --- what follows from the marks ---

    @property
    def unmarked(self) -> Prefixes:
        """Sorted: what can be collected and is not referred to."""
        return self.prefixes[self._doomed]

    @property
    def unmarked_chunks(self) -> int:
        return int(self._rows[self._doomed].sum(dtype=np.int64)) if len(self.prefixes) else 0

    @property
    def unmarked_bytes(self) -> int:
        return int(self._bytes[self._doomed].sum(dtype=np.int64)) if len(self.prefixes) else 0

    @property
    def wanted_again(self) -> Prefixes:
        """Sorted: what is in trash and referred to all the same."""
        return self.prefixes[self.marked & self._retired] if len(self.prefixes) else self.prefixes

    @property
    def _doomed(self) -> NDArray[np.bool_]:
        return ~self.marked & (self._rows > 0) if len(self.prefixes) else self.marked
