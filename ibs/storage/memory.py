"""The reference chunk store: in memory, in packs, simple enough to be believed. For tests and the simulator.

Importable by tests, the simulator and `app`. It shows what the ChunkStore port means without a file system: a pack is
open (its chunks are *received*) until a barrier seals it with a footer, from which the index can be rebuilt
(PROTOCOLS 15). `lose_power` drops what was only received. Thread-safe by one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ibs.core import limits
from ibs.core.blob import check_blob
from ibs.core.ids import ID_BYTES
from ibs.errors import ChunkNotFound, ConflictError, CorruptChunk, DatastoreOffline, FormatError, NoSpace, UsageError
from ibs.ports.chunkstore import Address, ChunkInfo, ChunkRows, ChunkState, Counts, PutOutcome, Retired, Space, Trash

PACK_BYTES_MAX = 16 * limits.MIB


@dataclass(slots=True)
class Pack:
    """Blobs one after the other. A sealed one has a footer: (address, offset, length) of each live chunk."""

    body: bytearray = field(default_factory=bytearray)
    footer: list[tuple[Address, int, int]] = field(default_factory=list)
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk lies: pack, offset, length in bytes."""

    pack: Pack
    offset: int
    length: int


class Mark(Enum):
    """Why a chunk must not be reused."""

    BAD = "bad"
    SUSPECT = "suspect"
    MISSING = "missing"


