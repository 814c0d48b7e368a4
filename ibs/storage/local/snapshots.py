"""The visible side of a store: namespaces, groups, snapshots and their files below `ns/`.

`engine` uses it through `LocalStore.snapshots`. Folders are named relative to `ns/`, as `layout.snapshot_folder` and
`layout.group_folder` give them. A snapshot exists when its `manifest.json` does: a folder without one is not listed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from ibs.core import limits
from ibs.core.names import BACKUP_TYPES, Group, Namespace, SnapshotName, parse_time
from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.storage.local import files
from ibs.storage.local.held import Held
from ibs.storage.local.layout import (
    GROUP_MARK,
    GROUP_OWNER,
    MANIFEST,
    SIGNATURE,
    STATE,
    TEMPORARY,
    check_file_name,
    group_folder,
    parse_folder,
    snapshot_folder,
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Changes whenever files appear in, are replaced in, or go from a folder, and when what a snapshot says of itself
    is written in place (a repair by hand): a key for caches. `said`: inode, length, time of change of each such file.
    """

    inode: int
    mtime_ns: int
    said: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """Snapshots of one store. Thread-safe. Every method may raise DatastoreOffline."""

    held: Held
    check_owner: Callable[[], None]

    # --- listing ---

    def namespaces(self) -> list[Namespace]:
        """The root and every namespace below, each before those in it."""
        with self.held.reading("listing namespaces"):
            found = [Namespace()]
            for space in found:  # grows while it is walked
                if len(space.parts) == limits.NAMESPACE_DEPTH_MAX:
                    continue
                for name in self._names("/".join(f"@{part}" for part in space.parts)):
                    if name.startswith("@"):
                        with contextlib.suppress(UsageError):
                            found.append(Namespace((*space.parts, name[1:])))
            return found

    def groups(self, namespace: Namespace) -> list[Group]:
        """Groups directly in a namespace, empty ones included, sorted."""
        with self.held.reading("listing groups"):
            found = []
            space = "/".join(f"@{part}" for part in namespace.parts)
            for kind in BACKUP_TYPES:
                for name in self._names(f"{space}/{kind}" if space else kind):
                    with contextlib.suppress(UsageError):
                        found.append(Group(kind, name))
            return sorted(found)

    def times(self, namespace: Namespace, group: Group) -> list[datetime]:
        """Times of the existing snapshots of a group, oldest first; empty when there is no such group."""
        with self.held.reading("listing snapshots"):
            folder = group_folder(namespace, group)
            found = []
            for name in self._names(folder):
                with contextlib.suppress(UsageError):
                    moment = parse_time(name)
                    if self._has_manifest(f"{folder}/{name}"):
                        found.append(moment)
            return sorted(found)

    def names(self, folder: str) -> list[str]:
        """Files of a snapshot or group, unfinished ones left out. Raises NotFoundError."""
        with self._opened(folder, "listing files") as fd:
            return [name for name in files.names(fd) if not name.startswith(TEMPORARY)]

    def exists(self, name: SnapshotName) -> bool:
        """Whether the snapshot (with its time) is there."""
        with self.held.reading("looking for a snapshot"):
            return self._has_manifest(snapshot_folder(name))

    def stamp(self, folder: str) -> Stamp | None:
        """See `Stamp`; None when the folder is not there."""
        parse_folder(folder)
        with self.held.reading("looking at a folder"):
            try:
                seen = os.stat(folder, dir_fd=self.held.folders.snapshots, follow_symlinks=False)
            except FileNotFoundError:
                return None
            said = []
            for name in (MANIFEST, SIGNATURE, STATE):
                with contextlib.suppress(FileNotFoundError):
                    file = os.stat(f"{folder}/{name}", dir_fd=self.held.folders.snapshots, follow_symlinks=False)
                    said.append((file.st_ino, file.st_size, file.st_ctime_ns))
            return Stamp(seen.st_ino, seen.st_mtime_ns, tuple(said))

    # --- reading ---

    def read(self, folder: str, name: str, *, limit: int = limits.MANIFEST_BYTES_MAX) -> bytes:
        """A whole small file. Raises NotFoundError; FormatError when it has more than `limit` bytes."""
        check_file_name(name)
        with self._opened(folder, f"reading {name}") as fd:
            try:
                return files.read_file(name, dir_fd=fd, limit=limit)
            except FileNotFoundError as error:
                raise NotFoundError(f"{folder} has no {name}") from error

    def read_part(self, folder: str, name: str, offset: int, count: int) -> bytes:
        """Up to `count` bytes of a file from `offset`; fewer at its end. Raises NotFoundError."""
        check_file_name(name)
        with self._opened(folder, f"reading {name}") as fd:
            try:
                return files.read_part(name, offset, count, dir_fd=fd)
            except FileNotFoundError as error:
                raise NotFoundError(f"{folder} has no {name}") from error

    def open(self, folder: str, name: str) -> int:
        """A descriptor for reading, which stays good when the snapshot is removed. The caller closes it.

        Raises NotFoundError.
        """
        check_file_name(name)
        with self._opened(folder, f"opening {name}") as fd:
            try:
                return files.open_file(name, dir_fd=fd)
            except FileNotFoundError as error:
                raise NotFoundError(f"{folder} has no {name}") from error

    def size(self, folder: str, name: str) -> int | None:
        """Bytes of a file; None when there is none."""
        check_file_name(name)
        with self._opened(folder, f"looking at {name}") as fd:
            return files.size_of(name, dir_fd=fd)

    # --- changing ---

    def write_state(self, folder: str, data: bytes) -> None:
        """Replace a snapshot's `state.json`, atomically. Raises NotFoundError. *Durability*: durable.

        Works on a full disk as long as the reserve does.
        """
        self._replace(folder, STATE, data)

    def write_file(self, folder: str, name: str, data: bytes) -> None:
        """Put a whole file into a snapshot's folder in the place of a damaged one, atomically. Raises NotFoundError,
        NoSpace. *Durability*: durable. Whoever has the old one open or linked keeps that.
        """
        check_file_name(name)
        with self._opened(folder, f"mending {name}", writing=True) as fd:
            self.check_owner()
            self.held.room.take(len(data), 1)
            files.replace(name, data, dir_fd=fd)

    def write_group_owner(self, namespace: Namespace, group: Group, data: bytes) -> None:
        """Replace a group's `owner.json`, atomically; the group's folder is made when needed. *Durability*: durable."""
        folder = group_folder(namespace, group)
        with self.held.writing("making a group"):
            self.check_owner()
            with make_folders(self.held, folder.split("/")):
                pass
        self._replace(folder, GROUP_OWNER, data)

    def write_group_mark(self, namespace: Namespace, group: Group, data: bytes) -> None:
        """Replace a group's `last.json`, atomically. Raises NotFoundError. *Durability*: durable."""
        self._replace(group_folder(namespace, group), GROUP_MARK, data)

    def make_namespace(self, namespace: Namespace) -> None:
        """Make a namespace and those above it; nothing happens when it is there. *Durability*: durable."""
        with self.held.writing("making a namespace"):
            self.check_owner()
            self.held.room.take(0, len(namespace.parts))
            with make_folders(self.held, [f"@{part}" for part in namespace.parts]):
                pass

    def remove_namespace(self, namespace: Namespace, groups: Sequence[Group]) -> None:
        """Remove a namespace without snapshots and namespaces, with what these groups left (their owners).

        The caller holds their locks. Raises NotFoundError, UsageError for the root, ConflictError when something is in
        it. Works on a full disk.
        """
        if not namespace.parts:
            raise UsageError("the root namespace is always there")
        *above, name = [f"@{part}" for part in namespace.parts]
        remove_dir, retrying = files.remove_dir, self.held.reserve.retrying
        with self.held.writing("removing a namespace"):
            self.check_owner()
            try:
                with files.opened(above, dir_fd=self.held.folders.snapshots) as parent:
                    with files.opened([name], dir_fd=parent) as fd:
                        for group in groups:
                            self._remove_group(group, fd)
                        for kind in BACKUP_TYPES:
                            retrying(partial(_remove_empty, kind, fd))
                    retrying(lambda: remove_dir(name, dir_fd=parent))
                    os.fsync(parent)
            except FileNotFoundError as error:
                raise NotFoundError(f"namespace {namespace} does not exist") from error
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise ConflictError(f"namespace {namespace} is not empty") from error

    def _remove_group(self, group: Group, space: int) -> None:
        """The folder of a group without snapshots. Raises OSError (ENOTEMPTY)."""
        try:
            with files.opened([group.backup_type], dir_fd=space) as fd:
                with files.opened([group.backup_id], dir_fd=fd) as inside:
                    if files.folders(inside):
                        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
                self.held.reserve.retrying(lambda: files.remove_dir(group.backup_id, dir_fd=fd))
        except FileNotFoundError:
            return

    def remove(self, folder: str) -> None:
        """Remove a snapshot: its manifest first and durably, then the rest. Raises NotFoundError.

        Chunks that only it named may be discarded afterwards: `discard` flushes everything first. Stopped half way,
        the snapshot no longer exists; what is left of it goes when the store is opened next.
        Works on a full disk.
        """
        if parse_folder(folder)[2] is None:
            raise UsageError(f"{folder} is not a snapshot")
        group, _, name = folder.rpartition("/")
        with self._opened(group, "removing a snapshot", writing=True) as parent:
            self.check_owner()
            try:
                with files.opened([name], dir_fd=parent) as fd:
                    self.held.hook("remove.manifest")
                    self.held.reserve.retrying(lambda: os.unlink(MANIFEST, dir_fd=fd))
                    os.fsync(fd)
            except FileNotFoundError as error:
                raise NotFoundError(f"snapshot {folder} does not exist") from error
            self.held.manifests_removed = True
            self.held.hook("remove.files")
            self.held.reserve.retrying(lambda: files.remove_dir(name, dir_fd=parent))
            os.fsync(parent)
            self.held.room.forget()

    # --- inside ---

    def _replace(self, folder: str, name: str, data: bytes) -> None:
        if len(data) > limits.STORE_STATE_BYTES_MAX:
            raise UsageError(f"{name} of {len(data)} bytes is larger than {limits.STORE_STATE_BYTES_MAX}")
        with self._opened(folder, f"writing {name}", writing=True) as fd:
            self.check_owner()
            self.held.reserve.retrying(lambda: files.replace(name, data, dir_fd=fd))

    @contextlib.contextmanager
    def _opened(self, folder: str, what: str, *, writing: bool = False) -> Iterator[int]:
        parse_folder(folder)
        with self.held.writing(what) if writing else self.held.reading(what):
            try:
                fd = files.open_dirs(folder.split("/"), dir_fd=self.held.folders.snapshots)
            except FileNotFoundError as error:
                raise NotFoundError(f"{folder} does not exist") from error
            try:
                yield fd
            finally:
                os.close(fd)

    def _names(self, folder: str) -> list[str]:
        try:
            with files.opened(folder.split("/") if folder else [], dir_fd=self.held.folders.snapshots) as fd:
                return files.names(fd)
        except FileNotFoundError:
            return []

    def _has_manifest(self, folder: str) -> bool:
        return files.exists(f"{folder}/{MANIFEST}", dir_fd=self.held.folders.snapshots)


def _remove_empty(name: str, dir_fd: int) -> None:
    """Remove a folder in which nothing is. Raises OSError (ENOTEMPTY)."""
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=dir_fd)


@contextlib.contextmanager
def make_folders(held: Held, parts: list[str]) -> Iterator[int]:
    """Descriptor of a folder below `ns/`, made with its parents where needed.

    *Durability*: every folder's name is durable when this yields, also one that another thread made a moment ago.
    Raises OSError.
    """
    fd = os.dup(held.folders.snapshots)
    try:
        for part in parts:
            files.make_dir(part, dir_fd=fd)
            os.fsync(fd)
            below = files.open_dir(part, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)
