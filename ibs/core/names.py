"""Names of datastores, namespaces, groups, snapshots and archives: parse once, then pass values.

Pure. The written form of a snapshot is `[ns:a/b/]host/web01/2026-11-22T19:00:00Z`; leaving the time out
names the newest snapshot of the group. Everything that becomes a path on disk goes through here, so a
value of these types never holds `..`, a slash in a component, or a leading dot or dash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from ibs.core import limits
from ibs.errors import UsageError

BACKUP_TYPES: Final = ("vm", "ct", "host")

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_ARCHIVE: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,63})\.(tree|img)", re.ASCII)
_BLOB: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_RESERVED: Final = ("manifest.json", "manifest.sig", "state.json", "owner.json")


def check_name(text: str, what: str = "name") -> str:
    """Return `text` if it is a valid name (1-64 of A-Za-z0-9._-, not starting with dot or dash).

    Raises UsageError naming `what` otherwise.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{what} {text!r} is not valid",
            hint="use 1-64 letters, digits, dots, dashes or underscores, not starting with a dot or dash",
        )
    return text


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds: `2026-11-22T19:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`. Raises UsageError."""
    if not _TIME.fullmatch(text):
        raise UsageError(f"time {text!r} is not valid", hint="write it like 2026-11-22T19:00:00Z")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(f"time {text!r} is not valid", hint="write it like 2026-11-22T19:00:00Z") from error


@dataclass(frozen=True, slots=True, order=True)
class Namespace:
    """A path of names inside a datastore, at most 8 deep; the root has no parts."""

    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.parts) > limits.NAMESPACE_DEPTH_MAX:
            raise UsageError(
                f"namespace {self} is deeper than {limits.NAMESPACE_DEPTH_MAX} levels", hint="use fewer levels"
            )
        for part in self.parts:
            check_name(part, "namespace")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`""` is the root, else `a/b/c`. Raises UsageError."""
        return cls(tuple(text.split("/"))) if text else cls()

    def __str__(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """All snapshots of one thing: a backup type and an id, such as `host/web01`."""

    backup_type: str
    backup_id: str

    def __post_init__(self) -> None:
        if self.backup_type not in BACKUP_TYPES:
            raise UsageError(
                f"backup type {self.backup_type!r} is not valid", hint=f"use one of {', '.join(BACKUP_TYPES)}"
            )
        check_name(self.backup_id, "backup id")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host/web01`. Raises UsageError."""
        backup_type, slash, backup_id = text.partition("/")
        if not slash:
            raise UsageError(f"group {text!r} is not valid", hint="write it like host/web01")
        return cls(backup_type, backup_id)

    def __str__(self) -> str:
        return f"{self.backup_type}/{self.backup_id}"


@dataclass(frozen=True, slots=True, order=True)
class SnapshotName:
    """One backup: namespace, group and time (UTC, whole seconds). `time` None means the newest."""

    namespace: Namespace
    group: Group
    time: datetime | None = None

    @classmethod
    def parse(cls, text: str, namespace: Namespace | None = None) -> Self:
        """`[ns:a/b/]host/web01[/TIME]`; `namespace` serves when the text names none. Raises UsageError."""
        given, rest = None, text
        if text.startswith("ns:"):
            parts = text[3:].split("/")
            # A name never looks like a time, so the end tells where the group is; a namespace may be called `host` too.
            at = len(parts) - (3 if _TIME.fullmatch(parts[-1]) else 2)
            if at < 0 or parts[at] not in BACKUP_TYPES:
                raise UsageError(f"snapshot {text!r} is not valid", hint="write it like ns:a/b/host/web01/TIME")
            given, rest = Namespace(tuple(parts[:at])), "/".join(parts[at:])
        pieces = rest.split("/")
        if len(pieces) not in (2, 3):
            raise UsageError(f"snapshot {text!r} is not valid", hint="write it like host/web01/2026-11-22T19:00:00Z")
        moment = parse_time(pieces[2]) if len(pieces) == 3 else None
        space = given if given is not None else (namespace or Namespace())
        return cls(space, Group(pieces[0], pieces[1]), moment)

    def at(self, moment: datetime) -> SnapshotName:
        """The same group at another time."""
        return SnapshotName(self.namespace, self.group, moment.astimezone(UTC).replace(microsecond=0))

    def __str__(self) -> str:
        space = f"ns:{self.namespace}/" if self.namespace.parts else ""
        moment = f"/{format_time(self.time)}" if self.time is not None else ""
        return f"{space}{self.group}{moment}"


def check_archive(name: str) -> str:
    """Return `name` if it is `NAME.tree` or `NAME.img`. Raises UsageError."""
    if not _ARCHIVE.fullmatch(name):
        raise UsageError(f"archive {name!r} is not valid", hint="write it like etc.tree or disk.img")
    return name


def archive_kind(name: str) -> str:
    """`tree` or `img`. Raises UsageError on anything else."""
    return check_archive(name).rpartition(".")[2]


def check_blob_name(name: str) -> str:
    """Return `name` if it may be a small blob in a snapshot, such as `client.log`. Raises UsageError."""
    if not _BLOB.fullmatch(name) or name in _RESERVED or name.endswith(".idx"):
        raise UsageError(f"blob name {name!r} is not valid", hint="use a plain name such as client.log")
    return name


def parse_source(spec: str) -> tuple[str, str]:
    """Split a client source `ARCHIVE:PATH` such as `etc.tree:/etc`. Raises UsageError."""
    name, colon, path = spec.partition(":")
    if not colon or not path:
        raise UsageError(f"source {spec!r} is not valid", hint="write it like etc.tree:/etc or disk.img:/dev/vg0/root")
    return check_archive(name), path
