"""Nodes: the small tree of first paths that leads to metadata blocks (formats.md section 4.3).

Pure; used by the builder and the reader of `core.tree`.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ibs.core import limits
from ibs.core.tree.entry import ID_BYTES, INT63_MAX, check_path, path_key
from ibs.errors import FormatError

NODE_VERSION: Final = 1
_BOUNDARY_MASK: Final = 255


class Child(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A block or node below: its first path, chunk, plaintext length, and entries (continuations counted)."""

    first_path: Annotated[bytes, Meta(max_length=limits.PATH_BYTES_MAX)]
    id: Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
    plain_bytes: Annotated[int, Meta(ge=1, le=limits.CHUNK_PLAIN_BYTES_MAX)]
    entries: Annotated[int, Meta(ge=1, le=INT63_MAX)]


class Node(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Level 1 refers to blocks, level n to nodes of level n-1."""

    version: int
    level: Annotated[int, Meta(ge=1, le=limits.TREE_DEPTH_MAX)]
    children: Annotated[list[Child], Meta(min_length=1, max_length=limits.NODE_CHILDREN_MAX)]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Node)


def decode_node(data: bytes) -> Node:
    """A node with its own rules checked. Raises FormatError on anything hostile.

    First paths ascend; equal ones are accepted here, because a very large file can fill several blocks with its
    continuations alone. The reader refuses a second block that is anything else.
    """
    if len(data) > limits.NODE_BYTES_MAX:
        raise FormatError(f"node of {len(data)} bytes is longer than {limits.NODE_BYTES_MAX}")
    try:
        node = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"node is malformed: {error}") from error
    if node.version != NODE_VERSION:
        raise FormatError(f"node has version {node.version}; this program reads {NODE_VERSION}")
    for child in node.children:
        check_path(child.first_path)
    keys = [path_key(child.first_path) for child in node.children]
    if any(a > b for a, b in pairwise(keys)):
        raise FormatError("children of a node are out of order")
    return node


class NodeWriter:
    """Collects the children of one node at one level."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.written = 0
        self._children: list[Child] = []
        self._raw_bytes = 0

    @property
    def children(self) -> list[Child]:
        """What is waiting for the node to be closed."""
        return self._children

    def add(self, child: Child) -> bool:
        """Append; returns whether the node must be closed now."""
        self._children.append(child)
        self._raw_bytes += len(_ENCODER.encode(child))
        count = len(self._children)
        return (
            count >= limits.NODE_CHILDREN_MAX
            or self.encoded_bytes >= limits.METADATA_BLOCK_BYTES_MAX
            or (count >= limits.NODE_CHILDREN_MIN and zlib.crc32(child.first_path) & _BOUNDARY_MASK == _BOUNDARY_MASK)
        )

    @property
    def encoded_bytes(self) -> int:
        """Length of the node if it were closed now (the header of the children's array takes 1 or 3 bytes)."""
        return self._raw_bytes + (4 if len(self._children) < 16 else 6)

    def take(self) -> tuple[bytes, bytes, int]:
        """The node, its first path and its entry count; the writer is empty again."""
        children = self._children
        self._children = []
        self._raw_bytes = 0
        self.written += 1
        data = _ENCODER.encode(Node(NODE_VERSION, self.level, children))
        return data, children[0].first_path, sum(child.entries for child in children)
