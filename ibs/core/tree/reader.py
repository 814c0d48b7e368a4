"""Reads a tree archive through a function that fetches chunks; streaming, seeking, trusting nothing.

Pure; used by restore, by listings and by the next backup's merge-join. Memory: one decoded block, a few nodes, and the
extents of one file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from ibs.core import limits
from ibs.core.tree.block import WireBlock, iter_block, parse_block
from ibs.core.tree.entry import (
    FLAG_CONTINUED,
    ID_BYTES,
    Entry,
    Extent,
    Kind,
    after_subtree,
    check_data,
    path_key,
    show,
)
from ibs.core.tree.node import Child, Node, decode_node
from ibs.core.tree.order import check_step, common_prefix_bytes
from ibs.errors import FormatError

_JUMP_AFTER_ENTRIES: Final = 4096
"""Passing this many entries costs less than finding a place anew from the root."""


class _Opened(NamedTuple):
    """A node with the sort keys of its children."""

    node: Node
    keys: list[bytes]


class TreeReader:
    """One archive. `fetch(id) -> plaintext` may raise; its errors pass through.

    `root` and `depth` come from the index header. Not thread-safe; several iterators may be open at once.
    """

    def __init__(self, fetch: Callable[[bytes], bytes], root: bytes, depth: int) -> None:
        """Raises FormatError when root or depth cannot be."""
        if len(root) != ID_BYTES or not 0 <= depth <= limits.TREE_DEPTH_MAX:
            raise FormatError(f"a tree of depth {depth} with a root id of {len(root)} bytes cannot be")
        self._fetch = fetch
        self._root = Child(b"", root, 1, 1)
        self._depth = depth
        self._nodes: dict[bytes, _Opened] = {}
        self._recent: tuple[bytes, WireBlock] | None = None

    def entries(self, start: bytes = b"", prefix: bytes | None = None) -> Iterator[Entry]:
        """Whole entries in canonical order, from the first path at or after `start`.

        With `prefix`, only that path and what is below it. Blocks before the start are not fetched.
        Raises FormatError as soon as something is wrong; entries given out before were sound.
        """
        lower = path_key(start)
        inside = None
        if prefix:
            lower = max(lower, path_key(prefix))
            inside = prefix + b"/"
        for entry in self._merged(lower):
            if inside is not None and entry.path != prefix and not entry.path.startswith(inside):
                return
            yield entry

    def find(self, path: bytes) -> Entry | None:
        """The entry of exactly this path, or None. Raises FormatError."""
        entry = next(self.entries(start=path), None)
        return entry if entry is not None and entry.path == path else None

    def children(self, folder: bytes) -> Iterator[Entry]:
        """What lies directly in a folder, in order. Large subtrees are jumped over, unread. Raises FormatError."""
        inside = folder + b"/" if folder else b""
        start: bytes | None = inside or b"\1"
        while start is not None:
            entries, start, deeper = self.entries(start), None, 0
            for entry in entries:
                if not entry.path.startswith(inside):
                    return
                name, slash, _ = entry.path[len(inside) :].partition(b"/")
                if not slash:
                    deeper = 0
                    yield entry
                elif (deeper := deeper + 1) >= _JUMP_AFTER_ENTRIES:
                    start = after_subtree(inside + name)
                    break

    def _merged(self, lower: bytes) -> Iterator[Entry]:
        """Entries from sort key `lower` on, continuations joined to the entry that they continue."""
        head: Entry | None = None
        extents: list[Extent] = []
        for entry in self._pieces(lower):
            if head is None and entry.flags < FLAG_CONTINUED and entry.kind is not Kind.CONTINUATION:
                yield entry
                continue
            if head is None:
                head = entry
            if (head is not entry) != (entry.kind is Kind.CONTINUATION) or head.path != entry.path:
                raise FormatError(f"{show(head.path)!r} and its continuation do not belong together")
            extents += entry.extents
            if len(extents) > limits.FILE_EXTENTS_MAX:
                raise FormatError(f"{show(head.path)!r} has over {limits.FILE_EXTENTS_MAX} extents")
            if entry.flags < FLAG_CONTINUED:
                whole = msgspec.structs.replace(head, extents=tuple(extents), flags=head.flags & ~FLAG_CONTINUED)
                head, extents = None, []
                check_data(whole)
                yield whole
        if head is not None:
            raise FormatError(f"{show(head.path)!r} lacks its continuation")

    def _pieces(self, lower: bytes) -> Iterator[Entry]:
        """Entries as the blocks hold them, from sort key `lower` on; the step from block to block is checked."""
        before: Entry | None = None
        for child in self._blocks(self._root, self._depth, lower):
            entries = iter_block(self._block(child), b"" if before is not None else lower)
            entry = next(entries, None)
            if entry is None:
                continue
            if before is not None:
                if entry.kind is not Kind.CONTINUATION:
                    shared = common_prefix_bytes(before.path, entry.path)
                    check_step(before.path, before.kind is Kind.DIR, shared, entry.path[shared:])
            elif entry.path and not lower:
                raise FormatError("a tree archive begins with its root, the empty path")
            yield entry
            for entry in entries:
                yield entry
            before = entry

    def _blocks(self, child: Child, level: int, lower: bytes) -> Iterator[Child]:
        """Blocks below `child`, which is of `level`, beginning with the one where `lower` belongs."""
        if level == 0:
            yield child
            return
        opened = self._node(child, level)
        children = opened.node.children
        first = 0
        if lower:
            first = bisect_left(opened.keys, lower)
            if first == len(children) or opened.keys[first] != lower or self._goes_on(children[first], level - 1):
                first = max(first - 1, 0)
        for i in range(first, len(children)):
            yield from self._blocks(children[i], level - 1, lower if i == first else b"")

    def _goes_on(self, child: Child, level: int) -> bool:
        """Whether the first block below begins with a continuation, so that its first path began earlier."""
        while level:
            child = self._node(child, level).node.children[0]
            level -= 1
        return self._block(child).entries[0].kind is Kind.CONTINUATION

    def _node(self, child: Child, level: int) -> _Opened:
        opened = self._nodes.pop(child.id, None)
        if opened is None:
            node = decode_node(self._plaintext(child))
            opened = _Opened(node, [path_key(below.first_path) for below in node.children])
            if len(self._nodes) >= limits.TREE_NODES_CACHED_MAX:
                del self._nodes[next(iter(self._nodes))]
        self._nodes[child.id] = opened
        node = opened.node
        if node.level != level:
            raise FormatError(f"a node has level {node.level} where {level} belongs")
        if child is not self._root and (
            node.children[0].first_path != child.first_path
            or sum(below.entries for below in node.children) != child.entries
        ):
            raise FormatError(f"the node at {show(child.first_path)!r} is not what its parent says")
        return opened

    def _block(self, child: Child) -> WireBlock:
        if self._recent is not None and self._recent[0] == child.id:
            block = self._recent[1]
        else:
            block = parse_block(self._plaintext(child))
            self._recent = (child.id, block)
        if child is not self._root and (
            block.entries[0].suffix != child.first_path or len(block.entries) != child.entries
        ):
            raise FormatError(f"the block at {show(child.first_path)!r} is not what its node says")
        return block

    def _plaintext(self, child: Child) -> bytes:
        data = self._fetch(child.id)
        if child is not self._root and len(data) != child.plain_bytes:
            raise FormatError(f"a chunk of the tree has {len(data)} bytes where its node says {child.plain_bytes}")
        return data
