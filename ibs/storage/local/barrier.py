"""From received to durable: one flush serves every caller, then chunks move to their final folders.

Used inside `storage.local` (PROTOCOLS 1-2). Invariants: a chunk gets its name under `chunks/xxxx/` only after a flush
that began after it was received; its row is added only after that. When a flush fails, every chunk that waited for it
is condemned: read again past the page cache, and dropped unless the disk has it whole.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ibs.errors import ChunkNotFound, DatastoreReadOnly, IbsError
from ibs.storage.local import files
from ibs.storage.local.chunkdb import RowState
from ibs.storage.local.held import Held
from ibs.storage.local.layout import BAD_SUFFIX, CHUNKS
from ibs.storage.local.ledger import Ledger, Received
from ibs.storage.local.reader import whole_on_disk


class Together:
    """Many callers, few rounds: a round serves everybody who called before it began.

    A caller whose round failed runs its own, and so meets the error itself.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._change = threading.Condition()
        self._begun = 0
        self._results: dict[int, int] = {}
        self._done = 0
        self._result = 0
        self._running = False

    def run(self) -> int:
        """The result of a round that began after this call. Raises what the work raises."""
        with self._change:
            wanted = self._begun + 1
            while True:
                if self._done >= wanted:
                    return self._result
                if not self._running:
                    break
                self._change.wait()
            self._begun += 1
            this, self._running = self._begun, True
        result = -1
        try:
            result = self._work()
        finally:
            with self._change:
                self._running = False
                if result >= 0:
                    self._done, self._result = this, result
                self._change.notify_all()
        return result


@dataclass(slots=True)
class Barrier:
    """The barrier of one store. Thread-safe."""

    held: Held
    ledger: Ledger
    _rounds: Together = field(init=False)
    _flushes: Together = field(init=False)
    _condemned: bool = False

    def __post_init__(self) -> None:
        self._rounds = Together(self._round)
        self._flushes = Together(self._flush)

    def run(self) -> int:
        """See ChunkStore.barrier. Raises DatastoreReadOnly, NoSpace, ChunkNotFound."""
        return self._rounds.run()

    def sync(self) -> None:
        """Make everything written before this call durable, names of promoted chunks included; promote nothing.

        Raises DatastoreReadOnly.
        """
        self._flushes.run()

    def _flush(self) -> int:
        self._flush_or_condemn("publish.sync")
        return 0

    def _flush_or_condemn(self, point: str) -> None:
        try:
            self.held.flusher.flush(point)
        except DatastoreReadOnly:
            if not self._condemned:
                self._condemned = True
                self._condemn()
            raise

    def _round(self) -> int:
        waiting = self.ledger.received_all()
        self._flush_or_condemn("barrier.sync")
        promoted: list[Received] = []
        lost: list[Received] = []
        failure: OSError | None = None
        for entry in waiting:
            try:
                if self.held.reserve.retrying(lambda entry=entry: self._promote(entry)):  # type: ignore[misc]
                    promoted.append(entry)
            except FileNotFoundError:
                lost.append(entry)
            except OSError as error:
                failure = error
                break
        self.held.hook("barrier.record")
        durable = self.held.reserve.retrying(lambda: self.ledger.record(promoted))
        for entry in lost:
            self.ledger.drop(entry)
            self.ledger.mark(entry.address, RowState.MISSING)
        if failure is not None:
            raise failure
        if lost:
            raise ChunkNotFound(lost[0].address.id.hex(), why="it was received, and is gone from the incoming folder")
        return durable

    def _promote(self, entry: Received) -> bool:
        held = self.held
        prefix = entry.name[:4]
        with held.shards.holding([entry.address.id]):
            if self.ledger.received(entry.address) is not entry:
                return False  # discarded, or received again: then the file is newer than the flush
            if held.prefixes.ensure(prefix):
                held.flusher.folder(CHUNKS)
            held.hook("barrier.promote")
            os.rename(entry.name, f"{prefix}/{entry.name}", src_dir_fd=held.arrivals, dst_dir_fd=held.folders.chunks)
            held.flusher.folder(held.arrivals_path)
            held.flusher.folder(f"{CHUNKS}/{prefix}")
            if entry.heals:
                files.unlink_if_there(f"{prefix}/{entry.name}{BAD_SUFFIX}", dir_fd=held.folders.chunks)
        return True

    def _condemn(self) -> None:
        """Nothing received since the last good flush can be trusted: keep what the disk itself gives back whole."""
        for entry in self.ledger.received_all():
            with self.held.shards.holding([entry.address.id]):
                if self.ledger.received(entry.address) is not entry:
                    continue
                try:
                    if whole_on_disk(self.held.arrivals, entry.name, entry.address):
                        continue
                except (OSError, IbsError):  # unreadable now is no better than lost
                    pass
                self.ledger.drop(entry)
                files.unlink_quietly(entry.name, dir_fd=self.held.arrivals)
