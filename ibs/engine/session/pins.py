"""What a write session may refer to, and what nobody may delete meanwhile: pin sets, their journal, the gate.

Used by `engine` only. Invariants (PROTOCOLS 6, 10, 11; contrib/docs/concurrency.md has the whole argument):

* An id enters the journal on disk **before** its chunk is put and before it is acknowledged. So every chunk a killed
  session left behind is named by a journal, and whoever reads the journals sees every promise.
* After the journal, and before the put, the id is announced at the `PinGate`. A deletion that is already past its
  reading of the journals is told there, and spares the chunk.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ibs.core.ids import ID_BYTES
from ibs.core.index import IdArray, IdLookup
from ibs.core.marking import Prefixes, contains, prefixes_of
from ibs.errors import BusyError
from ibs.ports.chunkstore import Address
from ibs.storage.local.workfolder import WorkFolder

T = TypeVar("T")
W = TypeVar("W", "Watch", "WideWatch")

JOURNAL_FILE = "pins.journal"

_RECENT_IDS_MAX = 1 << 16
_RUNS_MAX = 8


def id_array(ids: bytes | bytearray | memoryview) -> IdArray:
    """Concatenated ids as an array of shape (n, 32), without a copy; a torn last id is left out."""
    whole = len(ids) - len(ids) % ID_BYTES
    return np.frombuffer(ids, dtype=np.uint8, count=whole).reshape(-1, ID_BYTES)


class IdSet:
    """A growing set of ids at about 40 bytes each; not thread-safe.

    New ids gather in a Python set and are frozen into sorted runs, which are merged when they become many.
    """

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._arrays: list[IdArray] = []
        self._runs: list[IdLookup] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(array) for array in self._arrays)

    def __contains__(self, chunk: bytes) -> bool:
        return chunk in self._recent or any(chunk in run for run in self._runs)

    def new(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of `ids` that are not in the set, each once."""
        return [chunk for chunk in dict.fromkeys(ids) if chunk not in self]

    def add(self, ids: Iterable[bytes]) -> None:
        """Take ids in that are not in the set yet."""
        self._recent.update(ids)
        if len(self._recent) >= _RECENT_IDS_MAX:
            self._freeze(id_array(b"".join(self._recent)))
            self._recent = set()

    def add_array(self, ids: IdArray) -> None:
        """Take many distinct ids in that are not in the set yet."""
        if len(ids):
            self._freeze(ids)

    def _freeze(self, ids: IdArray) -> None:
        self._arrays.append(ids)
        self._runs.append(IdLookup(ids))
        if len(self._runs) > _RUNS_MAX:
            merged = np.concatenate(self._arrays)
            self._arrays, self._runs = [merged], [IdLookup(merged)]

    def contains(self, ids: IdArray) -> NDArray[np.bool_]:
        """One boolean an id."""
        found = np.zeros(len(ids), dtype=np.bool_)
        for run in self._runs:
            found |= run.contains(ids)
        if self._recent:
            for at in np.flatnonzero(~found):
                found[at] = ids[at].tobytes() in self._recent
        return found

    def to_bytes(self) -> bytes:
        """All ids, concatenated, in no particular order."""
        return b"".join([*(array.tobytes() for array in self._arrays), *self._recent])


class Watch:
    """A deletion under way: its candidates, and those among them that were promised to someone since it began."""

    def __init__(self, domain: bytes, candidates: IdLookup) -> None:
        self.domain = domain
        self.candidates = candidates
        self.promised: set[bytes] = set()

    def note(self, ids: IdArray) -> None:
        """Remember the candidates among `ids`."""
        self.promised.update(ids[at].tobytes() for at in np.flatnonzero(self.candidates.contains(ids)))

    def note_all(self, ids: Iterable[tuple[bytes, IdArray]]) -> None:
        """As `note`, for those of our domain."""
        for domain, some in ids:
            if domain == self.domain:
                self.note(some)


class WideWatch:
    """A deletion whose candidates are not known yet, in all domains: everything promised since it began, by prefix.

    Eight bytes an id, each once however often it is promised. A shared prefix spares a chunk too many, never too few.
    """

    def __init__(self) -> None:
        self._sorted = np.zeros(0, dtype=np.uint64)
        self._fresh: list[Prefixes] = []
        self._waiting = 0

    def note_all(self, ids: Iterable[tuple[bytes, IdArray]]) -> None:
        """Remember these."""
        for _, some in ids:
            self._fresh.append(prefixes_of(some))
            self._waiting += len(some)
        if self._waiting > max(_RECENT_IDS_MAX, len(self._sorted)):
            self._join()

    def promised(self, ids: IdArray) -> NDArray[np.bool_]:
        """Which of these were promised to somebody."""
        self._join()
        return contains(self._sorted, prefixes_of(ids))

    def _join(self) -> None:
        if self._fresh:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._fresh]))
            self._fresh, self._waiting = [], 0


