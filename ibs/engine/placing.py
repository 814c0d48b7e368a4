"""Where a datastore may be made: never in, around, or on the place of another, whatever links and mounts pretend.

Used by `engine.datastores` only; blocks. A bind mount gives a folder a second path that `realpath` cannot see, so
places are also compared as (device, path inside the file system), which /proc/self/mountinfo tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ibs.errors import ConflictError, UsageError
from ibs.ports.catalog import DatastoreRecord
from ibs.storage.local import contains_store, find_store_above

MOUNTINFO = "/proc/self/mountinfo"
_PATH_BYTES_MAX = 4096
_ESCAPE = re.compile(r"\\([0-7]{3})")


def check_place(
    path: str,
    others: Sequence[DatastoreRecord],
    own: Sequence[str] = (),
    *,
    existing: bool = False,
    mountinfo: str = MOUNTINFO,
) -> list[str]:
    """Whether a store may be made at `path`; returns what its owner should be warned of.

    With `existing` a store that is there is to be attached: it is not searched for others, since making it did that.
    `own` are folders of the server itself (state, logs), which a store may neither lie in nor hold.

    Raises UsageError for a path that cannot serve, ConflictError naming the store that is in the way.
    """
    if "\0" in path or len(os.fsencode(path)) >= _PATH_BYTES_MAX or max(map(len, os.fsencode(path).split(b"/"))) > 255:
        raise UsageError("the path of the datastore is none that a file system takes", hint="choose a shorter path")
    if not os.path.isabs(path):
        raise UsageError(f"path {path!r} is not absolute", hint="write it from the root, like /srv/backup/store1")
    real = os.path.realpath(path)
    if real == "/":
        raise UsageError("the root folder cannot be a datastore", hint="choose an empty folder")
    for folder in map(os.path.realpath, own):
        if real == folder or _lies_in(real, folder) or _lies_in(folder, real):
            raise ConflictError(
                f"{path} and the server's own folder {folder} would lie in each other",
                hint="choose a folder of its own",
            )
    mounts = _mounts(mountinfo)
    for other in others:
        # Both spellings: a store that is offline may have its link or mount elsewhere for now.
        for theirs in {os.path.realpath(other.path), os.path.normpath(other.path)}:
            for mine in {real, os.path.normpath(path)}:
                _refuse_nested(mine, theirs, path, other)
        mine_inside, theirs_inside = _inside(real, mounts), _inside(os.path.realpath(other.path), mounts)
        if mine_inside is not None and theirs_inside is not None and mine_inside[0] == theirs_inside[0]:
            _refuse_nested(mine_inside[1], theirs_inside[1], path, other)
    above = find_store_above(os.path.dirname(real))
    if above is not None:
        raise ConflictError(f"{path} lies in the datastore at {above}", hint="choose a folder outside of it")
    if os.path.isdir(real) and not existing:
        below = contains_store(real)
        if below is not None:
            raise ConflictError(f"{path} holds the datastore at {below}", hint="choose an empty folder")
    return _warnings(real)


def _refuse_nested(mine: str, theirs: str, path: str, other: DatastoreRecord) -> None:
    if mine == theirs:
        raise ConflictError(f"{path} is the place of datastore {other.name}", hint="choose another folder")
    if _lies_in(mine, theirs):
        raise ConflictError(f"{path} lies in datastore {other.name}", hint="choose a folder outside of it")
    if _lies_in(theirs, mine):
        raise ConflictError(f"{path} would hold datastore {other.name}", hint="choose a folder beside it")


def _lies_in(inner: str, outer: str) -> bool:
    return inner.startswith(outer.rstrip("/") + "/")


def _warnings(real: str) -> list[str]:
    """A store on the root of a file system is indistinguishable from a bare mount point by its path alone."""
    at = real if os.path.isdir(real) else os.path.dirname(real)
    if os.path.ismount(real):
        return [f"{real} is the root of a file system: a folder below it is safer, since it vanishes when unmounted"]
    try:
        if os.stat(at).st_dev == os.stat("/").st_dev:
            return [f"{real} is on the root file system: when it fills up, the server suffers too"]
    except OSError:
        return []
    return []


def _mounts(mountinfo: str) -> list[tuple[str, str, str]]:
    """(mount point, device, root inside the file system) of every mount; empty when the kernel does not tell."""
    try:
        lines = Path(mountinfo).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 5:
            found.append((_unescape(fields[4]), fields[2], _unescape(fields[3])))
    return found


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _inside(real: str, mounts: Sequence[tuple[str, str, str]]) -> tuple[str, str] | None:
    """The device and the path inside its file system that a real path leads to. Later mounts cover earlier ones."""
    best: tuple[str, str, str] | None = None
    for mount in mounts:
        if (real == mount[0] or _lies_in(real, mount[0])) and (best is None or len(mount[0]) >= len(best[0])):
            best = mount
    if best is None:
        return None
    rest = real[len(best[0].rstrip("/")) :]
    return best[1], os.path.normpath(best[2].rstrip("/") + rest or "/")
