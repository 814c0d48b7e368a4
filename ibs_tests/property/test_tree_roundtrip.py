"""Any valid tree: written where the format's text says, read back equal, found from any place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibs.core import limits
from ibs.core.tree import (
    Entry,
    Extent,
    Kind,
    after_subtree,
    coalesce_extents,
    coalesce_ranges,
    decode_block,
    decode_node,
    path_key,
)
from ibs_tests.support.archives import build, chunk, reader, reference_blocks, reference_encode, trees

replace = msgspec.structs.replace
FEWER = settings(max_examples=50)


@pytest.fixture(autouse=True, scope="module")
def small_limits() -> Iterator[None]:
    """Small blocks, nodes and entries, so that small trees have every shape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 150)
        patch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 400)
        patch.setattr(limits, "METADATA_BLOCK_PATH_BYTES_MAX", 300)
        patch.setattr(limits, "NODE_CHILDREN_MIN", 2)
        patch.setattr(limits, "NODE_CHILDREN_MAX", 4)
        patch.setattr(limits, "ENTRY_EXTENTS_MAX", 3)
        yield


def canonical(entries: list[Entry]) -> list[Entry]:
    """As the builder stores them: neighbouring extents joined."""
    return [replace(entry, extents=coalesce_extents(entry.extents)) for entry in entries]


def split(entries: list[Entry]) -> list[Entry]:
    """Entries as blocks hold them, from the format's text."""
    stored = []
    for entry in entries:
        parts = [entry.extents[i : i + 3] for i in range(0, len(entry.extents), 3)] or [()]
        for n, part in enumerate(parts):
            flag = 4 if n + 1 < len(parts) else 0
            if n == 0:
                stored.append(replace(entry, extents=part, flags=entry.flags | flag))
            else:
                stored.append(Entry(path=entry.path, kind=Kind.CONTINUATION, extents=part, flags=flag))
    return stored


@FEWER
@given(trees())
def test_what_is_built_is_read_back(entries: list[Entry]) -> None:
    chunks, root = build(entries)
    assert list(reader(chunks, root).entries()) == canonical(entries)
    assert root.entries == len(entries)


@FEWER
@given(trees())
def test_blocks_are_those_of_the_format(entries: list[Entry]) -> None:
    chunks, _ = build(entries)
    expected = [reference_encode(block) for block in reference_blocks(split(canonical(entries)))]
    assert [data for data in chunks.emitted if data[0] == 0x94] == expected


@FEWER
@given(trees(), st.data())
def test_any_place_is_found(entries: list[Entry], data: st.DataObject) -> None:
    chunks, root = build(entries)
    tree = reader(chunks, root)
    expected = canonical(entries)
    entry = data.draw(st.sampled_from(expected))
    assert tree.find(entry.path) == entry
    place = data.draw(st.sampled_from([entry.path, after_subtree(entry.path), entry.path + b"x", entry.path[:-1]]))
    assert list(tree.entries(start=place)) == [e for e in expected if path_key(e.path) >= path_key(place)]
    inside = [e for e in expected if e.path == entry.path or e.path.startswith(entry.path + b"/") or not entry.path]
    assert list(tree.entries(prefix=entry.path)) == inside
    above = entry.path.count(b"/") + 1 if entry.path else 0
    below = [e for e in inside if e.path != entry.path and e.path.count(b"/") == above]
    assert list(tree.children(entry.path)) == below


@FEWER
@given(trees())
def test_seeking_reads_one_way_down(entries: list[Entry]) -> None:
    chunks, root = build(entries)
    for entry in entries:
        chunks.fetched.clear()
        tree = reader(chunks, root)
        assert next(tree.entries(start=entry.path)).path == entry.path
        # A place where a block begins with a continuation costs a look at that block; continuations are then read on.
        spare = root.depth + 1 if len(entry.extents) > limits.ENTRY_EXTENTS_MAX else 0
        continued = 2 * (len(entry.extents) // limits.ENTRY_EXTENTS_MAX)
        assert len(set(chunks.fetched)) <= root.depth + 1 + spare + continued


@FEWER
@given(trees())
def test_nodes_say_what_is_below_them(entries: list[Entry]) -> None:
    chunks, root = build(entries)

    def count(chunk_id: bytes, level: int) -> int:
        if level == 0:
            return len(decode_block(chunks[chunk_id]))
        node = decode_node(chunks[chunk_id])
        assert node.level == level
        for child in node.children:
            assert child.plain_bytes == len(chunks[child.id])
            assert child.entries == count(child.id, level - 1)
        return sum(child.entries for child in node.children)

    assert count(root.id, root.depth) == len(split(canonical(entries)))


@given(st.lists(st.builds(Extent, st.integers(0, 2).map(chunk), st.integers(0, 9), st.integers(1, 9)), max_size=12))
def test_coalescing_extents_keeps_the_bytes(extents: list[Extent]) -> None:
    def places(items: list[Extent] | tuple[Extent, ...]) -> list[tuple[bytes, int]]:
        return [(extent.id, extent.offset + i) for extent in items for i in range(extent.length)]

    joined = coalesce_extents(extents)
    assert places(joined) == places(extents)
    assert all(a.id != b.id or a.offset + a.length != b.offset for a, b in pairwise(joined))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.integers(1, 5))
def test_coalescing_ranges_keeps_all_data(gaps: list[tuple[int, int]], count_max: int) -> None:
    ranges, offset = [], 0
    for gap, length in gaps:
        ranges.append((offset + gap, length))
        offset += gap + length
    joined = coalesce_ranges(ranges, count_max)
    assert len(joined) <= count_max
    assert all(length > 0 for _, length in joined)
    assert all(a[0] + a[1] < b[0] for a, b in pairwise(joined))

    def places(items: list[tuple[int, int]] | tuple[tuple[int, int], ...]) -> set[int]:
        return {begin + i for begin, length in items for i in range(length)}

    assert places(joined) >= places(ranges)
    if len(coalesce_ranges(ranges, 1000)) <= count_max:
        assert places(joined) == places(ranges)
