"""Opening after any kind of stop: received chunks are proven or dropped, half-made snapshots go, the index is rebuilt.

Used inside `storage.local` (PROTOCOLS 1 and 4, DESIGN P4). Runs before the store takes its first call, so there are no
other threads. Everything here may itself be stopped at any point and run again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from ibs.core import limits
from ibs.core.blob import HEADER_BYTES, parse_header
from ibs.core.names import parse_time
from ibs.errors import FormatError, UsageError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.storage.local import files
from ibs.storage.local.chunkdb import ChunkDb, Found, RowState
from ibs.storage.local.held import Held
from ibs.storage.local.layout import (
    BAD_SUFFIX,
    BIN,
    BIN_RECORD,
    CHUNK_DB,
    CHUNKS,
    INCOMING,
    MANIFEST,
    TEMPORARY,
    ChunkName,
    chunk_name,
    domain_prefix,
    parse_chunk_name,
)
from ibs.storage.local.reader import final_path, whole_on_disk
from ibs.storage.local.revive import TRASH


def open_index(meta_fd: int) -> ChunkDb:
    """Open `.ibs/chunks.db`; a damaged one is removed and begun anew, empty and whole for no generation.

    Raises OSError, sqlite3.Error.
    """
    # The descriptor's own path: the configured one may lead elsewhere by now.
    path = f"/proc/self/fd/{meta_fd}/{CHUNK_DB}"
    try:
        db = ChunkDb(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # full, locked, not permitted: not damaged
            raise
        remove_index(meta_fd)
        db = ChunkDb(path)
    # SQLite goes by path: what it opened must be what the held folder holds.
    if not os.path.samestat(os.stat(db.path), os.stat(CHUNK_DB, dir_fd=meta_fd, follow_symlinks=False)):
        db.close()
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return db


def remove_index(meta_fd: int) -> None:
    """Remove the chunk index and its log."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        files.unlink_if_there(CHUNK_DB + suffix, dir_fd=meta_fd)


