"""Compares two folder trees in everything a backup must keep; written apart from the product, so that it can judge it.

`tree_differences(expected, actual)` lists every difference as a line: kinds, content, holes, mode, owner, mtime in ns,
extended attributes (ACLs and capabilities among them), link targets, hard-link groups, device numbers, missing and
additional entries. Depth and PATH_MAX do not matter; nothing is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

_READ = 1 << 20


@dataclass
class Seen:
    """One entry as the file system shows it."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    rdev: int
    link: bytes
    xattrs: dict[bytes, bytes]
    digest: bytes
    data: list[tuple[int, int]] = field(default_factory=list)
    """(first, end) of each stretch with data."""


@dataclass
class Tree:
    entries: dict[bytes, Seen]
    links: set[frozenset[bytes]]
    """Groups of paths that are one inode."""


def tree_differences(
    expected: str | bytes,
    actual: str | bytes,
    *,
    owner: bool = True,
    root: bool = True,
    times: bool = True,
    holes: bool = True,
    skip: Iterable[bytes] = (),
) -> list[str]:
    """Every difference, sorted by path. `root` False leaves out the metadata of the two folders themselves."""
    left, right = look_at(expected), look_at(actual)
    left_out = set(skip)
    found: list[str] = []
    for path in sorted((left.entries.keys() | right.entries.keys()) - left_out):
        name = path.decode("utf-8", "backslashreplace") or "."
        if path not in right.entries:
            found.append(f"{name}: missing")
        elif path not in left.entries:
            found.append(f"{name}: additional")
        else:
            a, b = left.entries[path], right.entries[path]
            for what in _differs(a, b, owner=owner, times=times, holes=holes, metadata=root or bool(path)):
                found.append(f"{name}: {what}")
    for group in sorted(left.links - right.links, key=sorted):
        found.append(f"hard links differ: {sorted(group)} are one file in the expected tree only")
    for group in sorted(right.links - left.links, key=sorted):
        found.append(f"hard links differ: {sorted(group)} are one file in the actual tree only")
    return found


def _differs(a: Seen, b: Seen, *, owner: bool, times: bool, holes: bool, metadata: bool) -> Iterator[str]:
    if a.kind != b.kind:
        yield f"kind {a.kind} != {b.kind}"
        return
    checks = [("size", a.size, b.size), ("content", a.digest.hex()[:16], b.digest.hex()[:16])]
    checks += [("link target", a.link, b.link), ("device", a.rdev, b.rdev)]
    if metadata:
        checks += [("mode", oct(a.mode), oct(b.mode)), ("xattrs", a.xattrs, b.xattrs)]
        checks += [("owner", (a.uid, a.gid), (b.uid, b.gid))] if owner else []
        checks += [("mtime", a.mtime_ns, b.mtime_ns)] if times else []
    for what, left, right in checks:
        if left != right:
            yield f"{what} {left} != {right}"
    if holes and a.kind == "file" and a.size == b.size:
        yield from _holes_differ(a, b)


def _holes_differ(a: Seen, b: Seen) -> Iterator[str]:
    """A copy may have more holes where a sparse file held zeros, but never fewer, nor any in a file without."""
    if a.data == [(0, a.size)] and b.data != a.data:
        yield f"the expected file has no holes, the actual one data at {b.data}"
    for first, end in b.data:
        if not any(start <= first and end <= stop for start, stop in a.data):
            yield f"data at {first}..{end} where the expected file has a hole (data at {a.data})"


def look_at(root: str | bytes) -> Tree:
    """Everything below and including `root`."""
    entries: dict[bytes, Seen] = {}
    groups: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries[b""] = _folder(fd)
        way: list[tuple[bytes, list[bytes]]] = [(b"", _names(fd))]
        while way:
            prefix, names = way[-1]
            if not names:
                way.pop()
                if way:
                    fd = _swap(fd, os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd))
                continue
            name = names.pop()
            path = prefix + name
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                fd = _swap(fd, inner)
                entries[path] = _folder(fd)
                way.append((path + b"/", _names(fd)))
                continue
            entries[path] = _leaf(fd, name, found)
            if found.st_nlink > 1:
                groups[found.st_dev, found.st_ino].add(path)
    finally:
        os.close(fd)
    return Tree(entries, {frozenset(group) for group in groups.values() if len(group) > 1})


def _swap(old: int, new: int) -> int:
    os.close(old)
    return new


def _names(fd: int) -> list[bytes]:
    return sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)


def _seen(kind: str, found: os.stat_result, **more: object) -> Seen:
    values: dict[str, object] = {"size": 0, "rdev": 0, "link": b"", "xattrs": {}, "digest": b"", **more}
    mode = 0 if kind == "symlink" else stat.S_IMODE(found.st_mode)
    return Seen(kind, mode, found.st_uid, found.st_gid, found.st_mtime_ns, **values)  # type: ignore[arg-type]


def _folder(fd: int) -> Seen:
    return _seen("folder", os.fstat(fd), xattrs=_xattrs(fd))


def _leaf(folder_fd: int, name: bytes, found: os.stat_result) -> Seen:
    if stat.S_ISREG(found.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder_fd)
        try:
            return _seen("file", found, size=found.st_size, xattrs=_xattrs(fd), **_content(fd, found.st_size))
        finally:
            os.close(fd)
    attributes = _xattrs(b"/proc/self/fd/%d/%s" % (folder_fd, name))
    if stat.S_ISLNK(found.st_mode):
        return _seen("symlink", found, link=os.readlink(name, dir_fd=folder_fd), xattrs=attributes)
    for kind, test in (("char", stat.S_ISCHR), ("block", stat.S_ISBLK)):
        if test(found.st_mode):
            return _seen(kind, found, rdev=found.st_rdev, xattrs=attributes)
    return _seen("fifo" if stat.S_ISFIFO(found.st_mode) else "socket", found, xattrs=attributes)


def _xattrs(what: int | bytes) -> dict[bytes, bytes]:
    follow = {} if isinstance(what, int) else {"follow_symlinks": False}
    try:
        return {os.fsencode(name): os.getxattr(what, name, **follow) for name in os.listxattr(what, **follow)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return {}
        raise


def _content(fd: int, size: int) -> dict[str, object]:
    """Digest of the whole content, and where the file has data; holes are not read."""
    data: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            first = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = min(os.lseek(fd, first, os.SEEK_HOLE), size)
        data.append((first, at))
    hasher = blake3()
    done = 0
    for first, end in data:
        # Aligned windows, so that two files of equal content give one digest wherever their holes are.
        for window in range(max(first // _READ, done), -(-end // _READ)):
            piece = os.pread(fd, _READ, window * _READ)
            if piece.strip(b"\0"):
                hasher.update(b"%d:%d:" % (window, len(piece)) + piece)
            done = window + 1
    hasher.update(b"end %d" % size)
    return {"digest": hasher.digest(), "data": data}
