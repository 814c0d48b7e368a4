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

from ibs.core.idtable import IdTable
from ibs.core.index import IdArray, IdLookup
from ibs.core.marking import Prefixes, contains, prefixes_of
from ibs.engine.session.journal import Journal, id_array
from ibs.errors import BusyError
from ibs.ports.chunkstore import Address
from ibs.storage.local.workfolder import WorkFolder

T = TypeVar("T")
W = TypeVar("W", "Watch", "WideWatch")

_RECENT_IDS_MAX = 1 << 16


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

    def __init__(self, domain: bytes, folder: WorkFolder, gate: PinGate, bases: Sequence[IdTable]) -> None:
        """`folder` is the session's in staging."""
        self.domain = domain
        self._gate = gate
        self._bases = bases
        self._lock = threading.Lock()
        self._journal = Journal(folder)

    def promise(self, ids: IdArray) -> int:
        """Promise distinct ids that may be in the store: journal, then gate. Look for them after this, then `inherit`.

        Returns the journal's row of the first. Whether they are there or not, whoever discards the session finds them.
        """
        with self._lock:
            first = self._journal.append(ids.tobytes())
            self._gate.announce(self.domain, ids)
        return first

    def inherit(self, first: int, ids: IdArray, there: NDArray[np.bool_]) -> None:
        """Of what was promised from row `first` on, this may be named."""
        with self._lock:
            self._journal.take(first, ids, there)

    def pin(self, ids: Sequence[bytes]) -> None:
        """Promise whole, checked bodies: journal, then gate. Call it before the first of them is put."""
        with self._lock:
            new = self._journal.new(ids)
            if new:
                joined = b"".join(new)
                # Survives the death of the process, not power loss; received chunks promise no more.
                self._journal.add(new, self._journal.append(joined))
                self._gate.announce(self.domain, id_array(joined))

    def missing(self, ids: IdArray) -> NDArray[np.intp]:
        """Positions of ids this session may not name."""
        left = np.arange(len(ids))
        for table in self._bases:
            left = left[~table.contains(ids[left])]
        if len(left):
            left = left[self.rows(ids[left]) < 0]
        return left

    def rows(self, ids: IdArray) -> NDArray[np.int64]:
        """Where in the journal the ids are that were uploaded or inherited; -1 for others, those of the bases."""
        with self._lock:
            return self._journal.rows(ids)

    def uploaded(self, chunk: bytes) -> bool:
        """True when this session delivered or inherited the chunk."""
        return bool(self.rows(id_array(chunk))[0] >= 0)

    def unnamed(self, named: NDArray[np.bool_]) -> IdArray:
        """What was promised in vain: ids of the journal at no row that is true in `named`. Call when no more come."""
        with self._lock:
            return self._journal.unnamed(named)

    @property
    def journal_rows(self) -> int:
        """Ids in the journal, whether they may be named or not."""
        return self._journal.length

    def release(self) -> None:
        """Free the memory; the session has ended."""
        with self._lock:
            self._journal.forget()
            self._bases = ()