@dataclass(slots=True)
class Recovery:
    """What to do with one store before it opens. Methods raise OSError, sqlite3.Error, DatastoreReadOnly."""

    held: Held

    def settle_incoming(self) -> set[str]:
        """Prove every chunk that earlier opens received, promote the whole ones, drop the rest.

        Returns the names promoted. *Durability*: they are durable when it returns.
        """
        held = self.held
        epochs = files.folders(held.folders.incoming)
        if not epochs:
            return set()
        held.flusher.flush("barrier.sync")  # what the dead process wrote may still be on its way
        promoted: set[str] = set()
        for epoch in epochs:
            with files.opened([epoch], dir_fd=held.folders.incoming) as folder:
                for name in files.names(folder):
                    if self._settle(name, folder):
                        promoted.add(name)
            held.flusher.folder(f"{CHUNKS}/{INCOMING}/{epoch}")
        held.flusher.folder(CHUNKS)
        held.flusher.flush("publish.sync")
        for epoch in epochs:
            _remove_dir(epoch, held.folders.incoming)
        held.flusher.folder(f"{CHUNKS}/{INCOMING}")
        return promoted

    def _settle(self, name: str, folder: int) -> bool:
        parsed = parse_chunk_name(name)
        if parsed is None or parsed.bad or not self._is_whole(name, parsed.id, folder):
            with contextlib.suppress(IsADirectoryError):  # not ours; it does no harm here
                os.unlink(name, dir_fd=folder)
            return False
        held = self.held
        if not held.flusher.whole:
            files.sync_file(name, dir_fd=folder)
        held.hook("recover.promote")
        held.reserve.retrying(lambda: held.prefixes.ensure(name[:4]))
        held.reserve.retrying(
            lambda: os.rename(name, final_path(name), src_dir_fd=folder, dst_dir_fd=held.folders.chunks)
        )
        files.unlink_if_there(final_path(name) + BAD_SUFFIX, dir_fd=held.folders.chunks)
        held.flusher.folder(f"{CHUNKS}/{name[:4]}")
        return True

    def _is_whole(self, name: str, chunk_id: bytes, folder: int) -> bool:
        """Whether the disk gives the chunk back whole. A read that fails raises: it proves nothing."""
        try:
            domain = self._domain_of(name, folder)
            if domain is None or chunk_name(Address(domain, chunk_id)) != name:
                return False
            return whole_on_disk(folder, name, Address(domain, chunk_id))
        except FormatError:
            return False

    def _domain_of(self, path: str, dir_fd: int) -> bytes | None:
        """The domain in a chunk file's header; None when it has no good header."""
        fd = files.open_file(path, dir_fd=dir_fd)
        try:
            return parse_header(os.pread(fd, HEADER_BYTES, 0)).domain
        except FormatError:
            return None
        finally:
            os.close(fd)

    def scan(self, known_domains: list[bytes], healed: set[str]) -> Iterator[Found]:
        """Every chunk file in the folders, those in trash first: what is in its place as well is not retired.

        A bad file counts only where no other has its name.
        """
        domains = {domain_prefix(domain): domain for domain in (*known_domains, PLAIN_DOMAIN)}
        doubtful: list[tuple[ChunkName, int, bool]] = []
        yield from self._scan_trash(domains)
        for prefix in self.held.prefixes.all():
            with files.opened([prefix], dir_fd=self.held.folders.chunks) as folder:
                with os.scandir(folder) as entries:
                    sizes = {
                        each.name: each.stat(follow_symlinks=False).st_size
                        for each in entries
                        if each.is_file(follow_symlinks=False)
                    }
                for name, size in sizes.items():
                    parsed = parse_chunk_name(name)
                    if parsed is None or (parsed.bad and name.removesuffix(BAD_SUFFIX) in sizes):
                        continue
                    domain = domains.get(parsed.domain_prefix) or self._proven_domain(name, parsed, folder)
                    bad = parsed.bad or size <= HEADER_BYTES
                    if domain is None:
                        doubtful.append((parsed, size, bad))
                        continue
                    domains[parsed.domain_prefix] = domain
                    yield Found(Address(domain, parsed.id), size, bad=bad, healed=name in healed)
        for parsed, size, bad in doubtful:
            domain = domains.get(parsed.domain_prefix)
            if domain is not None:  # else no whole file tells what domain it is: nobody can ask for it
                yield Found(Address(domain, parsed.id), size, bad=bad)

    def _proven_domain(self, name: str, parsed: ChunkName, folder: int) -> bytes | None:
        """The domain in a whole chunk's header. A flipped bit must not make up a key that shuts out the real one."""
        if parsed.bad or not self._is_whole(name, parsed.id, folder):
            return None
        return self._domain_of(name, folder)

    def _scan_trash(self, domains: dict[bytes, bytes]) -> Iterator[Found]:
        with contextlib.suppress(FileNotFoundError), files.opened([TRASH], dir_fd=self.held.folders.chunks) as trash:
            for epoch in files.folders(trash):
                if not epoch.isdigit():
                    continue
                with files.opened([epoch], dir_fd=trash) as folder, os.scandir(folder) as entries:
                    for each in entries:
                        found = self._retired(each, folder, int(epoch), domains)
                        if found is not None:
                            yield found

    def _retired(self, entry: os.DirEntry[str], folder: int, epoch: int, domains: dict[bytes, bytes]) -> Found | None:
        parsed = parse_chunk_name(entry.name)
        if parsed is None or parsed.bad or not entry.is_file(follow_symlinks=False):
            return None
        if files.exists(final_path(entry.name), dir_fd=self.held.folders.chunks):
            files.unlink_quietly(entry.name, dir_fd=folder)
            return None
        domain = domains.get(parsed.domain_prefix) or self._proven_domain(entry.name, parsed, folder)
        if domain is None:
            return None
        domains[parsed.domain_prefix] = domain
        return Found(Address(domain, parsed.id), entry.stat(follow_symlinks=False).st_size, retired=epoch)

    def rebuild(self, db: ChunkDb, healed: set[str]) -> None:
        """Make the index say what the folders hold; settle bad marks on files that are there under their own name."""
        self.held.hook("recover.rebuild")
        db.rebuild(self.scan(db.domains(), healed), self.held.epoch)
        for row in list(db.marked()):
            path = final_path(chunk_name(row.address))
            if row.state is not RowState.BAD or not files.exists(path, dir_fd=self.held.folders.chunks):
                continue
            if whole_on_disk(self.held.folders.chunks, path, row.address):
                db.add([(row.address, row.stored_bytes, RowState.OK)], self.held.epoch)
            else:
                fd = self.held.folders.chunks
                os.rename(path, path + BAD_SUFFIX, src_dir_fd=fd, dst_dir_fd=fd)

    def sweep_litter(self) -> int:
        """Remove half-made and half-removed snapshots and temporary files; returns how many snapshots."""
        folders = self.held.folders
        with contextlib.suppress(OSError):  # litter in the store's own records harms nobody
            for name in files.names(folders.meta):
                if name.startswith(TEMPORARY):
                    files.unlink_quietly(name, dir_fd=folders.meta)
        for area in (folders.staging, folders.leases):
            for name in files.folders(area):
                with files.opened([name], dir_fd=area) as fd:
                    _remove_temporary(fd)
        self._sweep_trash()
        return self._sweep_bin() + self._sweep_snapshots(folders.snapshots, limits.NAMESPACE_DEPTH_MAX + 2)

    def _sweep_trash(self) -> None:
        """Half-written records; a folder that holds one would never be empty, and stay."""
        with contextlib.suppress(FileNotFoundError), files.opened([TRASH], dir_fd=self.held.folders.chunks) as trash:
            for epoch in files.folders(trash):
                with files.opened([epoch], dir_fd=trash) as fd:
                    _remove_temporary(fd)

    def _sweep_bin(self) -> int:
        """Entries that were half removed."""
        try:
            with files.opened([BIN], dir_fd=self.held.folders.meta) as bin_fd:
                return sum(self._sweep_snapshot(name, bin_fd, stray="") for name in files.folders(bin_fd))
        except FileNotFoundError:
            return 0

    def _sweep_snapshots(self, folder: int, depth: int) -> int:
        """Walk down to the snapshots: namespaces and types above, groups, then times."""
        swept = 0
        _remove_temporary(folder)
        for name in files.folders(folder):
            if _is_time(name):
                swept += self._sweep_snapshot(name, folder)
            elif depth:
                with files.opened([name], dir_fd=folder) as fd:
                    swept += self._sweep_snapshots(fd, depth - 1)
        return swept

    def _sweep_snapshot(self, name: str, folder: int, stray: str = BIN_RECORD) -> int:
        with files.opened([name], dir_fd=folder) as fd:
            if files.exists(MANIFEST, dir_fd=fd):
                _remove_temporary(fd)
                if stray:  # it never reached the bin, or came back from there
                    files.unlink_quietly(stray, dir_fd=fd)
                return 0
        self.held.hook("recover.sweep")
        return int(self.held.reserve.retrying(lambda: _remove_dir(name, folder)))


def _remove_dir(name: str, dir_fd: int) -> bool:
    """Remove a folder with its files; one that holds a folder, which we never make, stays and harms nobody."""
    try:
        files.remove_dir(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _is_time(name: str) -> bool:
    try:
        parse_time(name)
    except UsageError:
        return False
    return True


def _remove_temporary(folder: int) -> None:
    for name in files.names(folder):
        if name.startswith(TEMPORARY):
            files.unlink_quietly(name, dir_fd=folder)
