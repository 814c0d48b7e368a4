"""Hostile bytes never do more than raise FormatError, and what they get past the checks obeys the format."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from ibs.core import limits
from ibs.core.tree import (
    FLAG_CONTINUED,
    Entry,
    Kind,
    TreeReader,
    check_entry,
    check_path,
    decode_block,
    decode_node,
    path_key,
)
from ibs.errors import FormatError
from ibs_tests.support.archives import build, every_kind, reference_encode, trees

GOOD = reference_encode(every_kind())


def assert_sound(entries: list[Entry]) -> None:
    """What the decoder lets through keeps the promises of the format."""
    for entry in entries:
        check_path(entry.path)
        if entry.kind is Kind.CONTINUATION:
            assert entry.extents
            assert not entry.size
        elif not entry.flags & FLAG_CONTINUED:
            check_entry(entry)
    for before, entry in pairwise(entries):
        if entry.kind is Kind.CONTINUATION:
            assert before.path == entry.path
            assert before.flags & FLAG_CONTINUED
        else:
            assert path_key(before.path) < path_key(entry.path)
            assert not before.flags & FLAG_CONTINUED
            assert not entry.path.startswith(before.path + b"/") or before.kind is Kind.DIR


def decode(data: bytes) -> list[Entry]:
    try:
        entries = decode_block(data)
    except FormatError:
        return []
    assert_sound(entries)
    return entries


@given(st.binary(max_size=200))
@example(b"\x94\x01\xdd\xff\xff\xff\xff")
def test_any_bytes(data: bytes) -> None:
    decode(data)
    decode(b"\x94\x01\x90\xc4\x00" + data)
    with contextlib.suppress(FormatError):
        decode_node(data)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=5), st.integers(0, 5))
def test_a_good_block_with_bytes_changed(at: int, new: bytes, cut: int) -> None:
    decode(GOOD[:at] + new + GOOD[at + cut :])


@given(trees(max_entries=12), st.data())
def test_a_good_block_with_values_changed(entries: list[Entry], data: st.DataObject) -> None:
    document: list[Any] = msgspec.msgpack.decode(reference_encode(entries))
    odd = st.one_of(
        st.integers(-(2**63), 2**64 - 1),
        st.sampled_from([0, 1, 2, 8, 9, 2**32, 2**63 - 1, 2**63, -1]),
        st.binary(max_size=4),
        st.sampled_from([b"", b".", b"..", b"/", b"a/b", b"\0", b"/..", b"../x"]),
        st.lists(st.integers(0, 3) | st.binary(max_size=2), max_size=7),
        st.none(),
        st.text(max_size=2),
    )
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.integers(0, len(document[3]) - 1))
        document[3][row][data.draw(st.integers(0, 16))] = data.draw(odd)
    decode(msgspec.msgpack.encode(document))


@given(trees(max_entries=12), st.data())
def test_good_entries_in_another_order(entries: list[Entry], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(entries))
    got = decode(reference_encode(shuffled))
    assert not got or shuffled == entries or [entry.path for entry in got] == [entry.path for entry in shuffled]


@settings(max_examples=50)
@given(trees(), st.data())
def test_a_tree_with_chunks_swapped(entries: list[Entry], data: st.DataObject) -> None:
    """A store that answers with another chunk of the same tree is noticed, or the answer was sound."""
    saved = limits.METADATA_BLOCK_BYTES_MIN, limits.METADATA_BLOCK_BYTES_MAX, limits.NODE_CHILDREN_MAX
    limits.METADATA_BLOCK_BYTES_MIN, limits.METADATA_BLOCK_BYTES_MAX, limits.NODE_CHILDREN_MAX = 100, 200, 3
    try:
        chunks, root = build(entries)
    except FormatError:
        reject()  # under limits as small as these a long path fills a node alone, and the levels run out
    finally:
        limits.METADATA_BLOCK_BYTES_MIN, limits.METADATA_BLOCK_BYTES_MAX, limits.NODE_CHILDREN_MAX = saved
    ids = sorted(chunks)
    table = {chunk_id: chunks[data.draw(st.sampled_from(ids))] for chunk_id in ids}
    got: list[Entry] = []
    try:
        for entry in TreeReader(table.__getitem__, root.id, root.depth).entries():
            got.append(entry)
            assert len(got) <= 10 * len(entries)
    except FormatError:
        pass
    assert_sound(got)
    assert not got or got[0].path == b""