class MemoryStore:
    """Implements ChunkStore; `bytes_total` bounds it, headers and payloads counted."""

    def __init__(self, *, bytes_total: int = limits.GIB) -> None:
        self._lock = threading.RLock()
        self._bytes_total = bytes_total
        self._packs: list[Pack] = []
        self._index: dict[Address, Location] = {}
        self._marks: dict[Address, Mark] = {}
        self._verified: dict[Address, int] = {}
        self._folders: dict[str, dict[str, bytes]] = {}
        self._closed = False
        self._epoch = 1
        self._answered: dict[Address, int] = {}  # the epoch in which each was last received or answered for
        self._retired: dict[Address, int] = {}  # the epoch in whose trash it is; durable at once, like the epoch
        self._since: dict[int, int] = {}
        self.staged: dict[str, bytes] = {}
        """Staged files by `SESSION/FILE`, for `publish`."""

    # --- chunks ---

    def put(self, address: Address, blob: bytes | bytearray | memoryview) -> PutOutcome:
        """See ChunkStore.put."""
        body = bytes(blob)
        if not 0 < len(body) <= limits.CHUNK_BODY_BYTES_MAX:
            raise UsageError(f"a chunk of {len(body)} bytes is not between 1 and {limits.CHUNK_BODY_BYTES_MAX}")
        with self._open():
            self._take_back(address)
            self._answered[address] = self._epoch
            mark = self._marks.get(address)
            location = self._index.get(address)
            if location is not None and mark is None and self._whole(address, location, len(body)):
                return PutOutcome.DUPLICATE
            if self._used() + len(body) > self._bytes_total:
                raise NoSpace("datastore memory", "bytes")
            self._drop(address)
            self._append(address, body)
            self._marks.pop(address, None)
            return PutOutcome.REPLACED if mark is not None or location is not None else PutOutcome.STORED

    def get(self, address: Address) -> bytes:
        """See ChunkStore.get."""
        with self._open():
            self._take_back(address)
            if self._marks.get(address) is Mark.BAD:
                raise CorruptChunk(address.id.hex(), "it was found corrupt before and is kept aside")
            location = self._index.get(address)
            if location is None:
                self._marks[address] = Mark.MISSING
                raise ChunkNotFound(address.id.hex())
            body = self._body(location)
            if why := _wrong(body, address):
                self._marks[address] = Mark.BAD
                raise CorruptChunk(address.id.hex(), why)
            return body

    def get_range(self, address: Address, start: int, length: int) -> bytes:
        """See ChunkStore.get_range."""
        if start < 0 or length < 0:
            raise UsageError(f"bytes {start} to {start + length} of a chunk are not a range")
        with self._open():
            self._take_back(address)
            if self._marks.get(address) is Mark.BAD:
                raise CorruptChunk(address.id.hex(), "it was found corrupt before and is kept aside")
            if address not in self._index:
                raise ChunkNotFound(address.id.hex())
            return self._body(self._index[address])[start : start + length]

    def info(self, addresses: Sequence[Address]) -> list[ChunkInfo]:
        """See ChunkStore.info."""
        with self._open():
            return [self._info(address) for address in addresses]

    def iterate(self, prefix: str = "") -> Iterator[ChunkInfo]:
        """See ChunkStore.iterate."""
        with self._open():
            known = {*self._index, *(address for address, mark in self._marks.items() if mark is Mark.BAD)}
            return iter([self._info(address) for address in known if address.id.hex().startswith(prefix)])

    def barrier(self) -> int:
        """See ChunkStore.barrier: seals the open packs."""
        with self._open():
            durable = 0
            for pack in self._packs:
                if not pack.sealed:
                    pack.sealed = True
                    durable += len(pack.footer)
            return durable

    def mark_bad(self, address: Address) -> None:
        """See ChunkStore.mark_bad."""
        with self._open():
            self._take_back(address)
            self._marks[address] = Mark.BAD

    def mark_suspect(self, address: Address) -> None:
        """See ChunkStore.mark_suspect."""
        with self._open():
            if address in self._index and address not in self._marks and address not in self._retired:
                self._marks[address] = Mark.SUSPECT

    def unavailable(self) -> frozenset[Address]:
        """See ChunkStore.unavailable."""
        with self._open():
            return frozenset(self._marks)

    def discard(self, addresses: Sequence[Address]) -> int:
        """See ChunkStore.discard. Packs are rewritten without what goes."""
        with self._open():
            freed = 0
            for address in addresses:
                freed += self._drop(address)
                self._retired.pop(address, None)
                self._marks.pop(address, None)
                self._verified.pop(address, None)
            return freed

    def record_verified(self, addresses: Sequence[Address], when: int) -> None:
        """See ChunkStore.record_verified."""
        with self._open():
            self._verified.update((address, when) for address in addresses if address in self._index)

    def verified(self, addresses: Sequence[Address]) -> list[int | None]:
        """See ChunkStore.verified."""
        with self._open():
            return [self._verified.get(address) for address in addresses]

    # --- garbage collection ---

    def raise_epoch(self) -> int:
        """See ChunkStore.raise_epoch."""
        with self._open():
            self._epoch += 1
            return self._epoch

    def scan(self, first: bytes, last: bytes, epoch: int) -> Iterator[ChunkRows]:
        """See ChunkStore.scan. In one batch."""
        with self._open():
            there = sorted(
                (a for a, at in self._index.items() if first <= a.id <= last and at.pack.sealed),
                key=lambda a: (a.id, a.domain),
            )
            if not there:
                return iter(())
            return iter(
                [
                    ChunkRows(
                        np.frombuffer(b"".join(a.id for a in there), dtype=np.uint8).reshape(-1, ID_BYTES),
                        [a.domain for a in there],
                        np.array([self._index[a].length for a in there], dtype=np.int64),
                        np.array([self._collectable(a, epoch) for a in there], dtype=np.bool_),
                        np.array([a in self._retired for a in there], dtype=np.bool_),
                    )
                ]
            )

    def _collectable(self, address: Address, epoch: int) -> bool:
        location = self._index.get(address)
        there = location is not None and location.pack.sealed and address not in self._retired
        return there and self._answered.get(address, 0) < epoch

    def retire(self, addresses: Sequence[Address], epoch: int, *, since: int, keep: bool = True) -> Retired:
        """See ChunkStore.retire."""
        with self._open():
            if epoch > self._epoch:
                raise UsageError(f"epoch {epoch} has not begun")
            if keep:
                self._since[epoch] = since
            done = Retired()
            for address in addresses:
                if not self._collectable(address, epoch):
                    done += Retired(spared=1)
                elif keep and self._marks.get(address) is not Mark.BAD:
                    self._marks.pop(address, None)
                    self._retired[address] = epoch
                    done += Retired(chunks=1, bytes=self._index[address].length)
                else:
                    self._marks.pop(address, None)
                    done += Retired(freed_chunks=1, freed_bytes=self._drop(address))
            return done

    def revive(self, addresses: Sequence[Address]) -> Retired:
        """See ChunkStore.revive."""
        with self._open():
            done = Retired()
            for address in addresses:
                if self._take_back(address):
                    done += Retired(chunks=1, bytes=self._index[address].length)
            return done

    def trash(self) -> list[Trash]:
        """See ChunkStore.trash."""
        with self._open():
            found = []
            for epoch in sorted(set(self._retired.values())):
                sizes = [self._index[a].length for a, at in self._retired.items() if at == epoch]
                found.append(Trash(epoch, self._since.get(epoch), len(sizes), sum(sizes)))
            return found

    def trashed(self, epoch: int) -> Iterator[ChunkInfo]:
        """See ChunkStore.trashed."""
        with self._open():
            return iter([self._info(address) for address, at in self._retired.items() if at == epoch])

    def reclaim(self, epoch: int, *, limit: int | None = None) -> Retired:
        """See ChunkStore.reclaim."""
        with self._open():
            doomed = [address for address, at in self._retired.items() if at == epoch][:limit]
            return Retired(freed_chunks=len(doomed), freed_bytes=self.discard(doomed))

    def _take_back(self, address: Address) -> bool:
        if self._retired.pop(address, None) is None:
            return False
        self._answered[address] = self._epoch
        return True

    # --- snapshots ---

    def publish(self, folder: str, files: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        """See ChunkStore.publish."""
        if not last or not set(last) <= set(files):
            raise UsageError("the last files of a snapshot must be among its files")
        with self._open():
            if folder in self._folders:
                raise ConflictError(f"snapshot {folder} exists already")
            self.barrier()
            contents = {name: self.staged[c] if isinstance(c, str) else c for name, c in files.items()}
            self._folders[folder] = contents
            for content in files.values():
                if isinstance(content, str):
                    self.staged.pop(content, None)

    def read_file(self, folder: str, name: str) -> bytes:
        """A file of a published snapshot. Raises KeyError."""
        return self._folders[folder][name]

    # --- state ---

    def counts(self) -> Counts:
        """See ChunkStore.counts."""
        with self._open():
            served = [
                location
                for a, location in self._index.items()
                if self._marks.get(a) is not Mark.BAD and a not in self._retired
            ]
            marks = list(self._marks.values())
            return Counts(
                chunks=len(served),
                stored_bytes=sum(location.length for location in served),
                received=sum(not location.pack.sealed for location in served),
                bad=marks.count(Mark.BAD),
                suspect=marks.count(Mark.SUSPECT),
                missing=marks.count(Mark.MISSING),
                retired=len(self._retired),
                retired_bytes=sum(self._index[a].length for a in self._retired),
            )

    def space(self) -> Space:
        """See ChunkStore.space."""
        with self._open():
            return Space(self._bytes_total, self._bytes_total - self._used(), 0, 0)

    def close(self, *, clean: bool = True) -> None:
        """See ChunkStore.close. What a memory store holds stays for `reopen`."""
        with self._lock:
            if clean and not self._closed:
                self.barrier()
            self._closed = True

    # --- for tests and the simulator ---

    def lose_power(self) -> None:
        """Drop what no barrier has sealed, forget all that is only in memory, and be closed."""
        with self._lock:
            self._packs = [pack for pack in self._packs if pack.sealed]
            self._closed = True

    def reopen(self) -> None:
        """Open again, with the index rebuilt from the footers of the packs."""
        with self._lock:
            self._index = {a: Location(p, offset, n) for p in self._packs for a, offset, n in p.footer}
            self._epoch += 1
            self._answered = dict.fromkeys(self._index, self._epoch)
            self._retired = {a: epoch for a, epoch in self._retired.items() if a in self._index}
            self._closed = False

    def corrupt(self, address: Address, at: int = -1) -> None:
        """Flip a bit of the stored chunk, at byte `at`."""
        with self._lock:
            location = self._index[address]
            location.pack.body[location.offset + at % location.length] ^= 1

    # --- inside ---

    def _open(self) -> threading.RLock:
        if self._closed:
            raise DatastoreOffline("memory", "closed")
        return self._lock

    def _body(self, location: Location) -> bytes:
        return bytes(location.pack.body[location.offset : location.offset + location.length])

    def _whole(self, address: Address, location: Location, length: int) -> bool:
        return location.length == length or not _wrong(self._body(location), address)

    def _append(self, address: Address, body: bytes) -> None:
        pack = self._packs[-1] if self._packs else Pack(sealed=True)
        if pack.sealed or len(pack.body) + len(body) > PACK_BYTES_MAX:
            pack = Pack()
            self._packs.append(pack)
        self._index[address] = Location(pack, len(pack.body), len(body))
        pack.footer.append((address, len(pack.body), len(body)))
        pack.body += body

    def _drop(self, address: Address) -> int:
        """Rewrite the pack of a chunk without it; return the bytes that went."""
        location = self._index.pop(address, None)
        if location is None:
            return 0
        pack = location.pack
        body, footer = bytearray(), []
        for each, offset, length in pack.footer:
            if each == address:
                continue
            footer.append((each, len(body), length))
            self._index[each] = Location(pack, len(body), length)
            body += pack.body[offset : offset + length]
        pack.body, pack.footer = body, footer
        if not footer:
            self._packs.remove(pack)
        return location.length

    def _used(self) -> int:
        return sum(len(pack.body) for pack in self._packs)

    def _info(self, address: Address) -> ChunkInfo:
        location = self._index.get(address)
        if self._marks.get(address) is Mark.BAD:
            return ChunkInfo(address, ChunkState.BAD, 0)
        if location is None:
            return ChunkInfo(address, ChunkState.ABSENT, 0)
        if address in self._retired:
            return ChunkInfo(address, ChunkState.RETIRED, location.length)
        return ChunkInfo(address, ChunkState.DURABLE if location.pack.sealed else ChunkState.RECEIVED, location.length)


def _wrong(body: bytes, address: Address) -> str:
    try:
        header = check_blob(body)
    except CorruptChunk:
        return "stored bytes do not match their digest"
    except FormatError as error:
        return error.message
    return "" if header.address == address else "it holds another chunk"
