from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from ibs.core.ids import digest
from ibs.core.index import IdArray
from ibs.core.marking import WHOLE, ChunkTable, contains, passes, prefixes_of


def ids(*numbers: int) -> IdArray:
    return np.frombuffer(b"".join(digest(bytes([n])) for n in numbers), dtype=np.uint8).reshape(-1, 32)


def flags(*values: int) -> NDArray[np.bool_]:
    return np.array(values, dtype=np.bool_)


def table_of(numbers: list[int], *, retired: tuple[int, ...] = (), kept: tuple[int, ...] = ()) -> ChunkTable:
    table = ChunkTable()
    table.add(
        ids(*numbers),
        np.array([100 + n for n in numbers], dtype=np.int64),
        flags(*(n not in retired and n not in kept for n in numbers)),
        flags(*(n in retired for n in numbers)),
    )
    table.seal()
    return table


def mark(table: ChunkTable, wanted: IdArray) -> list[int]:
    return [int(at) for absent in table.mark(wanted) for at in absent]


def test_what_is_not_referred_to_is_left_unmarked_with_its_size() -> None:
    table = table_of([1, 2, 3, 4])
    assert mark(table, ids(2, 4, 2)) == []
    assert table.chunks == 4
    assert (table.unmarked_chunks, table.unmarked_bytes) == (2, 204)
    assert contains(table.unmarked, prefixes_of(ids(1, 2, 3, 4))).tolist() == [True, False, True, False]
    assert table.is_marked(digest(b"\x02"))
    assert not table.is_marked(digest(b"\x01"))
    assert not table.is_marked(digest(b"\x09"))


def test_references_to_no_chunk_are_told_by_their_positions() -> None:
    assert sorted(mark(table_of([1, 2]), ids(1, 8, 2, 9, 8))) == [1, 3, 4]
    assert sorted(mark(table_of([]), ids(1, 2))) == [0, 1]


def test_known_ids_without_a_chunk_are_no_news_and_nothing_to_collect() -> None:
    table = ChunkTable()
    table.add_known([digest(b"\x01"), digest(b"\x02")])
    table.seal()
    assert mark(table, ids(1)) == []
    assert table.unmarked_chunks == 0
    assert (table.is_marked(digest(b"\x01")), table.is_marked(digest(b"\x02"))) == (True, False)


def test_what_is_in_trash_is_not_collected_again_and_told_when_it_is_wanted() -> None:
    table = table_of([1, 2, 3], retired=(1, 2))
    mark(table, ids(1))
    assert table.chunks == 1
    assert table.unmarked_chunks == 1
    assert table.wanted_again.tolist() == prefixes_of(ids(1)).tolist()


def test_chunks_that_share_their_first_bits_share_their_fate() -> None:
    one = ids(1)
    twin = one.copy()
    twin[0, 31] ^= 1
    table = ChunkTable()
    for each in (one, twin):
        table.add(each, np.array([7], dtype=np.int64), flags(1), flags(0))
    table.seal()
    assert (len(table), table.unmarked_chunks, table.unmarked_bytes) == (1, 2, 14)
    mark(table, twin)
    assert table.unmarked_chunks == 0


def test_passes_cover_every_id_once_and_each_fits() -> None:
    assert [part.bounds for part in passes(10)] == [WHOLE.bounds]
    parts = passes(1_000_000, bytes_max=1 << 20)
    assert len(parts) > 40
    assert parts[0].first == bytes(32)
    assert parts[-1].last == b"\xff" * 32
    for before, after in pairwise(parts):
        assert int.from_bytes(after.first, "big") == int.from_bytes(before.last, "big") + 1


@pytest.mark.parametrize("bytes_max", [1 << 30, 4000])
def test_passes_together_mark_what_one_would(bytes_max: int) -> None:
    generator = np.random.default_rng(7)
    chunks = generator.integers(0, 256, (2000, 32), dtype=np.uint8)
    wanted = chunks[generator.integers(0, 2000, 1500)]
    expected = set(map(bytes, chunks)) - set(map(bytes, wanted))
    unmarked = []
    parts = passes(len(chunks), bytes_max=bytes_max)
    assert (len(parts) > 1) is (bytes_max == 4000)
    for part in parts:
        table = ChunkTable(part)
        inside = np.array([part.first <= bytes(one) <= part.last for one in chunks])
        own = chunks[inside]
        every = np.ones(len(own), dtype=np.bool_)
        table.add(own, np.ones(len(own), dtype=np.int64), every, ~every)
        table.seal()
        assert mark(table, wanted) == []
        unmarked.append(table.unmarked)
    found = contains(np.sort(np.concatenate(unmarked)), prefixes_of(chunks))
    assert {bytes(one) for one in chunks[found]} == expected


def test_ids_chosen_to_crowd_one_place_are_marked_like_any_other() -> None:
    """Somebody who can choose content can choose the beginnings of ids, at the price of much hashing."""
    near = np.zeros((400, 32), dtype=np.uint8)
    near[:, 5] = np.arange(400) // 256
    near[:, 6] = np.arange(400) % 256
    spread = ids(*range(200))
    every = np.concatenate((near, spread))
    table = ChunkTable()
    table.add(every, np.ones(600, dtype=np.int64), np.ones(600, dtype=np.bool_), np.zeros(600, dtype=np.bool_))
    table.seal()
    assert mark(table, near[100:300]) == []
    assert table.unmarked_chunks == 400
    stranger = near[:1].copy()
    stranger[0, 7] = 9
    assert mark(table, np.concatenate((near[:50], stranger, spread[:100]))) == [50]
    assert table.unmarked_chunks == 250
