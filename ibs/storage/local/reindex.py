"""Making the chunk index say what the folders hold, while the store is in use: a folder at a time, each fix by itself.

Used inside `storage.local`. Nothing is trusted that is not looked at under the chunk's shard lock, where no other
thread changes it; what trash holds is left to the trash. Stopped at any point, what was fixed stays fixed.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from ibs.core.blob import HEADER_BYTES
from ibs.errors import CorruptChunk, FormatError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address, ChunkState
from ibs.storage.local import files, ownership, probe
from ibs.storage.local.chunkdb import ChunkDb, Row, RowState
from ibs.storage.local.held import Held
from ibs.storage.local.layout import BAD_SUFFIX, chunk_name, domain_prefix, parse_chunk_name
from ibs.storage.local.ledger import Ledger
from ibs.storage.local.reader import Reader, final_path, whole_on_disk
from ibs.storage.local.recover import remove_index
from ibs.storage.local.trouble import border


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What was looked at and set right. `unknown`: files of a key that the index does not know; opening settles it."""

    files: int = 0
    added: int = 0
    missing: int = 0
    found_again: int = 0
    bad: int = 0
    resized: int = 0
    unknown: int = 0

    def __add__(self, other: Reindexed) -> Reindexed:
        return Reindexed(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def fixed(self) -> int:
        """How many rows were wrong."""
        return self.added + self.missing + self.found_again + self.bad + self.resized


@dataclass(slots=True)
class Reindexer:
    """Of one open store. Thread-safe."""

    held: Held
    ledger: Ledger
    db: ChunkDb
    reader: Reader

    def damage(self) -> str:
        """What SQLite finds wrong with the index file itself; empty when nothing. Reads all of it."""
        with self.held.reading("checking the chunk index"):
            return self.db.damage()

    def reindex(self, first: int, last: int) -> Reindexed:
        """Compare the folders with prefixes from `first` up to `last` (not included) with the index, and set it right.

        *Durability*: as for any row; what is lost with power is found again by the next open.
        """
        done = Reindexed()
        with self.held.writing("rebuilding the chunk index"):
            domains = {domain_prefix(domain): domain for domain in (*self.db.domains(), PLAIN_DOMAIN)}
            for number in range(first, last):
                done += self._prefix(f"{number:04x}", domains)
        return done

    def _prefix(self, prefix: str, domains: dict[bytes, bytes]) -> Reindexed:
        rows = {chunk_name(row.address): row for row in self.db.iterate(prefix)}
        sizes = self._sizes(prefix)
        done = Reindexed()
        for name, size in sizes.items():
            parsed = parse_chunk_name(name)
            plain = name.removesuffix(BAD_SUFFIX)
            if parsed is None or (parsed.bad and plain in sizes):
                continue
            row = rows.pop(plain, None)
            domain = row.address.domain if row is not None else domains.get(parsed.domain_prefix)
            if domain is None:
                done += Reindexed(files=1, unknown=1)
                continue
            if row is None or row.state is not RowState.RETIRED:
                done += Reindexed(files=1) + self._settle(Address(domain, parsed.id), row, size, bad=parsed.bad)
        for row in rows.values():
            if row.state in (RowState.OK, RowState.SUSPECT):
                done += self._miss(row.address)
        return done

    def _sizes(self, prefix: str) -> dict[str, int]:
        if not self.held.prefixes.there(prefix):
            return {}
        with files.opened([prefix], dir_fd=self.held.folders.chunks) as folder, os.scandir(folder) as entries:
            found = {}
            for each in entries:
                with contextlib.suppress(FileNotFoundError):  # it went while we looked
                    if each.is_file(follow_symlinks=False):
                        found[each.name] = each.stat(follow_symlinks=False).st_size
            return found

    def _settle(self, address: Address, row: Row | None, size: int, *, bad: bool) -> Reindexed:
        """A file is there: what its row should say. The common case costs nothing more."""
        if row is not None and not bad and row.state in (RowState.OK, RowState.SUSPECT) and row.stored_bytes == size:
            return Reindexed()
        if row is not None and bad and row.state is RowState.BAD:
            return Reindexed()
        with self.held.shards.holding([address.id]):
            self.held.hook("reindex.row")
            if self.ledger.received(address) is not None:
                return Reindexed()  # a newer copy is on its way here
            path = final_path(chunk_name(address))
            now = files.size_of(path, dir_fd=self.held.folders.chunks)
            if now is None:
                return self._settle_bad(address) if bad else Reindexed()
            known = self.ledger.info([address])[0]
            if known.state is ChunkState.DURABLE and known.stored_bytes == now:
                return Reindexed()
            if row is None and known.state is ChunkState.ABSENT and now > HEADER_BYTES:
                # A name in its folder is durable and was proven before it got there: as at every opening.
                self.held.reserve.retrying(lambda: self.ledger.unmark(address, now))
                return Reindexed(added=1)
            return self._prove(address, path, now, known.state)

    def _prove(self, address: Address, path: str, size: int, state: ChunkState) -> Reindexed:
        """Index and folder disagree about a chunk that both know: its bytes decide."""
        try:
            whole = whole_on_disk(self.held.folders.chunks, path, address)
        except (FormatError, CorruptChunk):
            whole = False
        if not whole:
            self.reader.put_aside(address)
            return Reindexed(bad=1)
        self.held.reserve.retrying(lambda: self.ledger.unmark(address, size))
        return Reindexed(resized=1) if state is ChunkState.DURABLE else Reindexed(found_again=1)

    def _settle_bad(self, address: Address) -> Reindexed:
        """Only a `.bad` file is left of it."""
        name = final_path(chunk_name(address)) + BAD_SUFFIX
        if self.ledger.mark_of(address) is RowState.BAD or not files.exists(name, dir_fd=self.held.folders.chunks):
            return Reindexed()
        self.held.reserve.retrying(lambda: self.ledger.mark(address, RowState.BAD))
        return Reindexed(bad=1)

    def _miss(self, address: Address) -> Reindexed:
        with self.held.shards.holding([address.id]):
            self.held.hook("reindex.row")
            name = chunk_name(address)
            gone = not files.exists(final_path(name), dir_fd=self.held.folders.chunks)
            row = self.db.lookup([address]).get(address)
            counted = row is not None and row.state in (RowState.OK, RowState.SUSPECT)
            if not gone or not counted or self.ledger.received(address) is not None:
                return Reindexed()
            self.held.reserve.retrying(lambda: self.ledger.mark(address, RowState.MISSING))
            return Reindexed(missing=1)


def drop_index(path: str, uuid: str, store: str) -> None:
    """Remove the index of a store that is not open; the next opening rebuilds it from the chunks.

    Raises DatastoreOffline when the store is not there, or open somewhere.
    """
    with contextlib.ExitStack() as held, border(store, "removing the chunk index"):
        root = probe.open_root(path, store)
        held.callback(os.close, root)
        meta = probe.open_meta(root, path, store)
        held.callback(os.close, meta)
        probe.check_identity(meta, uuid, path, store)
        held.callback(os.close, ownership.take_lock(meta, store))
        remove_index(meta)
