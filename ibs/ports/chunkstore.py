"""The chunk-store port: states of chunks, never renames. Implemented by `storage`, used by `engine`.

All calls are synchronous and may block on the disk; `engine` makes them from the pool. A store is
thread-safe. An address is (domain, id): a plain chunk and an encrypted one never serve for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ibs.core.ids import PLAIN_DOMAIN, Address

__all__ = [
    "PLAIN_DOMAIN",
    "Address",
    "ChunkInfo",
    "ChunkRows",
    "ChunkState",
    "ChunkStore",
    "Counts",
    "PutOutcome",
    "Retired",
    "Space",
    "Trash",
]


class ChunkState(StrEnum):
    ABSENT = "absent"
    RECEIVED = "received"  # readable, may be lost with power
    DURABLE = "durable"  # survived a barrier
    BAD = "bad"  # found corrupt; kept aside, never served
    RETIRED = "retired"  # in trash; revivable


class PutOutcome(StrEnum):
    STORED = "stored"  # new
    DUPLICATE = "duplicate"  # was there, whole, of the right length
    REPLACED = "replaced"  # healed a bad, torn or suspect one


@dataclass(frozen=True, slots=True)
class ChunkInfo:
    """`stored_bytes` counts header and payload; 0 when absent."""

    address: Address
    state: ChunkState
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """Many chunks as columns, for looking at all of them. `collectable`: see `ChunkStore.scan`."""

    ids: NDArray[np.uint8]  # (n, 32)
    domains: Sequence[bytes]
    stored_bytes: NDArray[np.int64]
    collectable: NDArray[np.bool_]
    retired: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Retired:
    """What one call did. `chunks` and `bytes` moved; `freed_*` deleted at once; `spared` were in use again."""

    chunks: int = 0
    bytes: int = 0
    freed_chunks: int = 0
    freed_bytes: int = 0
    spared: int = 0

    def __add__(self, other: Retired) -> Retired:
        return Retired(
            self.chunks + other.chunks,
            self.bytes + other.bytes,
            self.freed_chunks + other.freed_chunks,
            self.freed_bytes + other.freed_bytes,
            self.spared + other.spared,
        )


@dataclass(frozen=True, slots=True)
class Trash:
    """Chunks retired in one epoch. `since`: seconds, as handed in with the last of them; None when that is lost."""

    epoch: int
    since: int | None
    chunks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Space:
    """File-system figures in bytes and inodes. The quota's are those of the tightest, None where none limits that.

    `quota` names whose quotas there are (`project 77`), "" for none.
    """

    bytes_total: int
    bytes_free: int
    inodes_total: int
    inodes_free: int
    quota_bytes_free: int | None = None
    quota_bytes_total: int | None = None
    quota_inodes_free: int | None = None
    quota_inodes_total: int | None = None
    quota: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the store holds. `chunks` and `stored_bytes` count all that is served; `received` of them may be lost.

    What is in trash (`retired`) is not among them.
    """

    chunks: int
    stored_bytes: int
    received: int
    bad: int
    suspect: int
    missing: int
    retired: int = 0
    retired_bytes: int = 0


