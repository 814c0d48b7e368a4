"""What an index says of its chunks."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from ibs.client.restore.chunks import TreeChunks
from ibs.core.index import HEADER_BYTES, parse_header
from ibs.errors import FormatError
from ibs_tests.support.restores import Entry, Kind, MemorySnapshot, folder, replace_extents


def sample() -> tuple[MemorySnapshot, bytes, list[bytes]]:
    snapshot = MemorySnapshot()
    data = [os.urandom(100 + number) for number in range(5)]
    ids = [snapshot.chunk(each) for each in data]
    entries = [folder(b"")]
    for number, each in enumerate(data):
        entry = Entry(path=b"f%d" % number, kind=Kind.FILE, size=len(each))
        entries.append(replace_extents(entry, snapshot.extents(each)))
    snapshot.add_tree("a.tree", entries)
    return snapshot, snapshot.files["a.tree.idx"], ids


def test_lengths_of_what_is_listed() -> None:
    _, raw, ids = sample()
    chunks = TreeChunks(parse_header(raw), raw)
    assert chunks.lengths([*ids, b"?" * 32, ids[0]]) == {each: 100 + number for number, each in enumerate(ids)}
    assert chunks.lengths([]) == {}
    assert chunks.data_bytes == sum(range(100, 105))


def test_metadata_in_order_of_use() -> None:
    snapshot, raw, ids = sample()
    chunks = TreeChunks(parse_header(raw), raw)
    root = chunks.header.root
    assert chunks.metadata_after(ids[0], 5) == [(root, len(snapshot.plain[root]))]
    assert chunks.metadata_after(root, 5) == []


def test_records_that_do_not_fit_are_refused() -> None:
    _, raw, _ = sample()
    header = parse_header(raw)
    broken = bytearray(raw)
    broken[HEADER_BYTES] ^= 1
    with pytest.raises(FormatError):
        TreeChunks(header, bytes(broken))
    with pytest.raises(FormatError):
        TreeChunks(replace(header, kind="img"), raw)
