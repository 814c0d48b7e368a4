"""What the store knows about chunks right now: received ones in memory, promoted ones in the index, and the marks.

Used inside `storage.local`. The index (`chunkdb`) knows promoted chunks only; this adds those received since the last
barrier, rows that could not be written yet (a full disk), and the set of chunks that must not be reused.

Lock order: shard, then `_writes`, then `_lock`. Nothing here takes a shard lock. `_writes` makes a change in memory and
in the index one step for other changes; `_lock` guards memory and is never held across SQLite or the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ibs.core import limits
from ibs.core.ids import ID_BYTES
from ibs.errors import ConflictError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address, ChunkInfo, ChunkRows, ChunkState, Counts
from ibs.storage.local.chunkdb import ChunkDb, Row, RowState
from ibs.storage.local.gate import Gate
from ibs.storage.local.layout import domain_prefix

_STATES = {
    RowState.OK: ChunkState.DURABLE,
    RowState.SUSPECT: ChunkState.DURABLE,  # still served
    RowState.BAD: ChunkState.BAD,
    RowState.MISSING: ChunkState.ABSENT,
    RowState.RETIRED: ChunkState.RETIRED,
}
_SERVED = (RowState.OK, RowState.SUSPECT)


@dataclass(eq=False, slots=True)
class Received:
    """One chunk in the incoming folder. Compared by identity: the same address may be received again.

    `heals`: the final place held (or should have held) something unusable. `suspect`: reported since.
    """

    address: Address
    name: str
    stored_bytes: int
    heals: bool
    suspect: bool = False


class Ledger:
    """Thread-safe. `epoch` is the store's generation."""

    def __init__(self, db: ChunkDb, gate: Gate, epoch: int) -> None:
        self._db = db
        self._gate = gate
        self.epoch = epoch
        self._writes = threading.Lock()
        self._lock = threading.Lock()
        self._received: dict[Address, Received] = {}
        self._received_bytes = 0
        self._unrecorded: dict[Address, Received] = {}
        self._acknowledged: set[Address] = set()
        self._domains = set(db.domains())
        self._marks = {row.address: row.state for row in db.marked()}
        self._unavailable: frozenset[Address] | None = None
        self._retired = db.totals().chunks[RowState.RETIRED] > 0
        self._bound_marks()

    # --- received chunks ---

    def received(self, address: Address) -> Received | None:
        """The incoming chunk of that address."""
        with self._lock:
            return self._received.get(address)

    def check_domain(self, domain: bytes) -> None:
        """File names hold half of a domain: two domains that share it must not meet. Raises ConflictError."""
        with self._lock:
            if domain in self._domains:
                return
            if domain != PLAIN_DOMAIN and any(domain_prefix(other) == domain_prefix(domain) for other in self._domains):
                raise ConflictError(
                    "another key in this datastore has a fingerprint with the same first half",
                    hint="make a new key; this one cannot be used here",
                )
            self._domains.add(domain)

    def received_all(self) -> list[Received]:
        """Everything received until now and not promoted."""
        with self._lock:
            return list(self._received.values())

    def is_full(self) -> bool:
        """Whether as much waits for a barrier as may."""
        with self._lock:
            waiting = len(self._received) + len(self._acknowledged)
            return (
                waiting >= limits.STORE_RECEIVED_CHUNKS_MAX or self._received_bytes >= limits.STORE_RECEIVED_BYTES_MAX
            )

    def add(self, entry: Received) -> None:
        """A chunk has its name in the incoming folder."""
        with self._lock:
            before = self._received.get(entry.address)
            self._received_bytes += entry.stored_bytes - (before.stored_bytes if before else 0)
            self._received[entry.address] = entry
            if entry.address in self._marks or (before is not None and before.suspect):
                self._unavailable = None

    def drop(self, entry: Received) -> None:
        """That chunk is not in the incoming folder any more."""
        with self._lock:
            if self._received.get(entry.address) is entry:
                del self._received[entry.address]
                self._received_bytes -= entry.stored_bytes
                self._unavailable = None

    def acknowledge(self, address: Address) -> None:
        """A present chunk was answered for again; its row gets this epoch at the next barrier."""
        with self._lock:
            self._acknowledged.add(address)

    def record(self, promoted: Sequence[Received]) -> int:
        """Add rows of promoted chunks; then they are no longer *received*. Returns how many were still wanted.

        One that was discarded or received again meanwhile is passed over. Raises sqlite3.Error; the chunks are then
        remembered, known as durable, and recorded by the next call.
        """
        with self._writes:
            with self._lock:
                fresh = [entry for entry in promoted if self._received.get(entry.address) is entry]
                for entry in fresh:
                    self._became_durable(entry)
                waiting = list(self._unrecorded.values())
                acknowledged = list(self._acknowledged)
            if acknowledged:
                self._db.acknowledge(acknowledged, self.epoch)
            if waiting:
                self._db.add(
                    ((e.address, e.stored_bytes, RowState.SUSPECT if e.suspect else RowState.OK) for e in waiting),
                    self.epoch,
                )
            with self._lock:
                self._acknowledged.difference_update(acknowledged)
                self._unrecorded.clear()  # nobody adds to it without `_writes`
        return len(fresh)

    def _became_durable(self, entry: Received) -> None:
        del self._received[entry.address]
        self._received_bytes -= entry.stored_bytes
        self._unrecorded[entry.address] = entry
        self._marks.pop(entry.address, None)
        if entry.suspect:
            self._marks[entry.address] = RowState.SUSPECT
        if entry.heals or entry.suspect:
            self._unavailable = None

    # --- marks ---

    def mark_of(self, address: Address) -> RowState | None:
        """BAD, SUSPECT or MISSING for a promoted chunk so marked, else None."""
        with self._lock:
            return self._marks.get(address)

    def mark(self, address: Address, state: RowState) -> None:
        """Mark a promoted chunk, in memory first so that it holds even where the index takes no writes.

        Raises sqlite3.Error.
        """
        with self._writes:
            with self._lock:
                self._marks[address] = state
                self._unavailable = None
                self._unrecorded.pop(address, None)
            self._bound_marks()
            self._db.mark(address, state, self.epoch)

    def unmark(self, address: Address, stored_bytes: int) -> None:
        """A promoted chunk was found whole in its place. Raises sqlite3.Error, and nothing has changed then."""
        with self._writes:
            self._db.add([(address, stored_bytes, RowState.OK)], self.epoch)
            with self._lock:
                self._marks.pop(address, None)
                self._unavailable = None

    def mark_received_suspect(self, entry: Received) -> None:
        """Mark a received chunk; its row will say so."""
        with self._lock:
            entry.suspect = True
            self._unavailable = None

    def forget(self, addresses: Iterable[Address]) -> None:
        """These chunks are discarded. The caller removes received entries by `drop`. Raises sqlite3.Error."""
        batch = list(addresses)
        with self._writes:
            self._db.remove(batch)
            with self._lock:
                for address in batch:
                    self._unrecorded.pop(address, None)
                    self._acknowledged.discard(address)
                    self._marks.pop(address, None)
                self._unavailable = None

    # --- trash ---

    def raise_epoch(self, epoch: int) -> None:
        """What is received or answered for from now on belongs to `epoch`. Raises sqlite3.Error."""
        with self._writes:
            self._db.set_generation(epoch)
            self.epoch = epoch

    def retired(self, addresses: Sequence[Address]) -> list[Row]:
        """Rows of those that are in trash; costs nothing while there is no trash. Raises sqlite3.Error."""
        if not self._retired:
            return []
        return [row for row in self._db.lookup(addresses).values() if row.state is RowState.RETIRED]

    def retirable(self, addresses: Sequence[Address], epoch: int) -> list[Row]:
        """Rows of those that nobody received or was answered for since `epoch` began. The caller holds their shards.

        Raises sqlite3.Error.
        """
        rows = self._db.lookup(addresses)
        with self._lock:
            return [
                row
                for address, row in rows.items()
                if row.epoch < epoch
                and row.state in (*_SERVED, RowState.BAD)
                and address not in self._received
                and address not in self._unrecorded
                and address not in self._acknowledged
            ]

    def retire(self, moving: Sequence[Address], gone: Sequence[Address], epoch: int) -> None:
        """These move to the trash of `epoch`, or go for good. Raises sqlite3.Error, and nothing has changed then."""
        with self._writes:
            self._retired = self._retired or bool(moving)  # first: a sender must not overlook the row
            self._db.retire(moving, gone, epoch)
            with self._lock:
                if any(self._marks.pop(address, None) is not None for address in [*moving, *gone]):
                    self._unavailable = None

    def put_back(self, rows: Sequence[Row]) -> None:
        """These did not move to the trash after all. Raises sqlite3.Error."""
        with self._writes:
            self._db.put_back(rows)
            with self._lock:
                self._marks.update((row.address, row.state) for row in rows if row.state is not RowState.OK)
                self._unavailable = None

    def revive(self, addresses: Sequence[Address]) -> None:
        """Retired chunks are back in their places. Raises sqlite3.Error."""
        with self._writes:
            self._db.revive(addresses, self.epoch)

    def scan(self, first: bytes, last: bytes, epoch: int) -> Iterator[ChunkRows]:
        """See ChunkStore.scan. Raises sqlite3.Error."""
        for rows in self._db.columns(first, last):
            ids, domains, stored_bytes, epochs, states = zip(*rows, strict=True)
            state = np.array(states, dtype=np.int8)
            collectable = np.isin(state, [*_SERVED, RowState.BAD]) & (np.array(epochs, dtype=np.int64) < epoch)
            there = state != RowState.MISSING
            names = {number: self._db.domain(number) for number in set(domains)}
            yield ChunkRows(
                np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, ID_BYTES)[there],
                [names[number] for number, kept in zip(domains, there, strict=True) if kept],
                np.array(stored_bytes, dtype=np.int64)[there],
                collectable[there],
                (state == RowState.RETIRED)[there],
            )

    def unavailable(self) -> frozenset[Address]:
        """Chunks not to be reused."""
        with self._lock:
            if self._unavailable is None:
                healed = {a for a in self._marks if (e := self._received.get(a)) is not None and not e.suspect}
                suspect = {entry.address for entry in self._received.values() if entry.suspect}
                self._unavailable = frozenset((self._marks.keys() - healed) | suspect)
            return self._unavailable

    def _bound_marks(self) -> None:
        if len(self._marks) > limits.STORE_MARKS_MAX:
            self._gate.go_read_only(
                f"more than {limits.STORE_MARKS_MAX} chunks are bad or missing; repair it, or restore a replica"
            )

    # --- questions ---

    def info(self, addresses: Sequence[Address]) -> list[ChunkInfo]:
        """States in the order asked. Raises sqlite3.Error."""
        known: dict[Address, ChunkInfo] = {}
        with self._lock:
            for address in addresses:
                info = self._now(address)
                if info is not None:
                    known[address] = info
        rows = self._db.lookup(address for address in addresses if address not in known)
        for address, row in rows.items():
            known[address] = row_info(row)
        return [known.get(a) or ChunkInfo(a, ChunkState.ABSENT, 0) for a in addresses]

    def iterate(self, prefix: str) -> Iterator[ChunkInfo]:
        """Every chunk whose hex id starts with `prefix`. Raises sqlite3.Error."""
        with self._lock:
            here = {*self._received, *self._unrecorded}
            seen = {a: info for a in here if a.id.hex().startswith(prefix) and (info := self._now(a)) is not None}
        yield from seen.values()
        for row in self._db.iterate(prefix):
            info = row_info(row)
            if row.address not in seen and info.state is not ChunkState.ABSENT:
                yield info

    def counts(self) -> Counts:
        """Figures for statistics, at no cost."""
        totals = self._db.totals()
        with self._lock:
            fresh = [e for e in (*self._received.values(), *self._unrecorded.values()) if not e.heals]
            received = len(self._received)
        return Counts(
            chunks=sum(totals.chunks[s] for s in _SERVED) + len(fresh),
            stored_bytes=sum(totals.stored_bytes[s] for s in _SERVED) + sum(e.stored_bytes for e in fresh),
            received=received,
            bad=totals.chunks[RowState.BAD],
            suspect=totals.chunks[RowState.SUSPECT],
            missing=totals.chunks[RowState.MISSING],
            retired=totals.chunks[RowState.RETIRED],
            retired_bytes=totals.stored_bytes[RowState.RETIRED],
        )

    def unrecorded(self) -> int:
        """Promoted chunks whose rows still wait for room on the disk."""
        with self._lock:
            return len(self._unrecorded)

    def _now(self, address: Address) -> ChunkInfo | None:
        entry = self._received.get(address)
        if entry is not None:
            return ChunkInfo(address, ChunkState.RECEIVED, entry.stored_bytes)
        entry = self._unrecorded.get(address)
        if entry is not None:
            return ChunkInfo(address, ChunkState.DURABLE, entry.stored_bytes)
        mark = self._marks.get(address)
        if mark is RowState.BAD:
            return ChunkInfo(address, ChunkState.BAD, 0)
        if mark is RowState.MISSING:
            return ChunkInfo(address, ChunkState.ABSENT, 0)
        return None


def row_info(row: Row) -> ChunkInfo:
    """The port's words for a row."""
    state = _STATES[row.state]
    return ChunkInfo(row.address, state, 0 if state is ChunkState.ABSENT else row.stored_bytes)
