"""Forgotten snapshots below `.ibs/bin/`: whole folders that were moved there by one rename, and can be moved back.

`engine` uses it through `LocalStore.bin`. An entry is a snapshot's folder under a name of its own, with a record
`bin.json` beside the snapshot's files. Like a snapshot it exists while its `manifest.json` does, and then keeps its
chunks. Invariant: at every point where the process may be stopped a snapshot is either in its place or in the bin,
whole. All of it works on a full disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ibs.core import limits
from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.storage.local import files
from ibs.storage.local.held import Held
from ibs.storage.local.layout import BIN, BIN_RECORD, MANIFEST, META, check_file_name, parse_folder
from ibs.storage.local.snapshots import make_folders


@dataclass(frozen=True, slots=True)
class BinFiles:
    """The bin of one store. Thread-safe; `engine` serialises what concerns one group. Methods may raise
    DatastoreOffline, and those that change something DatastoreReadOnly and NoSpace.
    """

    held: Held
    check_owner: Callable[[], None]

    # --- looking ---

    def entries(self) -> list[str]:
        """Names of what is in the bin, sorted."""
        with self.held.reading("listing the bin"):
            try:
                with files.opened([BIN], dir_fd=self.held.folders.meta) as bin_fd:
                    return [name for name in files.folders(bin_fd) if files.exists(f"{name}/{MANIFEST}", dir_fd=bin_fd)]
            except FileNotFoundError:
                return []

    def read(self, entry: str, name: str, *, limit: int = limits.MANIFEST_BYTES_MAX) -> bytes:
        """A whole small file of an entry. Raises NotFoundError; FormatError when it has more than `limit` bytes."""
        check_file_name(name)
        with self.held.reading(f"reading {name}"), self._entry(entry) as fd:
            try:
                return files.read_file(name, dir_fd=fd, limit=limit)
            except FileNotFoundError as error:
                raise NotFoundError(f"{META}/{BIN}/{entry} has no {name}") from error

    def read_part(self, entry: str, name: str, offset: int, count: int) -> bytes:
        """Up to `count` bytes of an entry's file from `offset`; fewer at its end. Raises NotFoundError."""
        check_file_name(name)
        with self.held.reading(f"reading {name}"), self._entry(entry) as fd:
            try:
                return files.read_part(name, offset, count, dir_fd=fd)
            except FileNotFoundError as error:
                raise NotFoundError(f"{META}/{BIN}/{entry} has no {name}") from error

    # --- moving ---

    def put(self, folder: str, entry: str, record: bytes) -> None:
        """Move the snapshot `folder` (as `snapshot_folder` gives it) into the bin as `entry`.

        Raises NotFoundError. *Durability*: durable when it returns; whenever it is stopped, done or not begun.
        """
        if parse_folder(folder)[2] is None:
            raise UsageError(f"{folder} is not a snapshot")
        check_file_name(entry)
        group, _, name = folder.rpartition("/")
        held = self.held
        with held.writing("moving a snapshot to the bin"), contextlib.ExitStack() as opened:
            self.check_owner()
            bin_fd = opened.enter_context(self._made())
            try:
                parent = opened.enter_context(files.opened(group.split("/"), dir_fd=held.folders.snapshots))
                fd = opened.enter_context(files.opened([name], dir_fd=parent))
            except FileNotFoundError as error:
                raise NotFoundError(f"snapshot {folder} does not exist") from error
            if not files.exists(MANIFEST, dir_fd=fd):
                raise NotFoundError(f"snapshot {folder} does not exist")
            held.hook("bin.record")
            held.reserve.retrying(lambda: files.replace(BIN_RECORD, record, dir_fd=fd))
            held.hook("bin.rename")
            self._move(name, parent, entry, bin_fd)
            held.hook("bin.done")
            os.fsync(bin_fd)
            os.fsync(parent)

    def undo(self, entry: str, folder: str) -> None:
        """Move an entry back to the snapshot `folder`. Raises NotFoundError; ConflictError when that exists.

        *Durability*: durable when it returns; whenever it is stopped, done or not begun.
        """
        if parse_folder(folder)[2] is None:
            raise UsageError(f"{folder} is not a snapshot")
        group, _, name = folder.rpartition("/")
        held = self.held
        with held.writing("taking a snapshot out of the bin"), contextlib.ExitStack() as opened:
            self.check_owner()
            fd = opened.enter_context(self._entry(entry))
            bin_fd = opened.enter_context(self._made())
            parent = opened.enter_context(make_folders(held, group.split("/")))
            if files.exists(f"{name}/{MANIFEST}", dir_fd=parent):
                raise ConflictError(f"snapshot {folder} exists already")
            held.reserve.retrying(lambda: files.remove_dir(name, dir_fd=parent))
            held.hook("undo.rename")
            self._move(entry, bin_fd, name, parent)
            held.hook("undo.done")
            os.fsync(parent)
            os.fsync(bin_fd)
            files.unlink_quietly(BIN_RECORD, dir_fd=fd)  # says nothing any more; litter goes at the next open

    def purge(self, entry: str) -> None:
        """Remove an entry: its manifest first and durably, then the rest. Raises NotFoundError.

        The same promises as `SnapshotFiles.remove`.
        """
        held = self.held
        with held.writing("emptying the bin"), self._made() as bin_fd:
            self.check_owner()
            with self._entry(entry) as fd:
                held.hook("purge.manifest")
                held.reserve.retrying(lambda: os.unlink(MANIFEST, dir_fd=fd))
                os.fsync(fd)
            held.manifests_removed = True
            held.hook("purge.files")
            held.reserve.retrying(lambda: files.remove_dir(entry, dir_fd=bin_fd))
            os.fsync(bin_fd)
            held.room.forget()

    # --- inside ---

    def _move(self, name: str, source: int, as_name: str, target: int) -> None:
        self.held.reserve.retrying(lambda: os.rename(name, as_name, src_dir_fd=source, dst_dir_fd=target))

    @contextlib.contextmanager
    def _made(self) -> Iterator[int]:
        """The bin's folder, made by the first who needs it: stores of earlier versions have none."""
        meta = self.held.folders.meta
        if self.held.reserve.retrying(lambda: files.make_dir(BIN, dir_fd=meta)):
            os.fsync(meta)
        with files.opened([BIN], dir_fd=meta) as fd:
            yield fd

    @contextlib.contextmanager
    def _entry(self, entry: str) -> Iterator[int]:
        check_file_name(entry)
        try:
            fd = files.open_dirs([BIN, entry], dir_fd=self.held.folders.meta)
        except FileNotFoundError as error:
            raise NotFoundError(f"{META}/{BIN}/{entry} does not exist") from error
        try:
            if not files.exists(MANIFEST, dir_fd=fd):
                raise NotFoundError(f"{META}/{BIN}/{entry} does not exist")
            yield fd
        finally:
            os.close(fd)
