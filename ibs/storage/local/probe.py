"""Looking at a store without touching it unless it is the right one: the checks behind `datastore probe`.

Used inside `storage.local`, and by `engine` through `LocalStore.probe` and `probe_path`. Checks stop at the first that
later ones depend on. Nothing is written before identity and owner were found right, so that a bare mount point stays
bare.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ibs.core import limits
from ibs.errors import DatastoreOffline, FormatError, IbsError, UsageError
from ibs.ports.chunkstore import Space
from ibs.storage.local import files, ownership
from ibs.storage.local.layout import IDENTITY, META
from ibs.storage.local.space import measure, spare_bytes, spare_inodes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `ok` False is a reason for being offline, and `detail` says it in plain words."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What a store should be. `held_root` is the descriptor of the open store, None when it is not open."""

    uuid: str
    server: str
    held_root: int | None = None


def open_root(path: str, store: str) -> int:
    """Descriptor of the folder at `path`. Raises DatastoreOffline in plain words."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DatastoreOffline(store, f"path does not exist: {path}") from error
    except NotADirectoryError as error:
        raise DatastoreOffline(store, f"path is not a folder: {path}") from error
    except PermissionError as error:
        raise DatastoreOffline(store, f"permission denied: {path}") from error
    except OSError as error:
        raise DatastoreOffline(store, f"path cannot be opened: {path}: {error.strerror}") from error


def open_meta(root_fd: int, path: str, store: str) -> int:
    """Descriptor of `.ibs`. Raises DatastoreOffline (`not mounted` when there is none)."""
    try:
        return files.open_dir(META, dir_fd=root_fd)
    except FileNotFoundError as error:
        bare = "is empty" if not os.listdir(root_fd) else "holds no datastore (no .ibs in it)"
        raise DatastoreOffline(store, f"not mounted: the folder {path} {bare}") from error
    except PermissionError as error:
        raise DatastoreOffline(store, f"permission denied: {path}/{META}") from error
    except OSError as error:
        raise DatastoreOffline(store, f"{path}/{META} cannot be opened: {error.strerror}") from error


def check_identity(meta_fd: int, uuid: str, path: str, store: str) -> str:
    """Returns words for a right identity. Raises DatastoreOffline (`not mounted`, `wrong uuid`, `damaged`)."""
    try:
        found = ownership.read_identity(meta_fd).uuid
    except FileNotFoundError as error:
        raise DatastoreOffline(store, f"not mounted: {path} holds no datastore (no {META}/{IDENTITY})") from error
    except FormatError as error:
        raise DatastoreOffline(store, f"damaged: {error.message}") from error
    except OSError as error:
        raise DatastoreOffline(store, f"{META}/{IDENTITY} cannot be read: {error.strerror}") from error
    if found != uuid:
        raise DatastoreOffline(store, f"wrong uuid: {path} holds datastore {found}, expected {uuid}")
    return found


def probe_path(path: str, store: str, expected: Expected) -> list[Check]:
    """Look at the store that should be at `path`. Never raises for what is wrong there: the checks say it."""
    checks: list[Check] = []
    with contextlib.ExitStack() as stack, _ending(checks):
        root = open_root(path, store)
        stack.callback(os.close, root)
        checks.append(Check("path", True, path))
        if expected.held_root is not None:
            _same_root(root, expected.held_root, path, checks)
        meta = open_meta(root, path, store)
        stack.callback(os.close, meta)
        checks.append(Check("mounted", True, f"{META} is there"))
        checks.append(Check("uuid", True, check_identity(meta, expected.uuid, path, store)))
        _owner(meta, expected, checks)
        _lock(meta, store, expected, checks)
        _writable(meta, checks)
        _space(root, checks)
    return checks


@contextlib.contextmanager
def _ending(checks: list[Check]) -> Iterator[None]:
    """A failure ends the list as its last row."""
    try:
        yield
    except DatastoreOffline as error:
        reason = str(error.details["reason"])
        checks.append(Check(reason.partition(":")[0], False, reason))
    except IbsError as error:
        checks.append(Check("readable", False, error.message))
    except OSError as error:
        checks.append(Check("readable", False, error.strerror or str(error)))


def _same_root(root: int, held: int, path: str, checks: list[Check]) -> None:
    now, then = os.fstat(root), os.fstat(held)
    same = (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)
    detail = "same file system and folder as when it was opened"
    if not same:
        detail = f"not mounted: {path} is another file system or folder than when the datastore was opened"
    checks.append(Check("same folder", same, detail))


def _owner(meta: int, expected: Expected, checks: list[Check]) -> None:
    owner = ownership.read_owner(meta)
    mine = owner.server in ("", expected.server)
    detail = f"server {owner.server or 'none yet'}, fence {owner.fence}"
    checks.append(Check("owner", mine, detail if mine else f"owner elsewhere: {detail}"))


def _lock(meta: int, store: str, expected: Expected, checks: list[Check]) -> None:
    if expected.held_root is not None:
        checks.append(Check("lock", True, "held by this server"))
        return
    os.close(ownership.take_lock(meta, store))
    checks.append(Check("lock", True, "free"))


def _writable(meta: int, checks: list[Check]) -> None:
    """Write and remove a file, only in a store found to be ours."""
    if not all(check.ok for check in checks):
        return
    name = files.temporary_name("probe")
    try:
        files.write_new(name, b"probe\n", dir_fd=meta, durable=False)
        files.unlink_if_there(name, dir_fd=meta)
    except OSError as error:
        # A full disk is told by the next check; it does not make a store offline.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        checks.append(Check("writable", full, f"a test file was refused: {error.strerror}"))
        return
    checks.append(Check("writable", True, "a test file could be written"))


def _space(root: int, checks: list[Check]) -> None:
    space = measure(root)
    (room, bytes_word), (inodes, inodes_word) = spare_bytes(space), spare_inodes(space)
    bytes_short, inodes_short = room <= 0, inodes is not None and inodes <= 0
    words = [word for word, is_short in ((bytes_word, bytes_short), (inodes_word, inodes_short)) if is_short]
    short = list(dict.fromkeys(words))
    detail = f"{space.bytes_free} bytes and {space.inodes_free} inodes free{_quota(space)}"
    # A full disk only stops writes, so this row is never a reason for being offline.
    checks.append(Check("space", True, f"no space: no free {' and '.join(short)}" if short else detail))


def _quota(space: Space) -> str:
    left = [
        f"{free} of {total} {what}"
        for what, free, total in (
            ("bytes", space.quota_bytes_free, space.quota_bytes_total),
            ("inodes", space.quota_inodes_free, space.quota_inodes_total),
        )
        if free is not None
    ]
    return f"; quota of {space.quota}: {' and '.join(left)} free" if left else ""


def is_store(path: str) -> bool:
    """Whether a datastore's identity is directly below `path`."""
    return os.path.lexists(os.path.join(path, META, IDENTITY))


def find_store_above(path: str) -> str | None:
    """The datastore that `path` is, or lies in; None when there is none."""
    here = os.path.realpath(path)
    while True:
        if is_store(here):
            return here
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def contains_store(path: str) -> str | None:
    """The first datastore found below `path` (itself left out), None when there is none. Links are not followed.

    Raises UsageError when there are too many folders to be sure.
    """
    for searched, (here, folders, _) in enumerate(os.walk(os.path.realpath(path))):
        if searched >= limits.STORE_FOLDERS_SEARCHED_MAX:
            raise UsageError(f"{path} holds too many folders to look for datastores in it", hint="use an empty folder")
        if searched and is_store(here):
            return here
        folders.sort()
    return None
