"""Sets of ids that lie in a file: found like in a dictionary, whoever chose the ids, at eight bytes each."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs.core import idtable as module
from ibs.core.idtable import ROWS_MAX, IdTable, IdTableBuilder, gather
from ibs.core.index import IdArray
from ibs_tests.support.ids import random_ids, table_of

SMALL = st.integers(0, 30).map(lambda number: number.to_bytes(32, "big"))


def array(ids: list[bytes]) -> IdArray:
    return np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 32)


@given(st.lists(SMALL), st.lists(SMALL))
def test_it_finds_the_first_row_of_what_is_there_and_nothing_else(there: list[bytes], asked: list[bytes]) -> None:
    ids = array(there)
    builder = IdTableBuilder(lambda row, count: ids[row : row + count], len(ids))
    builder.add(np.arange(len(ids)), ids)
    table, repeated = builder.done()
    first = {chunk: at for at, chunk in reversed(list(enumerate(there)))}
    assert (len(table), repeated) == (len(first), len(there) - len(first))
    assert table.rows(array(asked)).tolist() == [first.get(chunk, -1) for chunk in asked]
    assert [chunk in table for chunk in asked] == [chunk in first for chunk in asked]
    assert table.contains(array(asked)).tolist() == [chunk in first for chunk in asked]


@given(st.lists(SMALL, unique=True), st.lists(SMALL), st.data())
def test_ids_that_meet_are_told_apart_by_the_file(there: list[bytes], asked: list[bytes], data: st.DataObject) -> None:
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(there), max_size=len(there))), dtype=np.bool_)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_hashes", lambda ids: np.zeros(len(ids), dtype=np.uint64))
        patched.setattr(module, "_hash", lambda chunk_id: 0)
        table = table_of(array(there))
        assert table.rows(array(asked)).tolist() == [there.index(one) if one in there else -1 for one in asked]
        only = table.only(kept)
        wanted = [chunk for chunk, keep in zip(there, kept, strict=True) if keep]
        assert [chunk in only for chunk in asked] == [chunk in wanted for chunk in asked]


@given(st.lists(SMALL, unique=True), st.integers(0, 30), SMALL)
def test_two_tables_of_one_file_become_one(there: list[bytes], cut: int, other: bytes) -> None:
    ids = array(there)

    def part(first: int, last: int) -> IdTable:
        builder = IdTableBuilder(lambda row, count: ids[row : row + count], len(ids), first)
        builder.add(np.arange(first, last), ids[first:last])
        return builder.done()[0]

    cut = min(cut, len(ids))
    both = part(0, cut).joined(part(cut, len(ids)))
    assert both is not None
    assert both.rows(ids).tolist() == list(range(len(ids)))
    assert (other in both) == (other in there)


def test_tables_too_far_apart_stay_two() -> None:
    def read(row: int, count: int) -> IdArray:
        return random_ids(count, seed=row)

    def one(row: int) -> IdTable:
        builder = IdTableBuilder(read, 1, row)
        builder.add(np.array([row]), read(row, 1))
        return builder.done()[0]

    far = one(ROWS_MAX)
    assert one(0).joined(far) is None
    assert one(1).joined(far) is not None
    assert far.rows(read(ROWS_MAX, 1)).tolist() == [ROWS_MAX]


def test_words_that_differ_only_in_their_highest_bits_do_not_meet() -> None:
    # What a sum of products of 64 bits each would let somebody choose.
    ids = np.zeros((256, 32), dtype=np.uint8)
    for word in range(8):
        ids[:, word * 4 + 3] = ((np.arange(256) >> word) & 1) << 7
    assert len(np.unique(module._hashes(ids))) == 256
    assert [module._hash(one.tobytes()) for one in ids] == module._hashes(ids).tolist()


def test_what_has_changed_in_the_file_is_lost_and_nothing_wrong_is_found() -> None:
    ids = random_ids(100)
    table = table_of(ids)
    before = ids[40].copy()
    ids[40] ^= 1
    assert table.rows(before.reshape(1, 32)).tolist() == [-1]
    assert before.tobytes() not in table
    assert table.rows(ids[40:41]).tolist() == [-1]
    assert b"short" not in table


def test_gathering_reads_neighbours_together() -> None:
    ids, reads = random_ids(10_000), []

    def read(row: int, count: int) -> IdArray:
        reads.append((row, count))
        return ids[row : row + count]

    rows = np.array([9_000, 3, 1, 2, 9_001, 9_000])
    assert (gather(read, rows) == ids[rows]).all()
    assert sorted(reads) == [(1, 3), (9_000, 2)]
    assert len(gather(read, rows[:0])) == 0


def test_eight_bytes_an_id() -> None:
    ids = random_ids(500_000)
    tracemalloc.start()
    table = table_of(ids)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == len(ids)
    assert held < 9 * len(ids)
    assert peak < 9 * len(ids) + (32 << 20)
