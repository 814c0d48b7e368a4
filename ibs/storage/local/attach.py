"""What lies at a path that somebody wants to attach as an existing datastore: which one, whose, and whether it is free.

Used inside `storage.local`, and by `engine` as `find_existing`. Only looks; the lock is taken and given back at once.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from ibs.errors import ConflictError, DatastoreOffline, UsageError
from ibs.storage.local import ownership, probe
from ibs.storage.local.layout import IDENTITY, META
from ibs.storage.local.trouble import border


@dataclass(frozen=True, slots=True)
class Existing:
    """A datastore found. `owner` is a server's uuid, "" when it was given up; `name` the one it was made with."""

    uuid: str
    name: str
    owner: str
    fence: int


def find_existing(path: str) -> Existing:
    """The datastore at `path`, which must be free to be opened.

    Raises UsageError when there is none; ConflictError while a server on this host uses it; FormatError when it is
    damaged, DatastoreOffline when it cannot be read.
    """
    with contextlib.ExitStack() as held, border(path, "looking at it"):
        try:
            root = probe.open_root(path, path)
            held.callback(os.close, root)
            meta = probe.open_meta(root, path, path)
            held.callback(os.close, meta)
            identity = ownership.read_identity(meta)
        except (DatastoreOffline, FileNotFoundError) as error:
            why = str(error.details["reason"]) if isinstance(error, DatastoreOffline) else f"no {META}/{IDENTITY} in it"
            raise UsageError(
                f"{path} is not a datastore: {why.removeprefix('not mounted: ')}",
                hint="mount its file system first; a new one is made by: ironcore-backup datastore create",
            ) from error
        owner = ownership.read_owner(meta)
        try:
            os.close(ownership.take_lock(meta, path))
        except DatastoreOffline as error:
            if "in use" not in str(error.details["reason"]):
                raise
            raise ConflictError(
                f"{path} is in use by a running server on this host",
                hint="stop that server, or detach the datastore from it: ironcore-backup datastore remove NAME",
            ) from error
        return Existing(identity.uuid, identity.name, owner.server, owner.fence)
