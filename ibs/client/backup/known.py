"""Which chunks need not be sent: an exact set of ids that stays small, and the ledger of one session.

Importable by the backup pipeline only. Invariants:

* An id counts as known only after a comparison of all 32 bytes; a false positive would lose data.
* Each chunk is claimed by exactly one encoder, however many files share it.
* `unacknowledged` holds every claimed chunk that the server has not confirmed: no index record may name it yet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from ibs.core.ids import ID_BYTES
from ibs.core.index import IdLookup

_SHARDS: Final = 256
_SLOTS_MIN: Final = 8
_EMPTY: Final = bytes(ID_BYTES)


class IdTable:
    """A growing map from ids to small numbers (1 to 255; 0: absent), about 50 bytes an id. Not thread-safe.

    Open addressing in byte arrays, one for each first byte of an id, so that growing one moves 1/256 of all. The
    all-zero id is no chunk and cannot be kept.
    """

    __slots__ = ("_counts", "_ids", "_values")

    def __init__(self) -> None:
        self._ids = [bytearray(_SLOTS_MIN * ID_BYTES) for _ in range(_SHARDS)]
        self._values = [bytearray(_SLOTS_MIN) for _ in range(_SHARDS)]
        self._counts = [0] * _SHARDS

    def __len__(self) -> int:
        return sum(self._counts)

    def get(self, chunk_id: bytes) -> int:
        """The number kept for `chunk_id`, or 0."""
        shard = chunk_id[0]
        return self._values[shard][self._slot(shard, chunk_id)]

    def put(self, chunk_id: bytes, value: int) -> int:
        """Keep `value` for `chunk_id`; return what was there before, or 0."""
        shard = chunk_id[0]
        slot = self._slot(shard, chunk_id)
        values = self._values[shard]
        before = values[slot]
        values[slot] = value
        if not before:
            self._ids[shard][slot * ID_BYTES : (slot + 1) * ID_BYTES] = chunk_id
            self._counts[shard] += 1
            if self._counts[shard] * 4 > len(values) * 3:
                self._grow(shard)
        return before

    def _slot(self, shard: int, chunk_id: bytes) -> int:
        """Where `chunk_id` is, or where it belongs."""
        ids, values = self._ids[shard], self._values[shard]
        mask = len(values) - 1
        slot = int.from_bytes(chunk_id[1:8], "little") & mask
        while values[slot] and ids[slot * ID_BYTES : (slot + 1) * ID_BYTES] != chunk_id:
            slot = (slot + 1) & mask
        return slot

    def _grow(self, shard: int) -> None:
        ids, values = self._ids[shard], self._values[shard]
        self._ids[shard] = bytearray(2 * len(ids))
        self._values[shard] = bytearray(2 * len(values))
        for slot, value in enumerate(values):
            if value:
                chunk_id = bytes(ids[slot * ID_BYTES : (slot + 1) * ID_BYTES])
                fresh = self._slot(shard, chunk_id)
                self._ids[shard][fresh * ID_BYTES : (fresh + 1) * ID_BYTES] = chunk_id
                self._values[shard][fresh] = value


class Ledger:
    """What one session knows of chunks. `claim` may be called from several threads; the rest from the trio thread."""

    def __init__(self) -> None:
        self._lookups: list[IdLookup] = []
        self._sent = IdTable()
        self._doubted: set[bytes] = set()
        self._lock = threading.Lock()
        self._unacknowledged: set[bytes] = set()
        self._changed = trio.Event()

    def add_known(self, lookup: IdLookup) -> None:
        """Ids that the server holds and lets this session name."""
        if len(lookup):
            self._lookups.append(lookup)

    def doubt(self, chunk_id: bytes) -> None:
        """The server's copy is not to be relied on: whoever comes with this chunk next must send it."""
        with self._lock:
            self._doubted.add(chunk_id)

    def claim(self, chunk_id: bytes) -> bool:
        """True for the first who comes with a chunk that nobody has: it must encode and send it."""
        with self._lock:
            if self._sent.get(chunk_id) or (
                chunk_id not in self._doubted and any(chunk_id in lookup for lookup in self._lookups)
            ):
                return False
            self._sent.put(chunk_id, 1)
            self._unacknowledged.add(chunk_id)
            return True

    def acknowledge(self, ids: Iterable[bytes]) -> None:
        """The server has them; wakes who waits for that."""
        with self._lock:
            self._unacknowledged.difference_update(ids)
        self._changed.set()
        self._changed = trio.Event()

    async def acknowledged(self, ids: Sequence[bytes]) -> None:
        """Return when none of `ids` is on its way any more. *Cancellation*: at any time."""
        while not self._unacknowledged.isdisjoint(ids):
            await self._changed.wait()


class Watermark:
    """Chunks of an archive are numbered; `wait(n)` returns when all up to n have been hashed. Trio thread only."""

    def __init__(self) -> None:
        self._next = 0
        self._ahead: dict[int, int] = {}
        self._changed = trio.Event()

    def done(self, first: int, last: int) -> None:
        """Chunks `first` to `last` have their ids."""
        self._ahead[first] = last
        while self._next in self._ahead:
            self._next = self._ahead.pop(self._next) + 1
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self, number: int) -> None:
        """*Cancellation*: at any time."""
        while self._next <= number:
            await self._changed.wait()
