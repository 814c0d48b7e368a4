"""The previous index and its chunks: checked, fetched ahead, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from ibs.client.backup.base import BaseIndex, ChunkShelf, ChunkWanted
from ibs.core import index
from ibs.core.ids import digest
from ibs.core.index import IndexHeader, tree_record
from ibs.errors import ChunkNotFound, FormatError


def an_id(number: int) -> bytes:
    return digest(number.to_bytes(4, "big"))


def an_index(count: int, domain: bytes = bytes(32)) -> bytes:
    """`count` records, every third one metadata, the last one the root."""
    rows = [(an_id(n), 1000 + n, int(n % 3 == 2 or n == count - 1)) for n in range(count)]
    records = b"".join(tree_record(*row) for row in rows)
    header = IndexHeader("tree", 40, count, 5, 0, 0, domain, an_id(count - 1), digest(records))
    return index.encode_header(header) + records


def bitmap(count: int, *bad: int) -> bytes:
    bits = np.ones(count, np.bool_)
    bits[list(bad)] = False
    return np.packbits(bits, bitorder="little").tobytes()


def test_an_index_tells_what_may_be_reused() -> None:
    base = BaseIndex(an_index(20), bitmap(20, 3, 17), domain=bytes(32))
    assert base.unusable == {an_id(3), an_id(17)}
    assert an_id(3) not in base.usable
    assert an_id(4) in base.usable
    assert an_id(3) in base.lookup
    assert base.plain_lengths([an_id(7), an_id(0), an_id(99)]) == [1007, 1000, 0]
    assert base.metadata_ids() == [an_id(n) for n in (2, 5, 8, 11, 14, 17, 19)]


def test_what_is_not_sound_is_refused() -> None:
    content = an_index(20)
    with pytest.raises(FormatError, match="another key"):
        BaseIndex(content, bitmap(20), domain=b"k" * 32)
    with pytest.raises(FormatError, match="bitmap"):
        BaseIndex(content, b"\xff", domain=bytes(32))
    with pytest.raises(FormatError):
        BaseIndex(content[:-1], bitmap(20), domain=bytes(32))
    with pytest.raises(FormatError):
        BaseIndex(content[:-40] + bytes(40), bitmap(20), domain=bytes(32))


class Store:
    """Counts what is fetched."""

    def __init__(self, *missing: bytes) -> None:
        self.fetched: list[bytes] = []
        self.missing = missing

    async def fetch(self, chunk_id: bytes) -> bytes:
        self.fetched.append(chunk_id)
        if chunk_id in self.missing:
            raise ChunkNotFound(chunk_id.hex())
        return b"plain " + chunk_id


async def test_a_shelf_fetches_ahead_and_forgets() -> None:
    order = [an_id(n) for n in range(20)]
    store = Store()
    shelf = ChunkShelf(order, store.fetch, ahead=3, kept=6)
    with pytest.raises(ChunkWanted) as wanted:
        shelf.get(order[0])
    assert wanted.value.chunk_id == order[0]
    await shelf.provide(order[0])
    assert sorted(store.fetched) == sorted(order[:4])
    assert [shelf.get(one) for one in order[:4]] == [b"plain " + one for one in order[:4]]
    await shelf.provide(order[4])
    assert len(store.fetched) == 8
    with pytest.raises(ChunkWanted):
        shelf.get(order[0])
    await shelf.provide(an_id(99))
    assert shelf.get(an_id(99)) == b"plain " + an_id(99)


async def test_only_the_wanted_chunk_must_be_there() -> None:
    order = [an_id(n) for n in range(5)]
    shelf = ChunkShelf(order, Store(order[1]).fetch, ahead=3)
    await shelf.provide(order[0])
    assert shelf.get(order[2])
    with pytest.raises(ChunkNotFound):
        await shelf.provide(order[1])
