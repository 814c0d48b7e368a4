"""The entries of the previous snapshot, walked beside the scan in the same canonical order.

Importable by the backup pipeline only; runs in the reading thread. There are two gaits. At the start of an old metadata
block, `begin` offers the whole block as an `OldRun`: as long as what the scan finds is what the block says, nothing is
unfolded, and a block that was right to its last entry is taken over whole. At the first difference `give_up` unfolds
what was passed, and the rest of that block is walked entry by entry with `match`. Any call may raise `ChunkWanted` and
can then be repeated; FormatError means that the old archive is not sound.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import msgspec

from ibs.client.backup.base import BaseIndex
from ibs.core import limits
from ibs.core.ids import ID_BYTES
from ibs.core.tree import (
    FLAG_CONTINUED,
    Child,
    Entry,
    Extent,
    Kind,
    WireBlock,
    decode_node,
    iter_block,
    parse_block,
    path_key,
)
from ibs.errors import FormatError
from ibs.sources.tree.scan import Found

Fetch = Callable[[bytes], bytes]


class BlockWalk:
    """Blocks of a tree in order. A step that `fetch` breaks off leaves everything as it was."""

    def __init__(self, fetch: Fetch, root: bytes, depth: int) -> None:
        self._fetch = fetch
        self._root: bytes | None = root
        self._depth = depth
        self._ways: list[tuple[list[Child], int]] = []
        self._next: Child | None = None

    def peek(self) -> Child | None:
        """The next block, or None at the end. Its counts are 1 when it is the root itself."""
        while self._next is None:
            if self._root is not None:
                if self._depth:
                    self._descend(self._root, self._depth)
                else:
                    self._next = Child(b"", self._root, 1, 1)
                self._root = None
                continue
            if not self._ways:
                return None
            children, at = self._ways[-1]
            if at == len(children):
                self._ways.pop()
            elif len(self._ways) == self._depth:
                self._next = children[at]
                self._ways[-1] = (children, at + 1)
            else:
                self._descend(children[at].id, self._depth - len(self._ways))
                self._ways[-2] = (children, at + 1)
        return self._next

    def advance(self) -> None:
        """Past the block that `peek` showed."""
        self._next = None

    def _descend(self, chunk_id: bytes, level: int) -> None:
        node = decode_node(self._fetch(chunk_id))
        if node.level != level:
            raise FormatError(f"a node has level {node.level} where {level} belongs")
        self._ways.append((node.children, 0))


class OldRun:
    """An old block being compared with the scan. Complete, it is an item that stands for all its entries."""

    __slots__ = ("_ids", "_path", "at", "block", "child", "files", "size")

    def __init__(self, child: Child, block: WireBlock) -> None:
        self.child = child
        self.block = block
        self.at = 0
        self.files = 0
        self.size = 0
        self._path = b""

    @property
    def complete(self) -> bool:
        """Whether every entry was found to be as it was."""
        return self.at == len(self.block.entries)

    @property
    def last_path(self) -> bytes:
        """Path of the last entry passed."""
        return self._path

    @property
    def last_is_folder(self) -> bool:
        """Whether that is a folder."""
        return self.block.entries[self.at - 1].kind is Kind.DIR

    def data_ids(self) -> Iterator[bytes]:
        """Data chunks that the block refers to, in order of first use."""
        ids = self.block.ids
        return (ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))

    def entries(self) -> Iterator[Entry]:
        """All entries of the block, unfolded and checked. Raises FormatError that says what to do."""
        try:
            yield from iter_block(self.block)
        except FormatError as error:
            raise FormatError(
                f"the previous snapshot is not sound: {error}", hint="verify it; back up with --reread meanwhile"
            ) from error

    def accepts(self, found: Found, kind: Kind, link: bytes | None, rdev: int, now_ns: int) -> bool:
        """Whether the next entry is what was found, by the racy-clean rule; if so, it is passed.

        `kind` is what the entry must be (a hard link is found as a file); `link` the target where it is known already.
        """
        wire = self.block.entries[self.at]
        st = found.stat
        path = self._path[: wire.shared] + wire.suffix
        if (
            path != found.path
            or wire.kind is not kind
            or not found.listed
            or wire.mtime_ns != st.st_mtime_ns
            or wire.ctime_ns != st.st_ctime_ns
            or wire.inode != st.st_ino
            or wire.flags
            or wire.mode != st.st_mode & 0o7777
            or wire.uid != st.st_uid
            or wire.gid != st.st_gid
            or now_ns - wire.ctime_ns < limits.RACY_WINDOW_NS
            or now_ns - wire.mtime_ns < limits.RACY_WINDOW_NS
            or self.block.file_systems[wire.fs] != found.file_system.id
        ):
            return False
        if kind is Kind.FILE:
            if wire.size != st.st_size:
                return False
            self.files += 1
            self.size += wire.size
        elif (link is not None and wire.link != link) or wire.rdev != rdev:
            return False
        self._path = path
        self.at += 1
        return True

    def link(self) -> bytes:
        """Link target of the entry passed last."""
        return self.block.entries[self.at - 1].link


class PreviousTree:
    """The old entries. Paths must be asked for in canonical order. One thread at a time."""

    def __init__(self, base: BaseIndex, fetch: Fetch) -> None:
        self.unusable = base.unusable
        self.repack: frozenset[bytes] = frozenset()
        """Chunks that nothing may be taken over from, because too little of them is in use."""
        self._fetch = fetch
        self._walk: BlockWalk | None = BlockWalk(fetch, base.header.root, base.header.depth)
        self._pieces: Iterator[Entry] | None = None
        self._head: Entry | None = None
        self._partial: list[Entry] = []

    def end(self) -> None:
        """Build on it no further: everything from here on counts as new."""
        self._walk = None
        self._pieces = self._head = None
        self._partial = []

    def begin(self, path: bytes) -> OldRun | None:
        """The block that starts exactly with `path`, if the walk is at its start and it may be taken over whole."""
        if self._pieces is not None and self._head is None:
            self._head = self._next_entry()  # None where the block that was being walked has just ended
        if self._pieces is not None or self._head is not None or self._walk is None:
            return None
        child = self._walk.peek()
        if child is None or child.first_path != path or child.id in self.unusable:
            return None
        run = self._open(child)
        if (self.unusable or self.repack) and any(one in self.unusable or one in self.repack for one in run.data_ids()):
            self._pieces = run.entries()
            return None
        return run

    def give_up(self, run: OldRun) -> list[Entry]:
        """The entries that `run` has passed; the walk goes on with the one after them."""
        pieces = run.entries()
        passed = list(itertools.islice(pieces, run.at))
        self._pieces = pieces
        return passed

    def match(self, path: bytes) -> Entry | None:
        """The old entry of this path, if there was one."""
        while True:
            if self._head is None:
                if self._pieces is None and not self._next_block(path):
                    return None
                self._head = self._next_entry()
                if self._head is None:
                    continue
            if self._head.path == path:
                head, self._head = self._head, None
                return head
            if path_key(self._head.path) > path_key(path):
                return None
            self._head = None

    def _next_block(self, path: bytes) -> bool:
        """Open the next block unless it begins after `path`."""
        child = self._walk.peek() if self._walk is not None else None
        if child is None or path_key(child.first_path) > path_key(path):
            return False
        self._pieces = self._open(child).entries()
        return True

    def _open(self, child: Child) -> OldRun:
        assert self._walk is not None  # noqa: S101 - it has just shown this child
        plain = self._fetch(child.id)
        block = parse_block(plain)
        if (child.first_path, child.plain_bytes, child.entries) == (b"", 1, 1):
            child = Child(b"", child.id, len(plain), len(block.entries))
        if (len(plain), len(block.entries), block.entries[0].suffix) != (
            child.plain_bytes,
            child.entries,
            child.first_path,
        ):
            raise FormatError(f"the block at {os.fsdecode(child.first_path)!r} is not what its node says")
        file_systems = len(block.file_systems)
        if any(wire.fs >= file_systems for wire in block.entries if wire.kind is not Kind.CONTINUATION):
            raise FormatError(
                f"the block at {os.fsdecode(child.first_path)!r} names a file system that it does not list"
            )
        self._walk.advance()
        return OldRun(child, block)

    def _next_entry(self) -> Entry | None:
        """The next whole entry; None at the end of the block."""
        while True:
            piece = next(self._pieces, None) if self._pieces is not None else None
            if piece is None:
                if not self._partial:
                    self._pieces = None
                    return None
                self._continue()
            elif not self._partial and piece.flags < FLAG_CONTINUED:
                if piece.kind is Kind.CONTINUATION:
                    raise FormatError("a continuation of nothing")
                return piece
            else:
                self._partial.append(piece)
                if piece.flags < FLAG_CONTINUED:
                    return self._joined()

    def _continue(self) -> None:
        """Open the block that goes on with the file whose extents are being gathered."""
        child = self._walk.peek() if self._walk is not None else None
        if child is None or child.first_path != self._partial[0].path:
            raise FormatError("a file lacks its continuation")
        self._pieces = self._open(child).entries()

    def _joined(self) -> Entry:
        first, *more = self._partial
        extents: list[Extent] = list(first.extents)
        for piece in more:
            if piece.kind is not Kind.CONTINUATION or piece.path != first.path:
                raise FormatError("a file and its continuation do not belong together")
            extents += piece.extents
        if len(extents) > limits.FILE_EXTENTS_MAX:
            raise FormatError(f"a file has over {limits.FILE_EXTENTS_MAX} extents")
        self._partial = []
        return msgspec.structs.replace(first, extents=tuple(extents), flags=first.flags & ~FLAG_CONTINUED)
