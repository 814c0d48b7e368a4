"""A datastore in a folder: the ChunkStore port on a local file system, and what `engine` needs around it.

Public face of `storage.local`; `engine` and `app` construct it. All calls are synchronous, thread-safe, and made from
the pool's disk lane. The parts behind it each own one concern; the package's docstring lists them.

Invariants: one process at a time has a store open (flock); nothing is reached through the configured path after
opening; nothing is written before identity and owner were found right.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

from ibs.core import limits
from ibs.errors import DatastoreOffline, UsageError
from ibs.ports.chunkstore import Address, ChunkInfo, ChunkRows, Counts, PutOutcome, Retired, Space, Trash
from ibs.storage.local import mode, ownership, probe
from ibs.storage.local.barrier import Barrier
from ibs.storage.local.bin import BinFiles
from ibs.storage.local.create import create_store
from ibs.storage.local.discard import Discarder
from ibs.storage.local.inspect import Checked, Inspector
from ibs.storage.local.layout import LEASES, META, STAGING, Generation, Owner
from ibs.storage.local.ledger import Ledger
from ibs.storage.local.opening import Opened, Options, Recovered, open_store
from ibs.storage.local.publish import Publisher
from ibs.storage.local.reader import Reader
from ibs.storage.local.receive import Receiver
from ibs.storage.local.records import StoreRecords
from ibs.storage.local.reindex import Reindexed, Reindexer
from ibs.storage.local.snapshots import SnapshotFiles
from ibs.storage.local.space import measure
from ibs.storage.local.trash import TrashCan
from ibs.storage.local.trouble import border
from ibs.storage.local.workfolder import WorkArea

_HEX = re.compile(r"[0-9a-f]{0,64}", re.ASCII)


class LocalStore:
    """An open store: implements ChunkStore. Made by `open`, ended by `close`, then every call says `offline`.

    `snapshots`: what is visible. `bin`: what was forgotten. `records`: small records. `staging`: folders of write
    sessions. `leases`: folders of readers. `recovered`: what opening found and did.
    """

    def __init__(self, opened: Opened, uuid: str, server: str) -> None:
        """Use `open`."""
        self._held = held = opened.held
        self._db = opened.db
        self._lock_fd = opened.lock_fd
        self._owner = opened.owner
        self._boot_id = opened.boot_id
        self._closing = threading.Lock()
        self._raising = threading.Lock()
        self._closed = False
        self._expected = probe.Expected(uuid, server, held.folders.root)
        self.name = held.name
        self.path = held.path
        self.uuid = uuid
        self.recovered: Recovered = opened.recovered
        self._ledger = ledger = Ledger(opened.db, held.gate, held.epoch)
        self._barrier = Barrier(held, ledger)
        self._receiver = Receiver(held, ledger)
        self._reader = Reader(held, ledger)
        self._discarder = Discarder(held, ledger)
        self._inspector = Inspector(held, ledger, opened.db, self._reader)
        self._reindexer = Reindexer(held, ledger, opened.db, self._reader)
        self._trash = TrashCan(held, ledger, opened.db, self.check_owner)
        self._publisher = Publisher(held, self._barrier, self.check_owner)
        self.snapshots = SnapshotFiles(held, self.check_owner)
        self.bin = BinFiles(held, self.check_owner)
        self.records = StoreRecords(held, self.check_owner)
        self.staging = WorkArea(held, held.folders.staging, STAGING)
        self.leases = WorkArea(held, held.folders.leases, f"{META}/{LEASES}", essential=True)

    # --- beginning and end ---

    @classmethod
    def create(cls, path: str, name: str, uuid: str, *, created: datetime) -> None:
        """Lay out a new store in an empty folder (0700). See `create.create_store`; open it afterwards.

        Raises UsageError, ConflictError. Whether `path` lies in or above another store is the caller's to ask:
        `find_store_above`, `contains_store`.
        """
        create_store(path, name, uuid, created)

    @classmethod
    def open(
        cls, path: str, uuid: str, server_uuid: str, *, name: str = "", options: Options | None = None
    ) -> LocalStore:
        """Open the store `uuid` at `path` for the server `server_uuid`; `name` is for messages.

        Takes as long as the last stop was bad: after an unclean one every received chunk is read and the index is
        rebuilt. Raises DatastoreOffline (`path does not exist`, `not mounted`, `wrong uuid`, `owner elsewhere`,
        `in use by another server`, `permission denied`, `damaged`), NoSpace, FailedError. Nothing is written into a
        folder that is not this store.
        """
        opened = open_store(path, uuid, server_uuid, name=name or path, options=options or Options())
        return cls(opened, uuid, server_uuid)

    def close(self, *, clean: bool = True) -> None:
        """End; waits for calls inside. A second call does nothing.

        With `clean` everything received is made durable and the stop is recorded as orderly; raises what prevents
        that, closed all the same. Without it nothing is written but the index's own log (for a store whose disk is
        gone): the next open treats it as a crash.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        held = self._held
        held.gate.go_offline("closed")
        held.gate.drain()
        try:
            if clean and not held.gate.read_only_reason:
                with border(self.name, "closing it", root_fd=held.folders.root):
                    self._end_clean()
        finally:
            self._db.close()
            held.close()
            os.close(self._lock_fd)

    def _end_clean(self) -> None:
        held = self._held
        ownership.check_fence(held.folders.meta, self.name, self._owner)
        self._barrier.run()
        self._db.close()
        self._barrier.sync()
        with contextlib.suppress(OSError):  # a leftover that nobody counted is looked at when the store opens next
            os.rmdir(held.arrivals_name, dir_fd=held.folders.incoming)
        ended = Generation(generation=held.epoch, clean=True, boot_id=self._boot_id)
        held.reserve.retrying(lambda: ownership.write_generation(held.folders.meta, ended))

    # --- chunks ---

    def put(self, address: Address, blob: bytes | bytearray | memoryview) -> PutOutcome:
        """See ChunkStore.put. Runs a barrier first when too much waits for one."""
        if self._ledger.is_full():
            self.barrier()
        return self._receiver.put(address, blob)

    def get(self, address: Address) -> bytes:
        """See ChunkStore.get. FailedError when the disk cannot read it, which says nothing about the chunk."""
        return self._reader.get(address)

    def get_range(self, address: Address, start: int, length: int) -> bytes:
        """See ChunkStore.get_range."""
        return self._reader.get_range(address, start, length)

    def info(self, addresses: Sequence[Address]) -> list[ChunkInfo]:
        """See ChunkStore.info. Durable ones are looked for on the disk: some 5 µs each while its inodes are cached."""
        with self._held.reading("looking up chunks"):
            return [self._reader.seen(info) for info in self._ledger.info(addresses)]

    def iterate(self, prefix: str = "") -> Iterator[ChunkInfo]:
        """See ChunkStore.iterate."""
        if not _HEX.fullmatch(prefix):
            raise UsageError(
                f"{prefix!r} is not the beginning of a chunk id", hint="use up to 64 lower-case hex digits"
            )
        source = self._ledger.iterate(prefix)
        while True:
            # Not held over a yield: a consumer that stops half way must not keep the store from closing.
            with self._held.reading("listing chunks"):
                batch = list(islice(source, limits.STORE_DB_BATCH_ROWS))
            if not batch:
                return
            yield from batch

    def barrier(self) -> int:
        """See ChunkStore.barrier. Concurrent callers share one flush."""
        with self._held.writing("making chunks durable"):
            return self._barrier.run()

    def sync(self) -> None:
        """Make every file written before this call durable, promoting nothing. Raises DatastoreReadOnly."""
        with self._held.writing("flushing"):
            self._barrier.sync()

    def mark_bad(self, address: Address) -> None:
        """See ChunkStore.mark_bad. Its file is kept aside as `.bad`."""
        self._reader.mark_bad(address)

    def mark_suspect(self, address: Address) -> None:
        """See ChunkStore.mark_suspect. Nothing happens to a chunk that is bad or absent."""
        self._reader.mark_suspect(address)

    def unavailable(self) -> frozenset[Address]:
        """See ChunkStore.unavailable. From memory; the same object until something changes."""
        with self._held.gate.reading():
            return self._ledger.unavailable()

    def discard(self, addresses: Sequence[Address]) -> int:
        """See ChunkStore.discard."""
        return self._discarder.discard(addresses)

    def check(self, addresses: Sequence[Address]) -> list[Checked]:
        """See Inspector.check: many chunks read from the disk and proven, for verification."""
        return self._inspector.check(addresses)

    def proven(self, addresses: Sequence[Address], since: int, until: int) -> list[int | None]:
        """See Inspector.proven: which need not be read again, and since when."""
        return self._inspector.proven(addresses, since, until)

    def index_damage(self) -> str:
        """See Reindexer.damage."""
        return self._reindexer.damage()

    def reindex(self, first: int, last: int) -> Reindexed:
        """See Reindexer.reindex: prefixes 0 to 65,536."""
        self.check_owner()
        return self._reindexer.reindex(first, last)

    def record_verified(self, addresses: Sequence[Address], when: int) -> None:
        """See ChunkStore.record_verified."""
        with self._held.writing("recording a verification"):
            self._held.reserve.retrying(lambda: self._db.record_verified(addresses, when))

    def verified(self, addresses: Sequence[Address]) -> list[int | None]:
        """See ChunkStore.verified."""
        with self._held.reading("looking up chunks"):
            rows = self._db.lookup(addresses)
            return [rows[a].verified_at if a in rows else None for a in addresses]

    # --- garbage collection ---

    def raise_epoch(self) -> int:
        """See ChunkStore.raise_epoch."""
        held = self._held
        with self._raising, held.writing("raising the generation"):
            self.check_owner()
            raised = Generation(generation=held.epoch + 1, clean=False, boot_id=self._boot_id)
            held.reserve.retrying(lambda: ownership.write_generation(held.folders.meta, raised))
            held.epoch = raised.generation
            held.reserve.retrying(lambda: self._ledger.raise_epoch(raised.generation))
            self._trash.tidy()
            return raised.generation

    def scan(self, first: bytes, last: bytes, epoch: int) -> Iterator[ChunkRows]:
        """See ChunkStore.scan. Promoted chunks only: run a barrier first."""
        source = self._ledger.scan(first, last, epoch)
        while True:
            with self._held.reading("listing chunks"):
                rows = next(source, None)
            if rows is None:
                return
            yield rows

    def retire(self, addresses: Sequence[Address], epoch: int, *, since: int, keep: bool = True) -> Retired:
        """See ChunkStore.retire."""
        return self._trash.retire(addresses, epoch, since=since, keep=keep)

    def revive(self, addresses: Sequence[Address]) -> Retired:
        """See ChunkStore.revive."""
        return self._trash.revive(addresses)

    def trash(self) -> list[Trash]:
        """See ChunkStore.trash. Looks at every retired row."""
        return self._trash.trash()

    def trashed(self, epoch: int) -> Iterator[ChunkInfo]:
        """See ChunkStore.trashed."""
        return self._trash.trashed(epoch)

    def reclaim(self, epoch: int, *, limit: int | None = None) -> Retired:
        """See ChunkStore.reclaim."""
        return self._trash.reclaim(epoch, limit=limit)

    # --- snapshots ---

    def publish(self, folder: str, files: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        """See ChunkStore.publish. `folder` as `snapshot_folder` gives it; a staged file is `SESSION/FILE`.

        Raises ConflictError when the snapshot exists. After any error nothing is visible and staging is untouched.
        """
        self._publisher.publish(folder, files, last)

    # --- state ---

    @property
    def epoch(self) -> int:
        """This open's generation; chunks acknowledged now get it."""
        return self._held.epoch

    @property
    def boot_id(self) -> str:
        """The machine's boot in which the store was opened; "" when that cannot be told."""
        return self._boot_id

    @property
    def status(self) -> tuple[str, str]:
        """`online`, `read-only` or `offline`, and the reason in plain words."""
        gate = self._held.gate
        if gate.offline_reason:
            return "offline", gate.offline_reason
        if gate.read_only_reason:
            return "read-only", gate.read_only_reason
        return "online", ""

    def read_mode(self) -> bytes:
        """The record of the datastore's mode; empty when there is none. Raises FormatError."""
        with self._held.reading("reading its mode"):
            return mode.read_mode(self._held.folders.meta)

    def write_mode(self, record: bytes) -> None:
        """Replace it, also in a store that a failed flush made read-only. Raises DatastoreReadOnly, DatastoreOffline.

        *Durability*: durable when it returns.
        """
        with self._held.reading("noting its mode"):
            self.check_owner()
            self._held.reserve.retrying(lambda: mode.write_mode(self._held.folders.meta, record))

    def check_owner(self) -> None:
        """Read the owner record again. Raises DatastoreOffline, and the store stays offline, when it is not ours."""
        with border(self.name, "reading the owner record", root_fd=self._held.folders.root):
            try:
                ownership.check_fence(self._held.folders.meta, self.name, self._owner)
            except DatastoreOffline as error:
                self._held.gate.go_offline(str(error.details["reason"]))
                raise

    def give_up(self) -> None:
        """Own it no more: any server may attach it next. Close it then. *Durability*: durable when it returns.

        Raises DatastoreOffline, DatastoreReadOnly.
        """
        with self._held.writing("giving the datastore up"):
            self.check_owner()
            nobody = Owner(server="", fence=self._owner.fence + 1)
            self._held.reserve.retrying(lambda: ownership.write_owner(self._held.folders.meta, nobody))
            self._owner = nobody

    def probe(self) -> list[probe.Check]:
        """Look at the configured path and compare it with what is held. Writes only into the right store."""
        try:
            with self._held.gate.reading():
                return probe.probe_path(self.path, self.name, self._expected)
        except DatastoreOffline as error:
            return [probe.Check("open", False, str(error.details["reason"]))]

    def counts(self) -> Counts:
        """See ChunkStore.counts."""
        with self._held.reading("counting chunks"):
            return self._ledger.counts()

    def space(self) -> Space:
        """See ChunkStore.space."""
        with self._held.reading("measuring space"):
            return measure(self._held.folders.root)
