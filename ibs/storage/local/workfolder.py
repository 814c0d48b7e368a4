"""Folders for work in progress: write sessions below `staging/`, read leases below `.ibs/leases/`.

`engine` uses them through `LocalStore.staging` and `LocalStore.leases`. A session's folder holds its record, its pin
journal, growing indexes, and hard links to the indexes of its base snapshots; a lease's folder holds hard links to the
indexes of the snapshot being read. Both are garbage-collection roots, and what a hard link names stays readable
when its snapshot is removed.

Sessions stop at the floor of free space. Leases do not, and may use the reserve: restores work on a full disk.

*Durability*: appended bytes survive the death of the process, not that of the machine, until `sync`. After a power
cut a reader must expect a file to be shorter than it was, or its tail to be zeros. `write` is durable and atomic.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.storage.local import files
from ibs.storage.local.held import Held
from ibs.storage.local.layout import DIR_MODE, FILE_MODE, SNAPSHOTS, TEMPORARY, check_file_name, parse_folder

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """One session or lease by its name; a value that holds nothing open. Thread-safe for different files.

    Methods raise NotFoundError when the folder or the file is gone, NoSpace, DatastoreReadOnly, DatastoreOffline.
    """

    held: Held
    area_path: str
    name: str
    essential: bool = False

    @property
    def path(self) -> str:
        """Relative to the store's root."""
        return f"{self.area_path}/{self.name}"

    def write(self, name: str, data: files.Buffer) -> None:
        """Write or overwrite a small file, whole or not at all. *Durability*: durable."""
        check_file_name(name)
        with self.held.writing(f"writing {name}"), self._opened() as fd:
            self._run(lambda: files.replace(name, data, dir_fd=fd))

    def append(self, name: str, data: files.Buffer, *, at: int | None = None) -> int:
        """Add bytes to the end; the file is made by its first bytes. Returns its new size.

        With `at` they are written from that offset, which must not lie past the end: a repeated append changes nothing.
        When the disk is full the file is as long as before.
        """
        check_file_name(name)
        with self.held.writing(f"appending to {name}"), self._opened() as folder:
            self._take(len(data))
            fd = os.open(name, _APPEND, FILE_MODE, dir_fd=folder)
            try:
                return self._append(fd, name, memoryview(data).cast("B"), at)
            finally:
                os.close(fd)

    def _append(self, fd: int, name: str, data: memoryview, at: int | None) -> int:
        size = os.fstat(fd).st_size
        start = size if at is None else at
        if not 0 <= start <= size:
            raise UsageError(f"{name} has {size} bytes; {start} is past its end")
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], start + done)
        except OSError:
            self.held.room.forget()
            os.ftruncate(fd, size)
            raise
        return max(size, start + len(data))

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`; fewer than `length` at the end. The caller bounds `length`."""
        check_file_name(name)
        with self.held.reading(f"reading {name}"), self._opened() as folder:
            try:
                return files.read_part(name, offset, sys.maxsize if length is None else length, dir_fd=folder)
            except FileNotFoundError as error:
                raise NotFoundError(f"{name} does not exist in {self.path}") from error

    def open(self, name: str) -> int:
        """A descriptor for reading, which stays good when the folder is removed. The caller closes it."""
        check_file_name(name)
        with self.held.reading(f"opening {name}"), self._opened() as folder:
            return self._open_file(name, folder)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when there is none."""
        check_file_name(name)
        with self.held.reading(f"looking at {name}"), self._opened() as folder:
            return files.size_of(name, dir_fd=folder)

    def truncate(self, name: str, size: int) -> None:
        """Cut a file back to `size` bytes."""
        check_file_name(name)
        with self.held.writing(f"cutting {name}"), self._opened() as folder:
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                if os.fstat(fd).st_size > size:
                    os.ftruncate(fd, size)
            finally:
                os.close(fd)

    def sync(self, name: str) -> None:
        """*Durability*: the file's bytes and its name are durable when this returns."""
        check_file_name(name)
        with self.held.writing(f"flushing {name}"), self._opened() as folder:
            try:
                files.sync_file(name, dir_fd=folder)
            except FileNotFoundError as error:
                raise NotFoundError(f"{name} does not exist in {self.path}") from error
            os.fsync(folder)

    def link(self, snapshot_folder: str, name: str, *, as_name: str) -> None:
        """Hard-link a file of a snapshot into this folder. Raises NotFoundError, ConflictError.

        *Durability*: the link is durable when this returns.
        """
        check_file_name(name)
        check_file_name(as_name)
        parse_folder(snapshot_folder)
        with self.held.writing(f"pinning {name}"), self._opened() as folder:
            self._take(0, 1)
            try:
                with files.opened(snapshot_folder.split("/"), dir_fd=self.held.folders.snapshots) as source:
                    self._run(
                        lambda: os.link(name, as_name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
                    )
            except FileNotFoundError as error:
                raise NotFoundError(f"{SNAPSHOTS}/{snapshot_folder}/{name} does not exist") from error
            except FileExistsError as error:
                raise ConflictError(f"{as_name} is pinned already") from error
            os.fsync(folder)

    def unlink(self, name: str) -> bool:
        """Remove a file; False when it was not there."""
        check_file_name(name)
        with self.held.writing(f"removing {name}"), self._opened() as folder:
            return files.unlink_if_there(name, dir_fd=folder)

    def names(self) -> list[str]:
        """Files in the folder, sorted; unfinished ones left out."""
        with self.held.reading("listing a work folder"), self._opened() as folder:
            return [name for name in files.names(folder) if not name.startswith(TEMPORARY)]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            fd = files.open_dirs(self.path.split("/"), dir_fd=self.held.folders.root)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.path} does not exist") from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _take(self, size: int, inodes: int = 0) -> None:
        if not self.essential:
            self.held.room.take(size, inodes)

    def _run(self, work: Callable[[], None]) -> None:
        _run(self.held, work, essential=self.essential)

    def _open_file(self, name: str, folder: int) -> int:
        try:
            return files.open_file(name, dir_fd=folder)
        except FileNotFoundError as error:
            raise NotFoundError(f"{name} does not exist in {self.path}") from error


@dataclass(frozen=True, slots=True)
class WorkArea:
    """All sessions, or all leases (`essential`), of a store. Names are 1-128 letters, digits, dots, dashes."""

    held: Held
    fd: int
    path: str
    essential: bool = False

    def create(self, name: str) -> WorkFolder:
        """A new, empty folder. Raises ConflictError when it exists. *Durability*: durable."""
        check_file_name(name)
        with self.held.writing(f"making {self.path}/{name}"):
            if not self.essential:
                self.held.room.take(0, 1)
            try:
                _run(self.held, lambda: os.mkdir(name, DIR_MODE, dir_fd=self.fd), essential=self.essential)
            except FileExistsError as error:
                raise ConflictError(f"{self.path}/{name} exists already") from error
            os.fsync(self.fd)
        return WorkFolder(self.held, self.path, name, self.essential)

    def folder(self, name: str) -> WorkFolder:
        """An existing folder. Raises NotFoundError."""
        check_file_name(name)
        with self.held.reading(f"opening {self.path}/{name}"):
            if not files.exists(name, dir_fd=self.fd):
                raise NotFoundError(f"{self.path}/{name} does not exist")
        return WorkFolder(self.held, self.path, name, self.essential)

    def names(self) -> list[str]:
        """Existing folders, sorted."""
        with self.held.reading(f"listing {self.path}"):
            return files.names(self.fd)

    def remove(self, name: str) -> None:
        """Remove a folder and its files; nothing happens when it is not there. Works on a full disk."""
        check_file_name(name)
        with self.held.writing(f"removing {self.path}/{name}"):
            self.held.reserve.retrying(lambda: files.remove_dir(name, dir_fd=self.fd))
            self.held.flusher.folder(self.path)
            self.held.room.forget()


def _run(held: Held, work: Callable[[], None], *, essential: bool) -> None:
    """Run repeatable work, with the reserve behind it when it is essential."""
    if essential:
        held.reserve.retrying(work)
    else:
        work()
