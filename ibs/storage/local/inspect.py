"""Checking many chunks at once as the disk holds them, for verification; and what earlier checks are still worth.

Used inside `storage.local`. A batch is opened whole, dropped from the page cache and asked for ahead, so that the disk
itself is proven and always has the next chunks to look for; each is read into a buffer that its thread keeps. What is
wrong goes the way of every reader (`Reader.get`), which looks a second time before it marks anything.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ibs.core import limits
from ibs.core.blob import BlobDecoder, check_blob
from ibs.errors import ChunkNotFound, CorruptChunk, DatastoreReadOnly, FormatError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.storage.local.chunkdb import ChunkDb, RowState
from ibs.storage.local.held import Held
from ibs.storage.local.layout import chunk_name
from ibs.storage.local.ledger import Ledger
from ibs.storage.local.reader import Reader, final_path


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of one chunk: `stored_bytes` read, or what is wrong with it."""

    address: Address
    stored_bytes: int = 0
    error: ChunkNotFound | CorruptChunk | None = None


class _Tools(threading.local):
    """What each thread keeps: a decoder, and a buffer that grows to the largest chunk it met."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = BlobDecoder()
        self.buffer = bytearray(limits.MIB)


@dataclass(slots=True)
class Inspector:
    """Of one store. Thread-safe."""

    held: Held
    ledger: Ledger
    db: ChunkDb
    reader: Reader
    _tools: _Tools = field(default_factory=_Tools)

    def check(self, addresses: Sequence[Address]) -> list[Checked]:
        """Read these chunks (VERIFY_HOP_CHUNKS at most) from the disk and prove them: digest, plain ones' content id.

        In no particular order. What is wrong is marked as every reader marks it. Raises what makes reading impossible
        (FailedError, DatastoreOffline); that says nothing about the chunks.
        """
        with self.held.reading("reading chunks"), contextlib.ExitStack() as opened:
            found: list[Checked] = []
            files: list[tuple[int, int, int, Address]] = []
            for address in addresses:
                try:
                    fd = self.reader.open(address)
                except (ChunkNotFound, CorruptChunk) as error:
                    found.append(Checked(address, error=error))
                    continue
                opened.callback(os.close, fd)
                seen = os.fstat(fd)
                files.append((seen.st_ino, seen.st_size, fd, address))
            files.sort()
            for _, size, fd, _ in files:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.posix_fadvise(fd, 0, size, os.POSIX_FADV_WILLNEED)
            for _, size, fd, address in files:
                found.append(self._check(fd, size, address))
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # others' chunks are worth more in memory
            return found

    def _check(self, fd: int, size: int, address: Address) -> Checked:
        if self._is_whole(fd, size, address):
            self.reader.note_whole(address, size)
            return Checked(address, size)
        try:
            data = self.reader.get(address)  # reads again past the cache, and puts it aside when it is really wrong
        except (ChunkNotFound, CorruptChunk) as error:
            return Checked(address, error=error)
        if address.domain == PLAIN_DOMAIN:
            try:
                self._tools.decoder.decode(data, want=address)
            except (CorruptChunk, FormatError) as error:
                # Right digest, wrong content: whoever wrote it lied or failed. It must never serve.
                with contextlib.suppress(DatastoreReadOnly):
                    self.reader.mark_bad(address)
                told = error if isinstance(error, CorruptChunk) else CorruptChunk(address.id.hex(), error.message)
                return Checked(address, error=told)
        return Checked(address, len(data))

    def _is_whole(self, fd: int, size: int, address: Address) -> bool:
        """Marks nothing. Raises OSError."""
        if size > limits.CHUNK_BODY_BYTES_MAX:
            return False
        view = self._read(fd, size)
        try:
            header = check_blob(view)
            if header.address != address:
                return False
            if address.domain == PLAIN_DOMAIN:
                self._tools.decoder.prove(view, header)
        except (CorruptChunk, FormatError):
            return False
        return True

    def _read(self, fd: int, size: int) -> memoryview:
        tools = self._tools
        if len(tools.buffer) < size:
            tools.buffer = bytearray(size)
        view = memoryview(tools.buffer)
        have = 0
        while have < size and (count := os.preadv(fd, [view[have:size]], have)):
            have += count
        return view[:have]

    def proven(self, addresses: Sequence[Address], since: int, until: int) -> list[int | None]:
        """When each was checked last, if at `since` (seconds since 1970) or later and its file not touched after it.

        A check later than `until`, which is now, was dated by a wrong clock: it proves neither when it was, nor that
        the file was not touched after it. Costs a look-up and one stat each; nothing is read. None for a file that is
        gone or was touched.
        """
        with self.held.reading("looking up chunks"):
            rows = self.db.lookup(addresses)
            answers: list[int | None] = []
            for address in addresses:
                row = rows.get(address)
                when = (row.verified_at or 0) if row is not None and row.state is RowState.OK else 0
                if row is None or not since <= when <= until or self.ledger.mark_of(address) is not None:
                    answers.append(None)
                    continue
                answers.append(when if self._untouched(address, row.stored_bytes, when) else None)
            return answers

    def _untouched(self, address: Address, stored_bytes: int, since: int) -> bool:
        """Any change through the file system shows in ctime; only the disk itself can lie about the rest."""
        try:
            path = final_path(chunk_name(address))
            seen = os.stat(path, dir_fd=self.held.folders.chunks, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return seen.st_size == stored_bytes and int(seen.st_ctime) < since
