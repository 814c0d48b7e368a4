"""The trash of a local store: chunks that garbage collection retired, kept by epoch until their grace has passed.

Used inside `storage.local` (PROTOCOLS 4, 11, 13, 15; DESIGN P5-P7). A retired chunk lies under its own name in
`chunks/trash/<epoch>/`, so that folder is the durable list of its epoch; `about.json` in it says since when. Orders:

* retire: row (committed) - file moves. Stopped between: the file is in its place, and the next opening says so.
* revive: file moves - row. Stopped between: the row still says retired, and whoever asks next finds the file.
* reclaim: row (committed) - file goes. Stopped between: the next opening finds the file in trash.

Every step of one chunk happens under its shard lock. Works on a full disk: the reserve is behind every step, and
with `keep` False nothing is made, only removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from ibs.core import limits
from ibs.errors import FormatError, UsageError
from ibs.ports.chunkstore import Address, ChunkInfo, Retired, Trash
from ibs.storage.local import files
from ibs.storage.local.chunkdb import ChunkDb, Row, RowState, batched
from ibs.storage.local.discard import flush_removals
from ibs.storage.local.held import Held
from ibs.storage.local.layout import BAD_SUFFIX, CHUNKS, chunk_name
from ibs.storage.local.ledger import Ledger, row_info
from ibs.storage.local.reader import final_path
from ibs.storage.local.revive import ABOUT, TRASH, take_back, trash_path


class About(msgspec.Struct, frozen=True, kw_only=True):
    """`about.json` of an epoch's trash. `since` in seconds, as the last `retire` was told."""

    format: int = 1
    epoch: int
    since: int


