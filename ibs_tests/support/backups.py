"""Backing up against the server in memory, and comparing what came out with the source, entry by entry."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ibs.client.backup.plan import BackupOutcome, BackupPlan
from ibs.client.backup.run import run_backup
from ibs.core.keys import DataKeys
from ibs.core.tree import FLAG_RACY, Entry, Kind
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.clock import ManualClock, SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.sources.tree.content import FileAccess
from ibs_tests.support.backupserver import MemoryServer, MemoryTransport

KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}


class LaterClock(SystemClock):
    """The machine's clock, some time ahead: what a test has just written is not racy any more."""

    def __init__(self, ahead_seconds: int = 3600) -> None:
        self.ahead_ns = ahead_seconds * 1_000_000_000

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


class CountingFiles(FileAccess):
    """Counts what is opened; `during` is called with the name while it is read."""

    def __init__(self, during: Callable[[bytes], None] | None = None) -> None:
        super().__init__()
        self.opened: list[bytes] = []
        self.during = during
        self._names: dict[int, bytes] = {}

    def open(self, folder_fd: int, name: bytes, owner: int) -> int:
        self.opened.append(name)
        fd = super().open(folder_fd, name, owner)
        self._names[fd] = name
        return fd

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        count = super().read(fd, view, offset)
        if self.during is not None:
            self.during(self._names[fd])
        return count


def plan(source: Path | str, archive: str = "data.tree", **more: Any) -> BackupPlan:
    sources = more.pop("sources", ((archive, str(source)),))
    return BackupPlan(store="main", group="host/test", sources=sources, owner="root@ibs", client="test 1", **more)


async def back_up(
    server: MemoryServer,
    source: Path | str,
    archive: str = "data.tree",
    *,
    pool: Pool | None = None,
    clock: Clock | None = None,
    files: FileAccess | None = None,
    transport: MemoryTransport | None = None,
    **more: Any,
) -> tuple[BackupOutcome, MemoryTransport]:
    """One backup; files that were just written count as settled unless a clock says otherwise."""
    transport = transport or server.transport()
    outcome = await run_backup(
        transport,
        plan(source, archive, **more),
        pool=pool or ThreadPool(),
        clock=clock or LaterClock(),
        files=files,
    )
    return outcome, transport


def differences(
    server: MemoryServer, root: Path, archive: str = "data.tree", *, keys: DataKeys | None = None, snapshot: int = -1
) -> list[str]:
    """What a tree archive and its source do not have in common; empty when they agree in everything."""
    found: list[str] = []
    entries = {entry.path: entry for entry in server.entries(archive, keys, snapshot)}
    content = server.files(archive, keys, snapshot)
    top = os.fsencode(root)
    seen = set()
    for path in walk(top):
        seen.add(path)
        entry = entries.get(path)
        if entry is None:
            found.append(f"{path!r} is missing")
            continue
        found += [f"{path!r}: {what}" for what in _compare(top, entry, entries, content)]
    found += [f"{path!r} is not in the source" for path in entries.keys() - seen]
    return found


def walk(top: bytes) -> list[bytes]:
    """All paths below `top`, relative, the root first."""
    paths = [b""]
    for folder, folders, files in os.walk(top):
        inside = os.path.relpath(folder, top)
        prefix = b"" if inside == b"." else inside + b"/"
        paths += [prefix + name for name in [*folders, *files]]
    return paths


def _compare(top: bytes, entry: Entry, entries: dict[bytes, Entry], content: dict[bytes, bytes]) -> list[str]:
    path = os.path.join(top, entry.path) if entry.path else top
    st = os.lstat(path)
    wrong = []
    pairs = {
        "mode": (entry.mode, st.st_mode & 0o7777),
        "owner": ((entry.uid, entry.gid), (st.st_uid, st.st_gid)),
        "times": ((entry.mtime_ns, entry.ctime_ns), (st.st_mtime_ns, st.st_ctime_ns)),
        "inode": (entry.inode, st.st_ino),
        "incomplete": (entry.incomplete, False),
    }
    kind = KINDS[stat.S_IFMT(st.st_mode)]
    if entry.kind is Kind.HARDLINK:
        first = entries[entry.link]
        pairs["link"] = (first.inode, st.st_ino)
        pairs["kind behind the link"] = (first.kind, kind)
    else:
        pairs["kind"] = (entry.kind, kind)
        pairs["attributes"] = (entry.xattrs, attributes(path))
        if kind is Kind.SYMLINK:
            pairs["target"] = (entry.link, os.readlink(path))
        if kind in (Kind.CHAR, Kind.BLOCK):
            pairs["device"] = (entry.rdev, os.major(st.st_rdev) << 32 | os.minor(st.st_rdev))
        if kind is Kind.FILE:
            pairs["size"] = (entry.size, st.st_size)
            with open(path, "rb") as file:
                if content[entry.path] != file.read():
                    wrong.append("content")
    return wrong + [f"{what} {is_} instead of {should}" for what, (is_, should) in pairs.items() if is_ != should]


def attributes(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        sorted(
            (os.fsencode(name), os.getxattr(path, name, follow_symlinks=False))
            for name in os.listxattr(path, follow_symlinks=False)
        )
    )


def racy(entries: list[Entry]) -> set[bytes]:
    return {entry.path for entry in entries if entry.flags & FLAG_RACY}


__all__ = [
    "CountingFiles",
    "LaterClock",
    "ManualClock",
    "MemoryServer",
    "attributes",
    "back_up",
    "differences",
    "plan",
    "racy",
    "walk",
]
