"""The datastore's mode as bytes in the store, so that it outlives its server. What they say is the engine's.

Used inside `storage.local`, and by `engine` as `LocalStore.read_mode`, `write_mode` and `peek_mode`.
"""

from __future__ import annotations

import contextlib
import os

from ibs.core import limits
from ibs.storage.local import files, probe
from ibs.storage.local.layout import MODE
from ibs.storage.local.trouble import border


def read_mode(meta_fd: int) -> bytes:
    """The record; empty when there is none. Raises OSError, FormatError (not a regular file, too long)."""
    try:
        return files.read_file(MODE, dir_fd=meta_fd, limit=limits.STORE_RECORD_BYTES_MAX)
    except FileNotFoundError:
        return b""


def write_mode(meta_fd: int, record: bytes) -> None:
    """*Durability*: durable when it returns. Raises OSError."""
    files.replace(MODE, record, dir_fd=meta_fd)


def peek_mode(path: str, uuid: str, store: str) -> bytes:
    """The record of the store at `path`, without opening or changing it; `store` is its name for messages.

    Raises DatastoreOffline as opening would, when the store `uuid` is not there; FormatError.
    """
    with contextlib.ExitStack() as held, border(store, "reading its mode"):
        root = probe.open_root(path, store)
        held.callback(os.close, root)
        meta = probe.open_meta(root, path, store)
        held.callback(os.close, meta)
        probe.check_identity(meta, uuid, path, store)
        return read_mode(meta)
