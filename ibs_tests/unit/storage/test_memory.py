"""What only the reference store has; the port's promises are in conformance/test_chunk_store.py."""

from __future__ import annotations

import pytest

from ibs.errors import DatastoreOffline, NoSpace
from ibs.ports.chunkstore import ChunkState
from ibs.storage.memory import MemoryStore
from ibs_tests.support.stores import make_blob


def test_power_loss_drops_received_chunks_and_keeps_durable_ones() -> None:
    store = MemoryStore()
    kept, lost = make_blob(1), make_blob(2)
    store.put(*kept)
    store.barrier()
    store.put(*lost)
    store.lose_power()
    with pytest.raises(DatastoreOffline):
        store.info([kept[0]])
    store.reopen()
    assert [info.state for info in store.info([kept[0], lost[0]])] == [ChunkState.DURABLE, ChunkState.ABSENT]
    assert store.get(kept[0]) == kept[1]


def test_the_index_is_rebuilt_from_the_footers_of_many_packs() -> None:
    store = MemoryStore()
    blobs = [make_blob(n, 3_000_000) for n in range(12)]
    for number, blob in enumerate(blobs):
        store.put(*blob)
        if number == 7:
            store.barrier()
    assert store.discard([blobs[3][0]]) == len(blobs[3][1])
    store.close()
    store.reopen()
    assert {info.address for info in store.iterate()} == {b[0] for b in blobs} - {blobs[3][0]}
    assert all(store.get(a) == b for a, b in blobs if a != blobs[3][0])


def test_a_full_store_takes_no_more_and_still_deletes() -> None:
    store = MemoryStore(bytes_total=5000)
    first, second = make_blob(1), make_blob(2)
    store.put(*first)
    with pytest.raises(NoSpace) as caught:
        store.put(*second)
    assert caught.value.details["exhausted"] == "bytes"
    store.discard([first[0]])
    store.put(*second)
    assert store.space().bytes_free == 5000 - len(second[1])