class ChunkStore(Protocol):
    """Content-addressed store of blobs plus the visible snapshot files that refer to them."""

    def put(self, address: Address, blob: bytes | bytearray | memoryview) -> PutOutcome:
        """Take a whole, already checked blob. The chunk is then RECEIVED (or was DURABLE).

        A present chunk that is torn, bad or suspect is replaced; a whole one never is, whatever the length of `blob`
        (a sender must not be able to overwrite what others rely on). A retired one is revived first.
        Raises NoSpace, DatastoreReadOnly, DatastoreOffline.
        """
        ...

    def get(self, address: Address) -> bytes:
        """The whole blob, its header and digest checked. A retired chunk is revived: who reads it refers to it.

        Raises ChunkNotFound; CorruptChunk (after a second read past the page cache; the chunk is then BAD).
        """
        ...

    def get_range(self, address: Address, start: int, length: int) -> bytes:
        """Bytes of the stored blob from `start`; fewer than `length` at its end. No digest covers a part: unproven.

        Raises ChunkNotFound; CorruptChunk when it is known to be bad; UsageError for a negative range.
        """
        ...

    def info(self, addresses: Sequence[Address]) -> list[ChunkInfo]:
        """States in the order asked."""
        ...

    def iterate(self, prefix: str = "") -> Iterator[ChunkInfo]:
        """Every chunk whose hex id starts with `prefix`, any state but ABSENT, no particular order."""
        ...

    def barrier(self) -> int:
        """Make every chunk received before this call DURABLE; return how many became so.

        *Durability*: PROTOCOLS 1-2. A write-back error raises DatastoreReadOnly, and the store stays read-only.
        """
        ...

    def mark_bad(self, address: Address) -> None:
        """The chunk is corrupt: never served nor a dedup target again until replaced."""
        ...

    def mark_suspect(self, address: Address) -> None:
        """A client could not authenticate it: still served, but not a dedup target, and re-upload replaces it."""
        ...

    def unavailable(self) -> frozenset[Address]:
        """Chunks that must not be reused (bad, missing, suspect), as far as is known now.

        Retired ones are not among them: there may be very many, `info` tells them, and `revive` makes them good.
        """
        ...

    # --- garbage collection (PROTOCOLS 4, 10-13) ---

    def raise_epoch(self) -> int:
        """Begin a new epoch and return it: what is received or answered for from now on belongs to it.

        *Durability*: the epoch is never used again, also after a power cut.
        """
        ...

    def scan(self, first: bytes, last: bytes, epoch: int) -> Iterator[ChunkRows]:
        """Every durable, bad or retired chunk with `first` <= id <= `last` (32 bytes each), in order of id, in batches.

        `collectable`: durable or bad, and last answered for before `epoch`. What changes meanwhile may or may not show.
        """
        ...

    def retire(self, addresses: Sequence[Address], epoch: int, *, since: int, keep: bool = True) -> Retired:
        """Move chunks to the trash of `epoch`, except those received or answered for in that epoch or later.

        `epoch` is one that `raise_epoch` gave; `since` (seconds) is when their grace begins. A bad chunk, or any
        without `keep`, is deleted at once. Snapshots removed before the call are durably gone before a chunk moves.
        The caller proved that nothing refers to them. Raises NoSpace when not even a move has room: use `keep` False.
        """
        ...

    def revive(self, addresses: Sequence[Address]) -> Retired:
        """Take chunks back out of the trash; they count as answered for now. Those not in it are passed over."""
        ...

    def trash(self) -> list[Trash]:
        """What is in trash, oldest epoch first."""
        ...

    def trashed(self, epoch: int) -> Iterator[ChunkInfo]:
        """The chunks in the trash of an epoch."""
        ...

    def reclaim(self, epoch: int, *, limit: int | None = None) -> Retired:
        """Delete up to `limit` chunks from the trash of an epoch; nothing freed means that it is empty."""
        ...

    def discard(self, addresses: Sequence[Address]) -> int:
        """Delete chunks that nothing refers to (the caller proved it); return freed bytes."""
        ...

    def publish(self, folder: str, files: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        """Make a snapshot visible: `files` (content, or the name of a staged file to move) appear in `folder`.

        Names in `last` are written after a barrier over all the others, in that order, each durable before the next.
        """
        ...

    def counts(self) -> Counts:
        """Figures for statistics, at no cost."""
        ...

    def record_verified(self, addresses: Sequence[Address], when: int) -> None:
        """Note that the stored digests of these chunks were right at `when` (seconds since 1970)."""
        ...

    def verified(self, addresses: Sequence[Address]) -> list[int | None]:
        """When each was last recorded as verified, in the order asked; None for never."""
        ...

    def close(self, *, clean: bool = True) -> None:
        """End. With `clean` everything received is made durable first; without, nothing is written any more."""
        ...

    def space(self) -> Space:
        """Figures of the file system or quota below."""
        ...
