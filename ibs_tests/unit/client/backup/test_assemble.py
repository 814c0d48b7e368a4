"""From entries to records: every chunk once, in order of first use, with its length."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.client.backup.assemble import TreeAssembler
from ibs.client.backup.items import ChunkRef, Draft
from ibs.client.backup.known import Ledger
from ibs.core.blob import BlobEncoder
from ibs.core.ids import digest
from ibs.core.index import KIND_DATA, KIND_METADATA, iter_tree_records
from ibs.core.tree import Entry, Extent, Kind, TreeReader
from ibs.errors import FormatError
from ibs_tests.support.archives import chunk, file, folder


class FakeBase:
    """Knows lengths of old chunks."""

    def plain_lengths(self, ids: list[bytes]) -> list[int]:
        return [{chunk(1): 111, chunk(2): 222}.get(one, 0) for one in ids]


def assembler(base: FakeBase | None = None) -> TreeAssembler:
    return TreeAssembler(BlobEncoder(), Ledger(), base)  # type: ignore[arg-type]


def draft(path: bytes, here: Path, *refs: ChunkRef) -> Draft:
    made = Draft(path, os.stat(here), b"s" * 16, 0, ())
    made.spans = [(ref, 0, ref.length) for ref in refs]
    made.size = sum(ref.length for ref in refs)
    return made


def ref(content: bytes) -> ChunkRef:
    made = ChunkRef(memoryview(content), None)
    made.id = digest(content)
    return made


def test_records_are_in_order_of_first_use(tmp_path: Path) -> None:
    one, two = ref(b"one"), ref(b"two two")
    make = assembler(FakeBase())
    items = [
        folder(b""),
        draft(b"a", tmp_path, one, two),
        file(b"b", (2, 0, 5), (1, 0, 5), (2, 9, 5)),
        draft(b"c", tmp_path, two),
    ]
    first = make.add(items)
    root, rest = make.finish()
    rows = list(iter_tree_records(first.records + rest.records))
    assert rows[:4] == [
        (one.id, 3, KIND_DATA),
        (two.id, 7, KIND_DATA),
        (chunk(2), 222, KIND_DATA),
        (chunk(1), 111, KIND_DATA),
    ]
    (block,) = rest.metadata
    assert block.view is not None
    assert rows[4:] == [(root.id, block.length, KIND_METADATA)]
    assert first.ids + rest.ids == [row[0] for row in rows]
    assert make.plain_bytes == 10 + 15 + 7
    entries = list(TreeReader({root.id: bytes(block.view)}.__getitem__, root.id, root.depth).entries())
    assert [entry.path for entry in entries] == [b"", b"a", b"b", b"c"]
    assert entries[1].extents == (Extent(one.id, 0, 3), Extent(two.id, 0, 7))


def test_metadata_that_the_server_has_is_listed_and_not_sent() -> None:
    ledger = Ledger()
    first = TreeAssembler(BlobEncoder(), ledger, None)
    first.add([folder(b"")])
    _, made = first.finish()
    again = TreeAssembler(BlobEncoder(), ledger, None)
    again.add([folder(b"")])
    _, known = again.finish()
    assert (len(made.metadata), len(known.metadata)) == (1, 0)
    assert known.records == made.records


def test_a_chunk_nobody_knows_the_length_of_is_an_error() -> None:
    for base in (FakeBase(), None):
        make = assembler(base)
        with pytest.raises(FormatError, match="does not list"):
            make.add([folder(b""), file(b"a", (9, 0, 5))])


def test_entries_out_of_order_are_refused() -> None:
    with pytest.raises(FormatError):
        assembler().add([folder(b""), Entry(b"b", Kind.FIFO), Entry(b"a", Kind.FIFO)])