class PinGate:
    """Where promises and deletions of one store meet. Thread-safe; its lock is the innermost of the engine's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: list[Watch | WideWatch] = []
        self._moves: dict[object, Sequence[tuple[bytes, IdArray]] | None] = {}

    @property
    def busy(self) -> bool:
        """Whether a deletion is under way, and announcing matters."""
        with self._lock:
            return bool(self._watches)

    def announce(self, domain: bytes, ids: IdArray) -> None:
        """The ids are promised. They must be in a journal or linked index on disk already, and not be put yet."""
        with self._lock:
            for watch in self._watches:
                watch.note_all([(domain, ids)])

    @contextlib.contextmanager
    def moving(self, ids: Sequence[tuple[bytes, IdArray]] | None) -> Iterator[None]:
        """Rename a snapshot's folder inside this: a deletion may look where it is not yet, then where it is no more.

        So its ids, by domain, are announced to the deletions under way and to those that begin meanwhile. None when
        they cannot be told: raises BusyError while a deletion is under way, and none begins meanwhile.
        """
        with self._lock:
            if ids is None and self._watches:
                raise BusyError(
                    "chunks are being deleted, and what this damaged snapshot refers to cannot be told",
                    hint="try again when garbage collection has ended",
                )
            for watch in self._watches:
                watch.note_all(ids or ())
            this = object()
            self._moves[this] = ids
        try:
            yield
        finally:
            with self._lock:
                del self._moves[this]

    @contextlib.contextmanager
    def watching(self, domain: bytes, candidates: IdLookup) -> Iterator[Watch]:
        """Hear of promises from now on. Read journals, leases and manifests **inside** this, in that order."""
        with self._hearing(Watch(domain, candidates)) as watch:
            yield watch

    @contextlib.contextmanager
    def watching_all(self) -> Iterator[WideWatch]:
        """As `watching`, for garbage collection: in all domains, before it has candidates."""
        with self._hearing(WideWatch()) as watch:
            yield watch

    @contextlib.contextmanager
    def _hearing(self, watch: W) -> Iterator[W]:
        with self._lock:
            if any(move is None for move in self._moves.values()):
                raise BusyError("a damaged snapshot is being moved", hint="try again in a moment")
            for move in self._moves.values():
                watch.note_all(move or ())
            self._watches.append(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches.remove(watch)

    def delete(self, watch: Watch, ids: Sequence[bytes], remove: Callable[[Sequence[Address]], int]) -> tuple[int, int]:
        """Delete those of `ids` that were not promised meanwhile; return (chunks, bytes) gone.

        Deletion happens inside the lock: an id announced before it is spared; one announced after it is put again
        afterwards, since a put follows its announcement.
        """
        with self._lock:
            doomed = [Address(watch.domain, chunk) for chunk in ids if chunk not in watch.promised]
            return len(doomed), remove(doomed) if doomed else 0

    def sweep(self, watch: WideWatch, addresses: Sequence[Address], remove: Callable[[Sequence[Address]], T]) -> T:
        """As `delete`, for garbage collection: hand those that were not promised meanwhile to `remove`."""
        with self._lock:
            promised = watch.promised(id_array(b"".join(address.id for address in addresses)))
            return remove([address for address, spared in zip(addresses, promised, strict=True) if not spared])


class PinSet:
    """The ids one session may name: those it uploaded or inherited, and the available ones of its bases."""

    def __init__(self, domain: bytes, folder: WorkFolder, gate: PinGate, bases: Sequence[IdLookup]) -> None:
        """`folder` is the session's in staging."""
        self.domain = domain
        self._folder = folder
        self._gate = gate
        self._bases = bases
        self._lock = threading.Lock()
        self._uploaded = IdSet()

    def inherit(self, ids: IdArray) -> None:
        """Distinct ids that an interrupted session delivered and that are there. Journal and gate know them by now."""
        with self._lock:
            self._uploaded.add_array(ids)

    def pin(self, ids: Sequence[bytes]) -> None:
        """Promise whole, checked bodies: journal, then gate. Call it before the first of them is put."""
        with self._lock:
            new = self._uploaded.new(ids)
            if new:
                joined = b"".join(new)
                # Survives the death of the process, not power loss; received chunks promise no more.
                self._folder.append(JOURNAL_FILE, joined)
                self._uploaded.add(new)
                self._gate.announce(self.domain, id_array(joined))

    def missing(self, ids: IdArray) -> NDArray[np.intp]:
        """Positions of ids this session may not name."""
        allowed = np.zeros(len(ids), dtype=np.bool_)
        for lookup in self._bases:
            allowed |= lookup.contains(ids)
        left = np.flatnonzero(~allowed)
        if len(left):
            with self._lock:
                left = left[~self._uploaded.contains(ids[left])]
        return left

    def delivered(self, ids: IdArray) -> NDArray[np.bool_]:
        """Which of the ids were uploaded or inherited; the others of an index are of its bases."""
        with self._lock:
            return self._uploaded.contains(ids)

    def uploaded(self, chunk: bytes) -> bool:
        """True when this session delivered or inherited the chunk."""
        with self._lock:
            return chunk in self._uploaded

    def uploaded_ids(self) -> bytes:
        """Concatenated ids of what was uploaded or inherited."""
        with self._lock:
            return self._uploaded.to_bytes()

    def release(self) -> None:
        """Free the memory; the session has ended."""
        with self._lock:
            self._uploaded = IdSet()
            self._bases = ()
