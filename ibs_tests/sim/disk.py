"""A file system in memory that forgets what was not flushed: contents, names, and what a power cut leaves of them.

What the running system sees (`entries`, `data`) and what the platter holds (`synced`) are apart. A change of names
goes on a log until a flush covers it; a power cut keeps some of the log and tears what was written and not flushed.

Two characters: `journalled`, where names survive in the order in which they were changed and flushing anything commits
all of them (ext4, XFS), and `loose`, where each change of a name survives by itself (what POSIX promises).
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random

TEAR_BYTES = 64
"""Grain at which a write tears; real disks have 512 or 4096, but the chunks here are small."""
INODE_BYTES = 256
TICK_NS = 100_000
STAMP_NS = 4_000_000
"""File times are as coarse as a kernel's."""


class Node:
    """A file or a folder. `links` counts names."""

    __slots__ = ("links", "mtime_ns", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.links = 0
        self.mtime_ns = 0


class File(Node):
    """`data` is in the page cache, `synced` on the platter. `image`s are what SQLite keeps in a database file."""

    __slots__ = ("data", "dirty", "image", "image_synced", "reserved", "synced", "version")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.data = bytearray()
        self.synced = b""
        self.dirty = False
        self.reserved = 0
        self.version = 0
        self.image: bytes | None = None
        self.image_synced: bytes | None = None

    @property
    def size(self) -> int:
        return max(len(self.data), self.reserved)

    def flush(self) -> None:
        """The platter holds what the cache holds."""
        if self.dirty:
            self.synced, self.dirty = bytes(self.data), False
        self.image_synced = self.image


class Folder(Node):
    """`entries` as the running system sees them, `synced` as the platter holds them."""

    __slots__ = ("entries", "removed", "synced")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.entries: dict[str, Node] = {}
        self.synced: dict[str, Node] = {}
        self.removed = False


Change = tuple[tuple[Folder, str, Node | None], ...]
"""One change of names, all or nothing: in this folder, this name means that node now (None: it is gone)."""


def error(code: int, name: str = "") -> OSError:
    """As the kernel gives it."""
    return OSError(code, os.strerror(code), name)


class Disk:
    """One file system. `rng` decides what a power cut or a failed flush leaves."""

    def __init__(self, rng: Random, *, capacity: int, journalled: bool) -> None:
        self.rng = rng
        self.capacity = capacity
        self.journalled = journalled
        self.foreign = 0
        self.used = 0
        self.ticks = 0
        self.faults: Counter[str] = Counter()
        self._numbers = 1
        self._log: list[Change] = []
        self._dirty: dict[File, None] = {}
        self.root = Folder(0)
        self.flush_fails = 0
        self.reads_fail = 0

    # --- room ---

    @property
    def free(self) -> int:
        return max(0, self.capacity - self.used - self.foreign)

    def take(self, size: int) -> None:
        """Raises ENOSPC."""
        if size > self.free:
            self.faults["ENOSPC"] += 1
            raise error(errno.ENOSPC)
        self.used += size

    def stamp(self) -> int:
        self.ticks += 1
        return self.ticks * TICK_NS // STAMP_NS * STAMP_NS

    # --- names ---

    def new_file(self) -> File:
        self.take(INODE_BYTES)
        self._numbers += 1
        return File(self._numbers)

    def new_folder(self) -> Folder:
        self.take(INODE_BYTES)
        self._numbers += 1
        return Folder(self._numbers)

    def change(self, *change: tuple[Folder, str, Node | None]) -> None:
        """Change names now; durable when a flush covers it."""
        for folder, name, node in change:
            before = folder.entries.pop(name, None)
            if before is not None and before is not node:
                self._unlinked(before)
            if node is not None:
                if before is not node:
                    node.links += 1
                folder.entries[name] = node
            folder.mtime_ns = self.stamp()
        self._log.append(change)

    def move(self, source: Folder, old: str, target: Folder, new: str) -> None:
        """Rename: one change, and the node keeps its links."""
        node = source.entries[old]
        node.links += 1
        self.change((source, old, None), (target, new, node))
        node.links -= 1

    def _unlinked(self, node: Node) -> None:
        node.links -= 1
        if node.links <= 0:
            self.used -= INODE_BYTES + (node.size if isinstance(node, File) else 0)
            if isinstance(node, Folder):
                node.removed = True
            else:
                self._dirty.pop(node, None)  # type: ignore[arg-type]

    # --- contents ---

    def write(self, file: File, data: bytes | memoryview, at: int) -> int:
        end = at + len(data)
        grown = max(0, end - file.size)
        self.take(grown)
        if at > len(file.data):
            file.data.extend(bytes(at - len(file.data)))
        file.data[at:end] = data
        self._touched(file)
        return len(data)

    def truncate(self, file: File, size: int) -> None:
        before = file.size
        file.reserved = min(file.reserved, size)
        if size < len(file.data):
            del file.data[size:]
        else:
            file.data.extend(bytes(size - len(file.data)))
        self.used += file.size - before
        self._touched(file)

    def reserve(self, file: File, size: int) -> None:
        if size > file.size:
            self.take(size - file.size)
            file.reserved = size

    def _touched(self, file: File) -> None:
        file.dirty = True
        file.version += 1
        file.mtime_ns = self.stamp()
        self._dirty[file] = None

    def image_changed(self, file: File) -> None:
        """A database was closed: the next flush covers what is in it."""
        self._dirty[file] = None

    def drop_cache(self, file: File) -> None:
        """Clean pages are read from the platter again: after a failed flush they are the old ones."""
        if not file.dirty and bytes(file.data) != file.synced:
            file.data[:] = file.synced
            file.version += 1

    # --- flushing ---

    def flush_all(self) -> None:
        """syncfs: raises EIO once for pages that could not be written, and then forgets about them."""
        failed = self._lose_pages()
        for file in self._dirty:
            file.flush()
        self._dirty.clear()
        self._commit(self._log)
        self._log = []
        if failed:
            raise error(errno.EIO)

    def flush_file(self, file: File) -> None:
        failed = self._lose_pages(file)
        file.flush()
        self._dirty.pop(file, None)
        if self.journalled:
            self._commit(self._log)
            self._log = []
        if failed:
            raise error(errno.EIO)

    def flush_folder(self, folder: Folder) -> None:
        if self.journalled:
            self._commit(self._log)
            self._log = []
            return
        kept: list[Change] = []
        durable: list[Change] = []
        wanted: set[tuple[int, str]] = set()
        for change in reversed(self._log):
            keys = {(each.number, name) for each, name, _ in change}
            if any(each is folder for each, _, _ in change) or keys & wanted:
                wanted |= keys
                durable.append(change)
            else:
                kept.append(change)
        self._commit(reversed(durable))
        self._log = kept[::-1]

    def _lose_pages(self, only: File | None = None) -> bool:
        dirty = [only] if only is not None and only.dirty else list(self._dirty) if only is None else []
        if not self.flush_fails or not dirty:
            return False
        self.flush_fails -= 1
        lost = [file for file in dirty if self.rng.random() < 0.5] or dirty[:1]
        for file in lost:  # clean now as far as the kernel is concerned, and not on the platter
            file.dirty = False
            self._dirty.pop(file, None)
        self.faults["write-back error"] += 1
        return True

    @staticmethod
    def _commit(changes: Iterable[Change]) -> None:
        for change in changes:
            for folder, name, node in change:
                if node is None:
                    folder.synced.pop(name, None)
                else:
                    folder.synced[name] = node

    # --- power ---

    def cut_power(self) -> None:
        """Only the platter is left, and of what was on its way there any part."""
        rng = self.rng
        if self.journalled:
            survivors = self._log[: rng.randint(0, len(self._log))]
        else:
            chance = rng.choice((0.0, 0.3, 0.7, 1.0))
            survivors = [change for change in self._log if rng.random() < chance]
        self._commit(survivors)
        self._log = []
        self._dirty = {}
        self.flush_fails = self.reads_fail = self.used = 0
        counted: dict[Node, None] = {}
        for _, node in list(self._reachable()):
            node.links = node.links + 1 if node in counted else 1
            if node not in counted:
                counted[node] = None
                self._settle(node)
                self.used += INODE_BYTES + (node.size if isinstance(node, File) else 0)
        self.root.entries = dict(self.root.synced)
        for node in counted:
            if isinstance(node, Folder):
                node.entries, node.removed = dict(node.synced), False

    def _reachable(self) -> Iterator[tuple[Folder, Node]]:
        waiting, seen = [self.root], {self.root}
        while waiting:
            folder = waiting.pop()
            for node in folder.synced.values():
                yield folder, node
                if isinstance(node, Folder) and node not in seen:
                    seen.add(node)
                    waiting.append(node)

    def _settle(self, node: Node) -> None:
        if not isinstance(node, File):
            return
        if node.image is not None and node.image != node.image_synced:
            node.image = self.rng.choice((node.image, node.image_synced))
        node.image_synced = node.image
        if node.dirty or bytes(node.data) != node.synced:
            node.data[:] = self._torn(node) if node.dirty else node.synced
            node.version += 1
        node.synced, node.dirty = bytes(node.data), False

    def _torn(self, file: File) -> bytes:
        old, new = file.synced, bytes(file.data)
        choice = self.rng.randrange(5)
        if choice == 0:
            return old
        if choice == 1:
            return new
        if choice == 2:
            return new[: self.rng.randint(0, len(new)) // TEAR_BYTES * TEAR_BYTES]
        if choice == 3:
            return old[: len(new)] + bytes(max(0, len(new) - len(old)))
        under = old[: len(new)].ljust(len(new), b"\0")
        pieces = []
        for at in range(0, len(new), TEAR_BYTES):
            pieces.append((new if self.rng.random() < 0.5 else under)[at : at + TEAR_BYTES])
        return b"".join(pieces)

    # --- for the model: looks without side effects ---

    def look(self, path: str) -> Node | None:
        """The node at a path from the root, as the running system sees it."""
        node: Node | None = self.root
        for part in path.split("/"):
            if part:
                node = node.entries.get(part) if isinstance(node, Folder) else None
        return node

    def walk(self, path: str = "") -> Iterator[tuple[str, File]]:
        """Every file below a folder, with its path."""
        top = self.look(path)
        if isinstance(top, Folder):
            for name, node in top.entries.items():
                below = f"{path}/{name}" if path else name
                if isinstance(node, File):
                    yield below, node
                else:
                    yield from self.walk(below)
