"""Taking a chunk: duplicate check, temporary file, name in the incoming folder. Called by many threads at once.

Used inside `storage.local`. A new chunk costs stat, open, write, close, rename; a duplicate one stat, and the first
time in the life of the process a look at its digest.
The shard lock is held throughout, so that a second sender of the same chunk waits and then finds it whole.
"""

from __future__ import annotations

import errno
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


class Vouched:
    """Chunks whose stored bytes this process checked, each with its file's time of change then: a bounded memory.

    It says nothing about what the disk does to a file that nobody touches; verification does. Thread-safe.
    """

    def __init__(self) -> None:
        self._known: dict[int, float] = {}

    def has(self, address: Address, changed: float) -> bool:
        """Whether it was checked, and its file was not touched since then."""
        return self._known.get(hash(address)) == changed

    def add(self, address: Address, changed: float) -> None:
        """Remember it; when there are too many, all earlier ones are forgotten."""
        if len(self._known) >= limits.STORE_VOUCHED_MAX:
            self._known = {}
        self._known[hash(address)] = changed


@dataclass(slots=True)
class Receiver:
    """The writing end of one store."""

    held: Held
    ledger: Ledger
    _numbers: count[int] = field(default_factory=count)
    _vouched: Vouched = field(default_factory=Vouched)

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
        """Whether the file is a whole copy of the chunk; None when there is no file. `size`: of the body that was sent.

        Its digest decides, not its length: a copy that rots at its length would otherwise be answered for again and
        again, and no backup would ever heal it; and one of another length may be another compression of the same bytes,
        where replacing it would let one sender spoil what others rely on. What this process checked is not read again.
        """
        try:
            seen = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            if seen.st_size == size and self._vouched.has(address, seen.st_ctime):
                return True
            data = files.read_file(path, dir_fd=dir_fd, limit=limits.CHUNK_BODY_BYTES_MAX)
            if check_blob(data).address != address:
                return False
        except FileNotFoundError:
            return None
        except (FormatError, CorruptChunk):
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False  # unreadable there, and here it is whole
        self._vouched.add(address, seen.st_ctime)
        return True

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
