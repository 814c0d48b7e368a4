"""Names and small records of the local store on disk (contrib/docs/formats.md, sections 2, 5 and 6). Pure.

Only `storage.local` imports this; `snapshot_folder` and `group_folder` are re-exported for `engine`.
Invariant: every path built here stays inside the store: components are checked, none is `.` or `..`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

import msgspec

from ibs.core.names import BACKUP_TYPES, Group, Namespace, SnapshotName, format_time, parse_time
from ibs.errors import FormatError, UsageError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address

META: Final = ".ibs"
IDENTITY: Final = "datastore.json"
LOCK: Final = "lock"
OWNER: Final = "owner"
GENERATION: Final = "generation"
CHUNK_DB: Final = "chunks.db"
LEASES: Final = "leases"
RESERVE: Final = "reserve"
MODE: Final = "mode.json"
BIN: Final = "bin"
BIN_RECORD: Final = "bin.json"
CHUNKS: Final = "chunks"
INCOMING: Final = "incoming"
STAGING: Final = "staging"
SNAPSHOTS: Final = "ns"
BAD_SUFFIX: Final = ".bad"
TEMPORARY: Final = ".tmp-"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
STATE: Final = "state.json"
GROUP_OWNER: Final = "owner.json"
GROUP_MARK: Final = "last.json"

DIR_MODE: Final = 0o700
FILE_MODE: Final = 0o600
DOMAIN_PREFIX_BYTES: Final = 16

_CHUNK: Final = re.compile(r"([0-9a-f]{64})(?:-([0-9a-f]{32}))?(\.bad)?", re.ASCII)
_PREFIX: Final = re.compile(r"[0-9a-f]{4}", re.ASCII)
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}", re.ASCII)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`.ibs/datastore.json`: what this store is. Written once, last of all when a store is made."""

    format: int
    uuid: str
    created: str
    name: str


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """`.ibs/owner`: the server that may write, and the fence raised whenever another takes over."""

    server: str
    fence: int


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """`.ibs/generation`: raised at each open; `clean` only after an orderly stop."""

    generation: int
    clean: bool
    boot_id: str


class ChunkName(NamedTuple):
    """A chunk file's name taken apart; `domain_prefix` is empty for a plain chunk."""

    id: bytes
    domain_prefix: bytes
    bad: bool


Record = TypeVar("Record", Identity, Owner, Generation)


def decode_record(data: bytes, kind: type[Record], where: str) -> Record:
    """A small record from its JSON; unknown fields are ignored. Raises FormatError."""
    try:
        record = msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise FormatError(f"{where} cannot be read: {error}") from error
    if isinstance(record, Identity) and record.format != 1:
        raise FormatError(f"{where} has format {record.format}; this version knows format 1", hint="update the server")
    return record


def encode_record(record: Identity | Owner | Generation) -> bytes:
    """Its JSON with a final newline."""
    return msgspec.json.encode(record) + b"\n"


def domain_prefix(domain: bytes) -> bytes:
    """What a file name holds of a domain: nothing of the plain one, else its first half."""
    return b"" if domain == PLAIN_DOMAIN else domain[:DOMAIN_PREFIX_BYTES]


def chunk_name(address: Address) -> str:
    """File name of a chunk: 64 hex of the id, and for an encrypted one a dash and 32 hex of its domain."""
    prefix = domain_prefix(address.domain)
    return f"{address.id.hex()}-{prefix.hex()}" if prefix else address.id.hex()


def parse_chunk_name(name: str) -> ChunkName | None:
    """The inverse of `chunk_name`, with or without `.bad`; None for any other name."""
    match = _CHUNK.fullmatch(name)
    if match is None:
        return None
    return ChunkName(bytes.fromhex(match[1]), bytes.fromhex(match[2] or ""), match[3] is not None)


def is_prefix(name: str) -> bool:
    """Whether `name` is one of the 65,536 chunk folders."""
    return _PREFIX.fullmatch(name) is not None


def check_file_name(name: str) -> str:
    """Return `name` if it may be a file in a snapshot, session or lease. Raises UsageError."""
    if not _FILE.fullmatch(name):
        raise UsageError(f"file name {name!r} is not valid", hint="use letters, digits, dots, dashes or underscores")
    return name


def group_folder(namespace: Namespace, group: Group) -> str:
    """Folder of a group below `ns/`: `@a/@b/host/web01`."""
    return "/".join([*(f"@{part}" for part in namespace.parts), group.backup_type, group.backup_id])


def snapshot_folder(name: SnapshotName) -> str:
    """Folder of a snapshot below `ns/`: `@a/@b/host/web01/2026-11-22T19:00:00Z`. Raises UsageError without a time."""
    if name.time is None:
        raise UsageError(f"snapshot {name} names no time", hint="write it like host/web01/2026-11-22T19:00:00Z")
    return f"{group_folder(name.namespace, name.group)}/{format_time(name.time)}"


def parse_folder(folder: str) -> tuple[Namespace, Group, datetime | None]:
    """Take a group's or snapshot's folder apart and check every component. Raises UsageError."""
    parts = folder.split("/")
    depth = next((i for i, part in enumerate(parts) if not part.startswith("@")), len(parts))
    rest = parts[depth:]
    if len(rest) not in (2, 3) or rest[0] not in BACKUP_TYPES:
        raise UsageError(f"folder {folder!r} is not that of a group or snapshot")
    moment = parse_time(rest[2]) if len(rest) == 3 else None
    return Namespace(tuple(part[1:] for part in parts[:depth])), Group(rest[0], rest[1]), moment
