"""Read leases: what keeps a snapshot's chunks alive while somebody reads it (PROTOCOLS 11, DESIGN P7).

Used by `engine.readers` and `engine.references`. A lease is a folder of hard links below `.ibs/leases/`. On a store
that takes no writes (full, or its disk failing) restores must work all the same: there a lease is a set of open
descriptors in this process, which protects as well for as long as it runs; leases never outlive it anyway.
Synchronous; call from the pool.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from ibs.engine.folders import StoredSnapshot
from ibs.engine.indexes import IndexFile, linked_index
from ibs.errors import DatastoreReadOnly, FailedError, NoSpace, NotFoundError
from ibs.storage.local import LocalStore, SnapshotFiles, WorkFolder

LEASE_FILE = "lease.json"


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`lease.json`: whose lease it is, for people who look at the folder."""

    format: int = 1
    snapshot: str
    auth_id: str
    purpose: str
    opened: str
    upid: str


class Lease(Protocol):
    """The pinned files of one snapshot: its indexes and blobs."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Bytes of a file; fewer at its end. Raises NotFoundError."""
        ...

    def index(self, archive: str) -> IndexFile:
        """The index of an archive. Raises NotFoundError, FormatError."""
        ...

    def release(self) -> None:
        """Protect nothing any more. A second call does nothing."""
        ...


class LinkedLease:
    """Hard links in a folder of the store."""

    def __init__(self, store: LocalStore, folder: WorkFolder) -> None:
        self._store = store
        self._folder = folder

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._folder.read(name, offset=offset, length=length)

    def index(self, archive: str) -> IndexFile:
        return linked_index(self._folder, f"{archive}.idx")

    def release(self) -> None:
        with contextlib.suppress(DatastoreReadOnly):  # it goes when the store is opened next
            self._store.leases.remove(self._folder.name)


class HeldLease:
    """Open descriptors. What they name stays readable when the snapshot is removed. Thread-safe."""

    def __init__(self, book: LeaseBook, reader_id: str) -> None:
        self._book = book
        self._reader_id = reader_id
        self._lock = threading.Lock()
        self._fds: dict[str, int] = {}

    def add(self, files: SnapshotFiles, folder: str, name: str) -> None:
        """Raises NotFoundError."""
        fd = files.open(folder, name)
        with self._lock:
            self._fds[name] = fd

    def read(self, name: str, offset: int, length: int) -> bytes:
        # Under the lock, so that no descriptor is closed, and its number used for another file, while it is read.
        with self._lock:
            fd = self._fds.get(name)
            if fd is None:
                raise NotFoundError(f"the lease has no file {name}")
            pieces: list[bytes] = []
            try:
                while length and (piece := os.pread(fd, length, offset)):
                    pieces.append(piece)
                    offset += len(piece)
                    length -= len(piece)
            except OSError as error:
                raise FailedError(f"reading {name} failed: {error.strerror}", hint="check the disk") from error
        return b"".join(pieces)

    def index(self, archive: str) -> IndexFile:
        name = f"{archive}.idx"
        return IndexFile(lambda offset, count: self.read(name, offset, count), name)

    def indexes(self) -> Iterator[tuple[str, IndexFile]]:
        """Every index it pins, by file name."""
        with self._lock:
            names = [name for name in self._fds if name.endswith(".idx")]
        for name in names:
            try:
                yield name, self.index(name.removesuffix(".idx"))
            except NotFoundError:
                return  # released since

    def release(self) -> None:
        self._book.drop(self._reader_id)
        with self._lock:
            fds, self._fds = self._fds, {}
        for fd in fds.values():
            os.close(fd)


class LeaseBook:
    """The leases of one store that exist only in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, HeldLease] = {}

    def held(self) -> Sequence[tuple[str, HeldLease]]:
        """Those in force, by reader id."""
        with self._lock:
            return list(self._held.items())

    def drop(self, reader_id: str) -> None:
        """Forget one."""
        with self._lock:
            self._held.pop(reader_id, None)

    def take(self, store: LocalStore, stored: StoredSnapshot, reader_id: str, record: LeaseRecord) -> Lease:
        """A lease on all files that the manifest lists. Raises NotFoundError, and then nothing is left of it."""
        names = [f"{archive.name}.idx" for archive in stored.manifest.archives]
        names += [blob.name for blob in stored.manifest.blobs]
        try:
            return self._link(store, stored, reader_id, record, names)
        except (NoSpace, DatastoreReadOnly):
            return self._hold(store, stored, reader_id, names)

    def _link(
        self, store: LocalStore, stored: StoredSnapshot, reader_id: str, record: LeaseRecord, names: Sequence[str]
    ) -> Lease:
        folder = store.leases.create(reader_id)
        try:
            folder.write(LEASE_FILE, msgspec.json.encode(record))
            for name in names:
                folder.link(stored.folder, name, as_name=name)
        except BaseException:
            store.leases.remove(reader_id)
            raise
        return LinkedLease(store, folder)

    def _hold(self, store: LocalStore, stored: StoredSnapshot, reader_id: str, names: Sequence[str]) -> Lease:
        lease = HeldLease(self, reader_id)
        try:
            for name in names:
                lease.add(store.snapshots, stored.folder, name)
        except BaseException:
            lease.release()
            raise
        with self._lock:
            self._held[reader_id] = lease
        return lease
