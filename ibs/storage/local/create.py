"""Making a new, empty store. Used inside `storage.local`.

The identity is written last: a store that was made half way is none, and can be made again in the same place.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime

from ibs.core.names import check_name, format_time
from ibs.errors import ConflictError, UsageError
from ibs.storage.local import files
from ibs.storage.local.layout import (
    CHUNKS,
    DIR_MODE,
    GENERATION,
    IDENTITY,
    INCOMING,
    LEASES,
    LOCK,
    META,
    OWNER,
    SNAPSHOTS,
    STAGING,
    Generation,
    Identity,
    Owner,
    encode_record,
)
from ibs.storage.local.recover import open_index
from ibs.storage.local.trouble import border

_OURS = frozenset({META, CHUNKS, STAGING, SNAPSHOTS})
_IGNORED = frozenset({"lost+found"})
"""What a freshly made file system holds."""


def create_store(path: str, name: str, uuid: str, created: datetime) -> None:
    """Lay out a store in the empty folder `path`, which is made when only it (and no parent) is missing.

    Raises UsageError for a folder that cannot serve, ConflictError when it is not empty or is a datastore already.
    When it raises, nothing is left behind. *Durability*: everything is durable when it returns.
    """
    check_name(name, "datastore")
    if not os.path.isabs(path):
        raise UsageError(f"path {path!r} is not absolute", hint="write it from the root, like /srv/backup/store1")
    with border(name, f"making the datastore at {path}"):
        made = _make_root(path)
        try:
            root = _open_empty(path)
            try:
                _lay_out(root, name, uuid, created)
            except BaseException:
                _tear_down(root)
                raise
            finally:
                os.close(root)
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            raise


def _make_root(path: str) -> bool:
    """Make the folder itself; False when it was there."""
    try:
        os.mkdir(path, DIR_MODE)
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise UsageError(f"{os.path.dirname(path)} does not exist", hint="make it, or mount the disk") from error
    except PermissionError as error:
        raise UsageError(
            f"permission denied: cannot make {path}", hint="choose a folder the server may write"
        ) from error
    return True


def _open_empty(path: str) -> int:
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise UsageError(f"{path} is not a folder", hint="choose an empty folder") from error
    except PermissionError as error:
        raise UsageError(f"permission denied: {path}", hint="choose a folder the server may write") from error
    try:
        _check_empty(root, path)
    except BaseException:
        os.close(root)
        raise
    return root


def _check_empty(root: int, path: str) -> None:
    found = set(os.listdir(root)) - _IGNORED
    if META in found:
        with files.opened([META], dir_fd=root) as meta:
            if files.exists(IDENTITY, dir_fd=meta):
                raise ConflictError(
                    f"{path} is a datastore already", hint="add it as an existing one, or choose another"
                )
    if found - _OURS or (found and META not in found):
        raise ConflictError(f"{path} is not empty", hint="choose an empty folder; nothing was changed")


def _tear_down(root: int) -> None:
    """Take away what a failed layout made, as far as the disk lets us; what stays does not hinder another try."""
    for path in ([META, LEASES], [META], [CHUNKS, INCOMING], [CHUNKS], [STAGING], [SNAPSHOTS]):
        with contextlib.suppress(OSError), files.opened(path[:-1], dir_fd=root) as parent:
            files.remove_dir(path[-1], dir_fd=parent)


def _lay_out(root: int, name: str, uuid: str, created: datetime) -> None:
    for parent, child in (
        ("", META),
        ("", CHUNKS),
        (CHUNKS, INCOMING),
        ("", STAGING),
        ("", SNAPSHOTS),
        (META, LEASES),
    ):
        with files.opened([parent] if parent else [], dir_fd=root) as fd:
            files.make_dir(child, dir_fd=fd)
    with files.opened([META], dir_fd=root) as meta:
        if not files.exists(LOCK, dir_fd=meta):
            files.write_new(LOCK, b"", dir_fd=meta, durable=True)
        files.replace(OWNER, encode_record(Owner(server="", fence=0)), dir_fd=meta)
        files.replace(GENERATION, encode_record(Generation(generation=0, clean=False, boot_id="")), dir_fd=meta)
        open_index(meta).close()
        for path in ([CHUNKS, INCOMING], [CHUNKS], [STAGING], [SNAPSHOTS], [META, LEASES], []):
            with files.opened(path, dir_fd=root) as fd:
                os.fsync(fd)
        os.fchmod(root, DIR_MODE)
        identity = Identity(format=1, uuid=uuid, created=format_time(created), name=name)
        files.replace(IDENTITY, encode_record(identity), dir_fd=meta)
