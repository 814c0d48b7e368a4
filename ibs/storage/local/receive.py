"""Taking a chunk: duplicate check, temporary file, name in the incoming folder. Called by many threads at once.

Used inside `storage.local`. A new chunk costs stat, open, write, close, rename; a duplicate one stat.
The shard lock is held throughout, so that a second sender of the same chunk waits and then finds it whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from ibs.core import limits
from ibs.core.blob import check_blob
from ibs.errors import CorruptChunk, FormatError, UsageError
from ibs.ports.chunkstore import Address, PutOutcome
from ibs.storage.local import files
from ibs.storage.local.held import Held
from ibs.storage.local.layout import CHUNKS, FILE_MODE, TEMPORARY, chunk_name
from ibs.storage.local.ledger import Ledger, Received
from ibs.storage.local.reader import final_path
from ibs.storage.local.revive import take_back

FOLDER_BYTES: Final = 4096
"""What a new folder costs on most file systems."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Receiver:
    """The writing end of one store."""

    held: Held
    ledger: Ledger
    _numbers: count[int] = field(default_factory=count)

    def put(self, address: Address, blob: files.Buffer) -> PutOutcome:
        """See ChunkStore.put. *Durability*: none before the next barrier."""
        view = memoryview(blob).cast("B")
        if not 0 < len(view) <= limits.CHUNK_BODY_BYTES_MAX:
            raise UsageError(f"a chunk of {len(view)} bytes is not between 1 and {limits.CHUNK_BODY_BYTES_MAX}")
        self.ledger.check_domain(address.domain)
        name = chunk_name(address)
        with self.held.writing("storing a chunk"), self.held.shards.holding([address.id]):
            take_back(self.held, self.ledger, address)
            unusable = self._unusable(address, name, len(view))
            if unusable is None:
                self.ledger.acknowledge(address)
                return PutOutcome.DUPLICATE
            self._write(name, view)
            self.ledger.add(Received(address, name, len(view), heals=unusable))
            return PutOutcome.REPLACED if unusable else PutOutcome.STORED

    def _unusable(self, address: Address, name: str, size: int) -> bool | None:
        """None when a whole copy is there; else whether something unusable is (or should be) in its place."""
        entry = self.ledger.received(address)
        if entry is not None:
            if entry.suspect:
                return True
            whole = self._whole(self.held.arrivals, name, address, size)
            if whole is None:  # promoted a moment ago, or lost
                whole = self._whole(self.held.folders.chunks, final_path(name), address, size)
            return None if whole else True
        if self.ledger.mark_of(address) is not None:
            return True
        if not self.held.prefixes.there(name[:4]):
            return False
        whole = self._whole(self.held.folders.chunks, final_path(name), address, size)
        return None if whole else whole is not None

    def _whole(self, dir_fd: int, path: str, address: Address, size: int) -> bool | None:
        """Whether the file is a whole copy; None when there is no file.

        Another length may be another compression of the same bytes: then its digest decides, because replacing a good
        chunk by whatever a sender offers would let one sender spoil what others rely on.
        """
        there = files.size_of(path, dir_fd=dir_fd)
        if there is None or there == size:
            return None if there is None else True
        try:
            data = files.read_file(path, dir_fd=dir_fd, limit=limits.CHUNK_BODY_BYTES_MAX)
            return check_blob(data).address == address
        except (FormatError, CorruptChunk):
            return False

    def _write(self, name: str, view: memoryview) -> None:
        held = self.held
        if held.prefixes.there(name[:4]):
            held.room.take(len(view), 1)
        else:
            # Made now, so that a chunk once received never lacks room for its folder when it is promoted.
            held.room.take(len(view) + FOLDER_BYTES, 2)
            held.prefixes.ensure(name[:4])
            held.flusher.folder(CHUNKS)
        temporary = f"{TEMPORARY}{next(self._numbers)}"
        try:
            self._write_temporary(temporary, view)
            held.hook("put.temp")
            os.rename(temporary, name, src_dir_fd=held.arrivals, dst_dir_fd=held.arrivals)
        except BaseException:
            held.room.forget()
            files.unlink_quietly(temporary, dir_fd=held.arrivals)
            raise
        held.flusher.folder(held.arrivals_path)
        held.hook("put.rename")

    def _write_temporary(self, temporary: str, view: memoryview) -> None:
        fd = os.open(temporary, _NEW, FILE_MODE, dir_fd=self.held.arrivals)
        try:
            self.held.hook("put.write")
            files.write_all(fd, view)
            self.held.flusher.file(fd)
        finally:
            os.close(fd)
