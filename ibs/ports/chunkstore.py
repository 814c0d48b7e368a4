"""The chunk-store port: states of chunks, never renames. Implemented by `storage`, used by `engine`.

All calls are synchronous and may block on the disk; `engine` makes them from the pool. A store is
thread-safe. An address is (domain, id): a plain chunk and an encrypted one never serve for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ibs.core.ids import PLAIN_DOMAIN, Address

__all__ = ["PLAIN_DOMAIN", "Address", "ChunkInfo", "ChunkState", "ChunkStore", "Counts", "PutOutcome", "Space"]


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
class Space:
    """File-system figures in bytes and inodes; `quota_bytes_free` is None without a quota."""

    bytes_total: int
    bytes_free: int
    inodes_total: int
    inodes_free: int
    quota_bytes_free: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What the store holds. `chunks` and `stored_bytes` count all that is served; `received` of them may be lost."""

    chunks: int
    stored_bytes: int
    received: int
    bad: int
    suspect: int
    missing: int


class ChunkStore(Protocol):
    """Content-addressed store of blobs plus the visible snapshot files that refer to them."""

    def put(self, address: Address, blob: bytes | bytearray | memoryview) -> PutOutcome:
        """Take a whole, already checked blob. The chunk is then RECEIVED (or was DURABLE).

        A present chunk that is torn, bad or suspect is replaced; a whole one never is, whatever the length of `blob`
        (a sender must not be able to overwrite what others rely on).
        Raises NoSpace, DatastoreReadOnly, DatastoreOffline.
        """
        ...

    def get(self, address: Address) -> bytes:
        """The whole blob, its header and digest checked.

        Raises ChunkNotFound; CorruptChunk (after a second read past the page cache; the chunk is then BAD).
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
        """Chunks that must not be reused (bad, missing, suspect, retired), as far as is known now."""
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
