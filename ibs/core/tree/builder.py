"""Writes a tree archive: entries in, plaintexts of metadata chunks out. Sans I/O.

Pure; used by the client's backup pipeline. Invariants: the same entries give the same chunks; every emitted chunk is
one that `TreeReader` accepts; at most one block and one node a level are held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ibs.core import limits
from ibs.core.tree.block_writer import BlockWriter, closes_block
from ibs.core.tree.entry import (
    FLAG_CONTINUED,
    INT63_MAX,
    NO_FS,
    Entry,
    Kind,
    check_entry,
    clamp_time_ns,
    coalesce_extents,
)
from ibs.core.tree.node import Child, NodeWriter
from ibs.core.tree.order import check_step, common_prefix_bytes
from ibs.errors import FormatError


class TreeRoot(NamedTuple):
    """What the index header and the manifest need. `entries` counts paths; `depth` 0: the root is a block."""

    id: bytes
    depth: int
    entries: int
    blocks: int


class TreeBuilder:
    """Takes entries in canonical order, the root path `b""` first, each folder before what is in it.

    `emit(plaintext) -> chunk id` is called once for each finished block or node, children before parents. After a
    FormatError the builder must be dropped.
    """

    def __init__(self, emit: Callable[[bytes], bytes]) -> None:
        self._emit = emit
        self._block = BlockWriter()
        self._levels: list[NodeWriter] = []
        self._path = b""
        self._folder = False
        self._entries = 0
        self._blocks = 0

    def add(self, entry: Entry) -> None:
        """Append one whole entry; extents are coalesced, a long list of them is continued, far times are clamped.

        Raises FormatError when the entry breaks the format or the order; nothing of it is written then.
        """
        mtime_ns, ctime_ns = entry.mtime_ns, entry.ctime_ns
        if not -INT63_MAX <= mtime_ns <= INT63_MAX or not -INT63_MAX <= ctime_ns <= INT63_MAX:
            # XFS and ext4 hold such times; a strange date must not cost the backup.
            entry = msgspec.structs.replace(entry, mtime_ns=clamp_time_ns(mtime_ns), ctime_ns=clamp_time_ns(ctime_ns))
        check_entry(entry)
        path = entry.path
        before = self._path
        if self._entries:
            shared = common_prefix_bytes(before, path)
            suffix = path[shared:]
            check_step(before, self._folder, shared, suffix)
        else:
            if path:
                raise FormatError("a tree archive begins with its root, the empty path")
            shared, suffix = 0, b""
        self._path = path
        self._folder = entry.kind is Kind.DIR
        self._entries += 1
        if len(entry.extents) > 1:
            self._add_file(entry, shared, suffix)
        elif self._block.add(entry, shared, suffix):
            self._close_block()

    def fits(self, block: Child, last_path: bytes) -> bool:
        """Whether a whole block of an older archive may be adopted now: no block is open, and it ends by the rule.

        Then the archive comes out the same as if its entries were added.
        """
        return not len(self._block) and closes_block(block.plain_bytes, last_path)

    def adopt(self, block: Child, last_path: bytes, *, last_is_folder: bool) -> None:
        """Take over a whole block of an older archive, unread, in place of its entries; `fits` must have said yes.

        The caller vouches that its entries, none of them continued, are exactly what `add` would be given next.
        Raises FormatError when it breaks the order or does not fit.
        """
        if not self.fits(block, last_path):
            raise FormatError("a block cannot be taken over into an open one")
        if self._entries:
            shared = common_prefix_bytes(self._path, block.first_path)
            check_step(self._path, self._folder, shared, block.first_path[shared:])
        elif block.first_path:
            raise FormatError("a tree archive begins with its root, the empty path")
        self._path = last_path
        self._folder = last_is_folder
        self._entries += block.entries
        self._blocks += 1
        self._add_child(0, block)

    def finish(self) -> TreeRoot:
        """Write what is open and return the root. Raises FormatError when nothing was added."""
        if len(self._block):
            self._close_block()
        if not self._levels:
            raise FormatError("a tree archive without entries cannot be written")
        depth = 0
        while self._levels[depth].written or len(self._levels[depth].children) > 1:
            if self._levels[depth].children:
                self._close_node(depth)
            depth += 1
        # Nothing was ever closed at this level and one child waits: everything is below that child.
        (root,) = self._levels[depth].children
        return TreeRoot(root.id, depth, self._entries, self._blocks)

    def _add_file(self, entry: Entry, shared: int, suffix: bytes) -> None:
        """Append a file of several extents, in as many entries as it takes."""
        extents = coalesce_extents(entry.extents)
        step = limits.ENTRY_EXTENTS_MAX
        if len(extents) == len(entry.extents) <= step:
            if self._block.add(entry, shared, suffix):
                self._close_block()
            return
        for first in range(0, len(extents), step):
            part = extents[first : first + step]
            more = FLAG_CONTINUED if first + step < len(extents) else 0
            if first == 0:
                piece = msgspec.structs.replace(entry, extents=part, flags=entry.flags | more)
            else:
                piece = Entry(entry.path, Kind.CONTINUATION, fs=NO_FS, flags=more, extents=part)
                shared, suffix = len(entry.path), b""
            if self._block.add(piece, shared, suffix):
                self._close_block()

    def _close_block(self) -> None:
        entries = len(self._block)
        first_path = self._block.first_path
        data = self._block.take()
        self._blocks += 1
        self._add_child(0, Child(first_path, self._emit(data), len(data), entries))

    def _close_node(self, depth: int) -> None:
        data, first_path, entries = self._levels[depth].take()
        self._add_child(depth + 1, Child(first_path, self._emit(data), len(data), entries))

    def _add_child(self, depth: int, child: Child) -> None:
        """Put a finished chunk of level `depth` into the open node above it."""
        if depth == len(self._levels):
            if depth > limits.TREE_DEPTH_MAX:
                raise FormatError(f"the tree would need more than {limits.TREE_DEPTH_MAX} levels of nodes")
            self._levels.append(NodeWriter(depth + 1))
        if self._levels[depth].add(child):
            self._close_node(depth)
