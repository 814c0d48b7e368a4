"""Deleting chunks that nothing refers to: rows first, then files (PROTOCOLS 4). The caller proved that they may go.

Used inside `storage.local`. Works on a full disk (DESIGN P7): when there is no room for the index's own log the
reserve is given up, and refilled when the files are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ibs.core import limits
from ibs.ports.chunkstore import Address
from ibs.storage.local import files
from ibs.storage.local.chunkdb import batched
from ibs.storage.local.held import Held
from ibs.storage.local.layout import BAD_SUFFIX, CHUNKS, chunk_name
from ibs.storage.local.ledger import Ledger
from ibs.storage.local.reader import final_path
from ibs.storage.local.revive import trash_path


def flush_removals(held: Held) -> None:
    """A manifest that the power brings back must not find its chunks gone (PROTOCOLS 11). Raises DatastoreReadOnly."""
    if not held.manifests_removed:
        return
    with held.writing("flushing removed snapshots"):
        held.manifests_removed = False
        try:
            held.flusher.flush("discard.sync")
        except BaseException:
            held.manifests_removed = True
            raise


@dataclass(slots=True)
class Discarder:
    """The deleting end of one store. Thread-safe."""

    held: Held
    ledger: Ledger

    def discard(self, addresses: Sequence[Address]) -> int:
        """See ChunkStore.discard. *Cancellation*: by batch; what a batch began is finished."""
        flush_removals(self.held)
        freed = 0
        for batch in batched(addresses, limits.STORE_DISCARD_BATCH_CHUNKS):
            with self.held.writing("deleting chunks"), self.held.shards.holding([address.id for address in batch]):
                self.held.hook("discard.row")
                retired = self.ledger.retired(batch)
                self.held.reserve.retrying(lambda batch=batch: self.ledger.forget(batch))  # type: ignore[misc]
                for address in batch:
                    self.held.hook("discard.file")
                    freed += self._remove_files(address)
                for row in retired:
                    path = trash_path(row.epoch, chunk_name(row.address))
                    freed += self._remove(path, self.held.folders.chunks)
        self.held.room.forget()
        self.held.reserve.fill()
        return freed

    def _remove_files(self, address: Address) -> int:
        name = chunk_name(address)
        freed = 0
        entry = self.ledger.received(address)
        if entry is not None:
            self.ledger.drop(entry)
            freed += self._remove(name, self.held.arrivals)
            self.held.flusher.folder(self.held.arrivals_path)
        if self.held.prefixes.there(name[:4]):
            freed += self._remove(final_path(name), self.held.folders.chunks)
            freed += self._remove(final_path(name) + BAD_SUFFIX, self.held.folders.chunks)
            self.held.flusher.folder(f"{CHUNKS}/{name[:4]}")
        return freed

    def _remove(self, path: str, dir_fd: int) -> int:
        size = files.size_of(path, dir_fd=dir_fd)
        if size is None or not files.unlink_if_there(path, dir_fd=dir_fd):
            return 0
        return size
