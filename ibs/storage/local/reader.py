"""Reading a chunk so that only right bytes come out, and telling a corrupt disk from a failed read.

Used inside `storage.local` (DESIGN P3, PROTOCOLS 8). A digest that does not match is read a second time past the page
cache; only when the disk itself gives wrong bytes is the chunk renamed `.bad` and marked. A read that fails (EIO) says
nothing about the bytes: it makes the call fail and marks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sqlite3
from dataclasses import dataclass
from typing import Final

from ibs.core import limits
from ibs.core.blob import check_blob
from ibs.errors import BusyError, ChunkNotFound, CorruptChunk, FormatError, UsageError
from ibs.ports.chunkstore import Address, ChunkInfo, ChunkState
from ibs.storage.local import files
from ibs.storage.local.chunkdb import RowState
from ibs.storage.local.held import Held
from ibs.storage.local.layout import BAD_SUFFIX, CHUNKS, chunk_name
from ibs.storage.local.ledger import Ledger, Received
from ibs.storage.local.revive import take_back, trash_path

DIRECT_ALIGNMENT: Final = 4096
ATTEMPTS_MAX: Final = 4
"""A chunk may move from incoming to its folder, or be replaced, between two looks at it."""


def wrong(data: bytes, address: Address) -> str:
    """What is wrong with the bytes of a chunk; empty when nothing is."""
    try:
        header = check_blob(data)
    except CorruptChunk:
        return "stored bytes do not match their digest"
    except FormatError as error:
        return error.message
    return "" if header.address == address else "it holds another chunk"


def read_past_cache(fd: int) -> bytes:
    """The file's bytes from the disk rather than the page cache, as well as the file system allows.

    O_DIRECT where it is supported; else what is cached is dropped first. Raises OSError.
    """
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    size = min(os.fstat(fd).st_size, limits.CHUNK_BODY_BYTES_MAX)
    try:
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return files.read_all(fd, size)
    try:
        room = max(DIRECT_ALIGNMENT, -(-size // DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT)
        with mmap.mmap(-1, room) as aligned:
            have = os.preadv(direct, [aligned], 0)
            if have >= size:
                return aligned[:size]
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(direct)
    return files.read_all(fd, size)


def final_path(name: str) -> str:
    """Where a promoted chunk lies, relative to the chunk folder."""
    return f"{name[:4]}/{name}"


def is_named(fd: int, path: str, dir_fd: int) -> bool:
    """Whether `path` means the file behind `fd`."""
    seen = os.fstat(fd)
    try:
        now = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (seen.st_dev, seen.st_ino)


def whole_on_disk(dir_fd: int, path: str, address: Address) -> bool:
    """Whether the disk itself gives this chunk back whole. Raises OSError, FormatError."""
    fd = files.open_file(path, dir_fd=dir_fd)
    try:
        return not wrong(read_past_cache(fd), address)
    finally:
        os.close(fd)


@dataclass(slots=True)
class Reader:
    """The reading end of one store. Thread-safe."""

    held: Held
    ledger: Ledger

    def get(self, address: Address) -> bytes:
        """See ChunkStore.get."""
        with self.held.reading("reading a chunk"):
            for _ in range(ATTEMPTS_MAX):
                fd = self._open(address)
                if fd is None:
                    fd = self._open_or_miss(address)
                try:
                    data = self._checked(fd, address)
                finally:
                    os.close(fd)
                if data is not None:
                    self.note_whole(address, len(data))
                    return data
            raise BusyError(f"chunk {address.id.hex()} is being replaced", hint="try again")

    def get_range(self, address: Address, start: int, length: int) -> bytes:
        """See ChunkStore.get_range."""
        if start < 0 or length < 0:
            raise UsageError(f"bytes {start} to {start + length} of a chunk are not a range")
        with self.held.reading("reading a chunk"):
            fd = self._open(address)
            if fd is None:
                fd = self._open_or_miss(address)
            try:
                self.held.hook("get.read")
                return os.pread(fd, min(length, limits.CHUNK_BODY_BYTES_MAX), start)
            finally:
                os.close(fd)

    def open(self, address: Address) -> int:
        """Descriptor of the chunk's file, for the caller to close. Raises ChunkNotFound, CorruptChunk; OSError."""
        fd = self._open(address)
        return self._open_or_miss(address) if fd is None else fd

    def note_whole(self, address: Address, stored_bytes: int) -> None:
        """Somebody read it and it was whole: believed missing, it is found again."""
        if self.ledger.mark_of(address) is RowState.MISSING:
            self._found_again(address, stored_bytes)

    def seen(self, info: ChunkInfo) -> ChunkInfo:
        """What the index says of a promoted chunk, corrected by a look at its name and length.

        Files vanish and are cut short behind our back (file system checks, tired hands), and what is not read is not
        noticed otherwise: a backup would go on referring to it. Costs one stat; marks nothing. Raises OSError.
        """
        if info.state is not ChunkState.DURABLE:
            return info
        size = files.size_of(final_path(chunk_name(info.address)), dir_fd=self.held.folders.chunks)
        if size is None:
            return ChunkInfo(info.address, ChunkState.ABSENT, 0)
        return info if size == info.stored_bytes else ChunkInfo(info.address, ChunkState.BAD, size)

    def mark_bad(self, address: Address) -> None:
        """See ChunkStore.mark_bad."""
        with self.held.writing("marking a chunk"), self.held.shards.holding([address.id]):
            with contextlib.suppress(OSError, sqlite3.Error):
                take_back(self.held, self.ledger, address)
            self._put_aside(address, self.ledger.received(address))

    def put_aside(self, address: Address) -> None:
        """Mark a promoted chunk bad and rename its file. The caller holds its shard lock."""
        self._put_aside(address, None)

    def mark_suspect(self, address: Address) -> None:
        """See ChunkStore.mark_suspect."""
        with self.held.writing("marking a chunk"), self.held.shards.holding([address.id]):
            entry = self.ledger.received(address)
            if entry is not None:
                self.ledger.mark_received_suspect(entry)
            elif self.ledger.info([address])[0].state is ChunkState.DURABLE:
                self.held.reserve.retrying(lambda: self.ledger.mark(address, RowState.SUSPECT))

    def _open(self, address: Address) -> int | None:
        """Descriptor of the chunk's file wherever it is; None when it seems to be nowhere."""
        name = chunk_name(address)
        if self.ledger.received(address) is not None:
            try:
                return files.open_file(name, dir_fd=self.held.arrivals)
            except FileNotFoundError:
                pass  # promoted a moment ago
        elif self.ledger.mark_of(address) is RowState.BAD:
            raise CorruptChunk(address.id.hex(), "it was found corrupt before and is kept aside")
        try:
            return files.open_file(final_path(name), dir_fd=self.held.folders.chunks)
        except FileNotFoundError:
            return None

    def _open_or_miss(self, address: Address) -> int:
        """Look once more under the shard lock, where names do not change; remember the chunk as missing."""
        with self.held.shards.holding([address.id]):
            fd = self._open(address)
            if fd is None:
                fd = self._open_retired(address)
            if fd is not None:
                return fd
            entry = self.ledger.received(address)
            if entry is not None:
                self.ledger.drop(entry)
            with contextlib.suppress(sqlite3.Error):  # remembered in memory; the next reader finds out again
                self.ledger.mark(address, RowState.MISSING)
        raise ChunkNotFound(address.id.hex())

    def _open_retired(self, address: Address) -> int | None:
        """Who reads a chunk refers to it, whatever garbage collection thought: back with it, or read it where it lies.

        The caller holds its shard lock.
        """
        if not self.held.gate.read_only_reason:
            with contextlib.suppress(OSError, sqlite3.Error):
                take_back(self.held, self.ledger, address)
        fd = self._open(address)
        for row in [] if fd is not None else self.ledger.retired([address]):
            with contextlib.suppress(FileNotFoundError):
                fd = files.open_file(trash_path(row.epoch, chunk_name(address)), dir_fd=self.held.folders.chunks)
        return fd

    def _found_again(self, address: Address, stored_bytes: int) -> None:
        """A chunk believed missing was put back by hand, and is whole."""
        with self.held.shards.holding([address.id]), contextlib.suppress(sqlite3.Error):
            if self.ledger.received(address) is None and files.exists(
                final_path(chunk_name(address)), dir_fd=self.held.folders.chunks
            ):
                self.ledger.unmark(address, stored_bytes)

    def _checked(self, fd: int, address: Address) -> bytes | None:
        """The right bytes behind `fd`; None when they are wrong but the chunk was replaced meanwhile.

        Raises CorruptChunk, and the chunk is BAD then.
        """
        self.held.hook("get.read")
        size = os.fstat(fd).st_size
        if size > limits.CHUNK_BODY_BYTES_MAX:
            why = f"it has {size} bytes"
        else:
            data = files.read_all(fd, size)
            if not wrong(data, address):
                return data
            data = read_past_cache(fd)
            why = wrong(data, address)
            if not why:
                return data
        with self.held.shards.holding([address.id]):
            if not self._put_aside_if_named(fd, address):
                return None
        raise CorruptChunk(address.id.hex(), why)

    def _put_aside_if_named(self, fd: int, address: Address) -> bool:
        """Put the corrupt file behind `fd` aside if the chunk still names it; False when there is another by now.

        The caller holds the shard lock.
        """
        entry = self.ledger.received(address)
        name = chunk_name(address)
        if is_named(fd, final_path(name), self.held.folders.chunks):
            # A file received since is another one, and heals this: it must not go with it.
            healing = entry is not None and files.exists(name, dir_fd=self.held.arrivals)
            self._put_aside(address, None if healing else entry)
            return not healing
        elif entry is None or not is_named(fd, name, self.held.arrivals):
            return False
        elif files.exists(final_path(name), dir_fd=self.held.folders.chunks):
            self._drop_received(entry)
        else:
            self._put_aside(address, entry)
        return True

    def _put_aside(self, address: Address, entry: Received | None) -> None:
        """Mark a chunk bad and rename what it has of files to `.bad`. The caller holds its shard lock.

        The mark in memory comes first and always holds; where index or file system take no writes, the next open
        finds the same bytes under the same name and the next reader marks them again.
        """
        name = chunk_name(address)
        held = self.held
        places = [(held.folders.chunks, final_path(name))]
        if entry is not None:
            self.ledger.drop(entry)
            places.insert(0, (held.arrivals, name))
        with contextlib.suppress(OSError, sqlite3.Error):
            self.ledger.mark(address, RowState.BAD)
            held.prefixes.ensure(name[:4])
            for dir_fd, path in places:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path, final_path(name) + BAD_SUFFIX, src_dir_fd=dir_fd, dst_dir_fd=held.folders.chunks)
            held.flusher.folder(f"{CHUNKS}/{name[:4]}")

    def _drop_received(self, entry: Received) -> None:
        """A received chunk is corrupt, but an older one is in its place: that one counts again, with its mark."""
        self.ledger.drop(entry)
        files.unlink_quietly(entry.name, dir_fd=self.held.arrivals)
