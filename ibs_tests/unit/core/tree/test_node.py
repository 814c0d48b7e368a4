"""Nodes: written where the format says, refused when hostile."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest

from ibs.core import limits
from ibs.core.tree.node import Child, Node, NodeWriter, decode_node
from ibs.errors import FormatError
from ibs_tests.support.archives import chunk


def child(path: bytes, n: int = 1) -> Child:
    return Child(path, chunk(n), 1000, 10)


def test_a_node_is_read_back() -> None:
    writer = NodeWriter(2)
    assert not writer.add(child(b""))
    assert not writer.add(child(b"a", 2))
    size = writer.encoded_bytes
    data, first_path, entries = writer.take()
    assert (len(data), first_path, entries) == (size, b"", 20)
    assert decode_node(data) == Node(1, 2, [child(b""), child(b"a", 2)])
    assert (writer.written, writer.children) == (1, [])
    assert data == msgspec.msgpack.encode([1, 2, [[b"", chunk(1), 1000, 10], [b"a", chunk(2), 1000, 10]]])


@pytest.mark.parametrize("count", [15, 16, 17])
def test_encoded_bytes_is_the_length_of_the_node(count: int) -> None:
    writer = NodeWriter(1)
    for i in range(count):
        writer.add(child(b"%05d" % i))
    size = writer.encoded_bytes
    assert len(writer.take()[0]) == size


def paths(may_end: bool, count: int) -> list[bytes]:
    found = [p for n in range(99_999) if (zlib.crc32(p := b"%05d" % n) % 256 == 255) is may_end]
    return found[:count]


def test_a_node_ends_by_content_only_when_it_has_enough_children() -> None:
    writer = NodeWriter(1)
    closes = [writer.add(child(path)) for path in paths(True, limits.NODE_CHILDREN_MIN)]
    assert closes == [False] * (limits.NODE_CHILDREN_MIN - 1) + [True]


def test_a_node_ends_when_it_is_full() -> None:
    writer = NodeWriter(1)
    closes = [writer.add(child(path)) for path in paths(False, limits.NODE_CHILDREN_MAX)]
    assert closes == [False] * (limits.NODE_CHILDREN_MAX - 1) + [True]


def test_a_node_of_long_paths_ends_early_and_is_not_too_long() -> None:
    writer = NodeWriter(1)
    path = b"x" * (limits.PATH_BYTES_MAX - 1)
    closes = [writer.add(child(path + bytes([65 + i]))) for i in range(4)]
    assert closes == [False, False, False, True]
    data, _, _ = writer.take()
    assert len(data) <= limits.NODE_BYTES_MAX
    assert len(decode_node(data).children) == 4


GOOD: list[Any] = [b"a", chunk(1), 1000, 10]
HOSTILE: dict[str, Any] = {
    "version": [2, 1, [GOOD]],
    "level 0": [1, 0, [GOOD]],
    "level too high": [1, limits.TREE_DEPTH_MAX + 1, [GOOD]],
    "level of another type": [1, "1", [GOOD]],
    "no children": [1, 1, []],
    "too many children": [1, 1, [GOOD] * (limits.NODE_CHILDREN_MAX + 1)],
    "child too short": [1, 1, [GOOD[:3]]],
    "id too short": [1, 1, [[b"a", chunk(1)[:31], 1000, 10]]],
    "id too long": [1, 1, [[b"a", chunk(1) + b"x", 1000, 10]]],
    "plain length 0": [1, 1, [[b"a", chunk(1), 0, 10]]],
    "plain length over a chunk": [1, 1, [[b"a", chunk(1), limits.CHUNK_PLAIN_BYTES_MAX + 1, 10]]],
    "no entries": [1, 1, [[b"a", chunk(1), 1000, 0]]],
    "entries of 2^63": [1, 1, [[b"a", chunk(1), 1000, 2**63]]],
    "order": [1, 1, [[b"b", chunk(1), 1000, 10], GOOD]],
    "order at a slash": [1, 1, [[b"a!", chunk(1), 1000, 10], [b"a/b", chunk(1), 1000, 10]]],
    "path": [1, 1, [[b"a/../b", chunk(1), 1000, 10]]],
    "path too long": [1, 1, [[b"x" * (limits.PATH_BYTES_MAX + 1), chunk(1), 1000, 10]]],
    "a block instead": [1, [], b"", []],
    "a map": {"level": 1},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_nodes_are_refused(what: str) -> None:
    with pytest.raises(FormatError):
        decode_node(msgspec.msgpack.encode(HOSTILE[what]))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x93\x01\x01\xdd\xff\xff\xff\xff", b"\x91" * 1_000_000, bytes(limits.NODE_BYTES_MAX + 1)],
    ids=["empty", "count", "nesting", "length"],
)
def test_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_node(data)


def test_fields_that_later_versions_append_are_ignored() -> None:
    assert decode_node(msgspec.msgpack.encode([1, 1, [[*GOOD, "new"]], "more"])).children == [Child(*GOOD)]
