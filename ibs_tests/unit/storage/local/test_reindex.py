"""The index set right by the folders while the store is in use: each kind of disagreement, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.errors import DatastoreOffline
from ibs.ports.chunkstore import Address, ChunkState
from ibs.storage.local import LocalStore, Reindexed, drop_index
from ibs.storage.local.layout import chunk_name
from ibs_tests.support.stores import CREATED, KEYS, SERVER, UUID, make_blob


@pytest.fixture
def path(tmp_path: Path) -> Path:
    LocalStore.create(str(tmp_path / "s"), "s1", UUID, created=CREATED)
    return tmp_path / "s"


def opened(path: Path) -> LocalStore:
    return LocalStore.open(str(path), UUID, SERVER, name="s1")


def filled(store: LocalStore, count: int) -> list[Address]:
    made = [make_blob(number, keys=KEYS if number % 2 else None) for number in range(count)]
    for address, blob in made:
        store.put(address, blob)
    store.barrier()
    return [address for address, _ in made]


def file_of(path: Path, address: Address) -> Path:
    name = chunk_name(address)
    return path / "chunks" / name[:4] / name


def test_each_disagreement_is_settled_by_the_folders(path: Path) -> None:
    store = opened(path)
    lost, gone, cut, back, aside, fine, fresh = addresses = filled(store, 7)
    blobs = {address: file_of(path, address).read_bytes() for address in addresses}
    store._db.remove([lost])
    file_of(path, gone).unlink()
    os.truncate(file_of(path, cut), 50)
    store.mark_bad(back)
    file_of(path, back).write_bytes(blobs[back])
    file_of(path, aside).rename(file_of(path, aside).with_name(chunk_name(aside) + ".bad"))
    received, blob = make_blob(77)
    store.put(received, blob)
    done = store.reindex(0, 65_536)
    assert done == Reindexed(files=6, added=1, missing=1, found_again=1, bad=2)
    states = {info.address: info.state for info in store.info([*addresses, received])}
    assert states == {
        lost: ChunkState.DURABLE,
        gone: ChunkState.ABSENT,
        cut: ChunkState.BAD,
        back: ChunkState.DURABLE,
        aside: ChunkState.BAD,
        fine: ChunkState.DURABLE,
        fresh: ChunkState.DURABLE,
        received: ChunkState.RECEIVED,
    }
    assert store.get(lost) == blobs[lost]
    assert store.reindex(0, 65_536).fixed == 0
    store.close()


def test_rows_that_are_right_are_not_touched(path: Path) -> None:
    store = opened(path)
    addresses = filled(store, 20)
    store.record_verified(addresses, 123)
    assert store.reindex(0, 65_536) == Reindexed(files=20)
    assert store.verified(addresses) == [123] * 20
    assert store.index_damage() == ""
    store.close()


def test_trash_is_left_to_the_trash(path: Path) -> None:
    store = opened(path)
    addresses = filled(store, 4)
    epoch = store.raise_epoch()
    store.retire(addresses[:2], epoch, since=0)
    assert store.reindex(0, 65_536) == Reindexed(files=2)
    assert [info.state for info in store.info(addresses[:2])] == [ChunkState.RETIRED] * 2
    store.close()


def test_an_index_is_dropped_only_while_nobody_uses_it(path: Path) -> None:
    store = opened(path)
    addresses = filled(store, 4)
    with pytest.raises(DatastoreOffline, match="in use"):
        drop_index(str(path), UUID, "s1")
    store.close()
    drop_index(str(path), UUID, "s1")
    assert not (path / ".ibs/chunks.db").exists()
    again = opened(path)
    assert again.recovered.index_rebuilt
    assert {info.state for info in again.info(addresses)} == {ChunkState.DURABLE}
    again.close()