@dataclass(slots=True)
class TrashCan:
    """The trash of one store. Thread-safe."""

    held: Held
    ledger: Ledger
    db: ChunkDb
    check_owner: Callable[[], None]
    _since: dict[int, int] = field(default_factory=dict)

    # --- into it ---

    def retire(self, addresses: Sequence[Address], epoch: int, *, since: int, keep: bool) -> Retired:
        """See ChunkStore.retire. *Cancellation*: by batch; what a batch began is finished."""
        if epoch > self.held.epoch:
            raise UsageError(f"epoch {epoch} has not begun")
        flush_removals(self.held)
        self.check_owner()
        done = Retired()
        if keep:
            self._begin(epoch, since)
        for batch in batched(addresses, limits.STORE_RETIRE_BATCH_CHUNKS):
            with self.held.writing("retiring chunks"), self.held.shards.holding([address.id for address in batch]):
                done += self._retire(batch, epoch, keep=keep)
        if done.freed_bytes:
            self.held.room.forget()
            self.held.reserve.fill()
        return done

    def _begin(self, epoch: int, since: int) -> None:
        """The epoch's folder, with the time from which its grace counts."""
        known = self._since.get(epoch)
        if known is not None and since - known < limits.STORE_TRASH_SINCE_GRAIN_SECONDS:
            return
        with self.held.writing("making room in trash"):
            self.held.reserve.retrying(lambda: self._write_about(epoch, since))
        self._since[epoch] = since

    def _write_about(self, epoch: int, since: int) -> None:
        chunks = self.held.folders.chunks
        for parts in ([], [TRASH]):
            with files.opened(parts, dir_fd=chunks) as fd:
                files.make_dir(TRASH if not parts else str(epoch), dir_fd=fd)
                os.fsync(fd)
        with files.opened([TRASH, str(epoch)], dir_fd=chunks) as fd:
            files.replace(ABOUT, msgspec.json.encode(About(epoch=epoch, since=since)) + b"\n", dir_fd=fd)

    def _retire(self, batch: list[Address], epoch: int, *, keep: bool) -> Retired:
        rows = self.ledger.retirable(batch, epoch)
        moving = [row for row in rows if keep and row.state is not RowState.BAD]
        gone = [row for row in rows if not keep or row.state is RowState.BAD]
        self.held.hook("retire.row")
        self.held.reserve.retrying(
            lambda: self.ledger.retire([row.address for row in moving], [row.address for row in gone], epoch)
        )
        for at, row in enumerate(moving):
            try:
                self.held.hook("retire.file")
                self._move(row, epoch)
            except OSError:
                # Their rows said trash a moment too early: they stay where they are, and say so again.
                self.held.reserve.retrying(lambda at=at: self.ledger.put_back(moving[at:]))  # type: ignore[misc]
                raise
        freed = 0
        for row in gone:
            self.held.hook("retire.free")
            freed += self._remove_file(row)
        return Retired(
            chunks=len(moving),
            bytes=sum(row.stored_bytes for row in moving),
            freed_chunks=len(gone),
            freed_bytes=freed,
            spared=len(batch) - len(rows),
        )

    def _move(self, row: Row, epoch: int) -> None:
        name, fd = chunk_name(row.address), self.held.folders.chunks
        try:
            self.held.reserve.retrying(
                lambda: os.rename(final_path(name), trash_path(epoch, name), src_dir_fd=fd, dst_dir_fd=fd)
            )
        except FileNotFoundError:
            if files.exists(final_path(name), dir_fd=fd):
                raise
            # Vanished behind our back; nobody wants it, so nobody misses it.
            self.held.reserve.retrying(lambda: self.ledger.forget([row.address]))
        self.held.flusher.folder(f"{CHUNKS}/{name[:4]}")
        self.held.flusher.folder(f"{CHUNKS}/{TRASH}/{epoch}")

    def _remove_file(self, row: Row) -> int:
        path, freed = final_path(chunk_name(row.address)), 0
        for each in (path, path + BAD_SUFFIX):
            size = files.size_of(each, dir_fd=self.held.folders.chunks)
            if size is not None and files.unlink_if_there(each, dir_fd=self.held.folders.chunks):
                freed += size
        self.held.flusher.folder(f"{CHUNKS}/{path[:4]}")
        return freed

    # --- out of it ---

    def revive(self, addresses: Sequence[Address]) -> Retired:
        """See ChunkStore.revive."""
        done = Retired()
        for batch in batched(addresses, limits.STORE_DISCARD_BATCH_CHUNKS):
            with self.held.writing("reviving chunks"), self.held.shards.holding([address.id for address in batch]):
                for row in self.ledger.retired(batch):
                    if take_back(self.held, self.ledger, row.address) is not None:
                        done += Retired(chunks=1, bytes=row.stored_bytes)
        self.tidy()
        return done

    def reclaim(self, epoch: int, *, limit: int | None) -> Retired:
        """See ChunkStore.reclaim. *Cancellation*: by batch; what a batch began is finished."""
        flush_removals(self.held)
        self.check_owner()
        done = Retired()
        rows = islice(self.db.trashed(epoch), limit)
        while True:
            with self.held.reading("looking at trash"):
                batch = [row.address for row in islice(rows, limits.STORE_RETIRE_BATCH_CHUNKS)]
            if not batch:
                break
            with self.held.writing("emptying trash"), self.held.shards.holding([address.id for address in batch]):
                done += self._reclaim(batch, epoch)
        self.tidy()
        self.held.room.forget()
        self.held.reserve.fill()
        return done

    def _reclaim(self, batch: list[Address], epoch: int) -> Retired:
        fd, doomed = self.held.folders.chunks, []
        for row in self.ledger.retired(batch):
            name = chunk_name(row.address)
            if row.epoch != epoch:
                continue
            if files.exists(trash_path(epoch, name), dir_fd=fd) or not files.exists(final_path(name), dir_fd=fd):
                doomed.append(row.address)
            else:  # a revival that was stopped half way
                take_back(self.held, self.ledger, row.address)
        self.held.hook("reclaim.row")
        self.held.reserve.retrying(lambda: self.ledger.forget(doomed))
        freed = 0
        for address in doomed:
            self.held.hook("reclaim.file")
            path = trash_path(epoch, chunk_name(address))
            size = files.size_of(path, dir_fd=fd)
            if size is not None and files.unlink_if_there(path, dir_fd=fd):
                freed += size
        self.held.flusher.folder(f"{CHUNKS}/{TRASH}/{epoch}")
        return Retired(freed_chunks=len(doomed), freed_bytes=freed)

    # --- what is in it ---

    def trash(self) -> list[Trash]:
        """See ChunkStore.trash."""
        with self.held.reading("looking at trash"):
            return [Trash(epoch, self._since_of(epoch), chunks, size) for epoch, chunks, size in self.db.trash()]

    def trashed(self, epoch: int) -> Iterator[ChunkInfo]:
        """See ChunkStore.trashed."""
        rows = self.db.trashed(epoch)
        while True:
            with self.held.reading("looking at trash"):
                batch = list(islice(rows, limits.STORE_DB_BATCH_ROWS))
            if not batch:
                return
            yield from map(row_info, batch)

    def _since_of(self, epoch: int) -> int | None:
        if epoch not in self._since:
            try:
                path = trash_path(epoch, ABOUT)
                data = files.read_file(path, dir_fd=self.held.folders.chunks, limit=limits.STORE_RECORD_BYTES_MAX)
                self._since[epoch] = msgspec.json.decode(data, type=About).since
            except (FileNotFoundError, FormatError, msgspec.MsgspecError):
                return None
        return self._since[epoch]

    def tidy(self) -> None:
        """Remove folders of earlier epochs that have nothing in trash any more."""
        with self.held.writing("tidying trash"):
            used = {epoch for epoch, _, _ in self.db.trash()}
            try:
                with files.opened([TRASH], dir_fd=self.held.folders.chunks) as fd:
                    for name in files.folders(fd):
                        if name.isdigit() and int(name) not in used and int(name) < self.held.epoch:
                            self._remove_folder(name, fd)
            except FileNotFoundError:
                return
            self.held.flusher.folder(f"{CHUNKS}/{TRASH}")

    def _remove_folder(self, name: str, trash: int) -> None:
        with files.opened([name], dir_fd=trash) as fd:
            if [each for each in files.names(fd) if each != ABOUT]:
                return  # what no row tells of is settled at the next opening
            files.unlink_if_there(ABOUT, dir_fd=fd)
        os.rmdir(name, dir_fd=trash)
        self._since.pop(int(name), None)
