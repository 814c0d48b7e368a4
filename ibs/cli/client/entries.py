"""How entries of an archive are told: as JSON rows, and as `ls -l` would."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime
from typing import Any

from ibs.cli.output import Column
from ibs.core.tree import Entry, Kind
from ibs.restore.tree.safe_path import shown
from ibs.units import format_bytes

_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.HARDLINK: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}


def path_facts(path: bytes) -> dict[str, str]:
    """`path` readable; and, where that is not the whole truth, `path_base64` with the bytes."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"path": shown(path), "path_base64": base64.b64encode(path).decode()}


def moment(time_ns: int) -> str:
    """RFC 3339 with seconds; the raw number where the calendar ends."""
    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(time_ns)


def entry_row(entry: Entry) -> dict[str, Any]:
    """One entry as JSON."""
    row: dict[str, Any] = path_facts(entry.path)
    row |= {"kind": entry.kind.name.lower(), "mode": entry.mode, "uid": entry.uid, "gid": entry.gid}
    row |= {"size": entry.size, "mtime": moment(entry.mtime_ns), "mtime_ns": entry.mtime_ns}
    if entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
        row["link"] = shown(entry.link)
    return row


ENTRY_COLUMNS = (
    Column("MODE", lambda row: stat.filemode(_TYPES[Kind[row["kind"].upper()]] | row["mode"])),
    Column("OWNER", lambda row: f"{row['uid']}:{row['gid']}"),
    Column("SIZE", lambda row: format_bytes(row["size"]) if row["kind"] in ("file", "hardlink") else "", right=True),
    Column("CHANGED", lambda row: row["mtime"]),
    Column("PATH", lambda row: row["path"] + (f" -> {row['link']}" if "link" in row else "")),
)
