"""Checking many chunks from the disk: what is good, what is wrong, and how long an earlier check counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core.blob import BlobEncoder
from ibs.core.ids import Address, chunk_id
from ibs.errors import ChunkNotFound, CorruptChunk, DatastoreOffline
from ibs.ports.chunkstore import ChunkState
from ibs.storage.local import LocalStore
from ibs.storage.local.layout import chunk_name
from ibs_tests.support.stores import CREATED, KEYS, SERVER, UUID, content, make_blob

FUTURE = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    LocalStore.create(str(tmp_path / "s"), "s1", UUID, created=CREATED)
    return tmp_path / "s"


@pytest.fixture
def store(path: Path) -> Iterator[LocalStore]:
    store = LocalStore.open(str(path), UUID, SERVER, name="s1")
    yield store
    store.close(clean=False)


def fill(store: LocalStore, count: int, size: int = 3000) -> list[Address]:
    addresses = []
    for number in range(count):
        address, blob = make_blob(number, size, keys=KEYS if number % 2 else None)
        store.put(address, blob)
        addresses.append(address)
    store.barrier()
    return addresses


def file_of(path: Path, address: Address) -> Path:
    name = chunk_name(address)
    return path / "chunks" / name[:4] / name


def test_good_chunks_plain_and_encrypted_promoted_and_not(store: LocalStore) -> None:
    addresses = fill(store, 6, 2_000_000)
    fresh, blob = make_blob(99)
    store.put(fresh, blob)
    found = {each.address: each for each in store.check([*addresses, fresh])}
    assert set(found) == {*addresses, fresh}
    assert all(each.error is None and each.stored_bytes > 0 for each in found.values())


def test_each_kind_of_damage_is_told_apart(store: LocalStore, path: Path) -> None:
    flipped, cut, gone, swapped, lie, good = addresses = fill(store, 12)[::2]
    raw = bytearray(file_of(path, flipped).read_bytes())
    raw[200] ^= 1
    file_of(path, flipped).write_bytes(raw)
    os.truncate(file_of(path, cut), 100)
    file_of(path, gone).unlink()
    file_of(path, swapped).write_bytes(file_of(path, good).read_bytes())
    file_of(path, lie).write_bytes(bytes(BlobEncoder().encode(b"lies", lie.id)))
    errors = {each.address: each.error for each in store.check(addresses)}
    assert isinstance(errors[gone], ChunkNotFound)
    assert {address for address, error in errors.items() if isinstance(error, CorruptChunk)} == {
        flipped,
        cut,
        swapped,
        lie,
    }
    assert errors[good] is None
    assert "content does not match the chunk id" in str(errors[lie])
    states = {info.address: info.state for info in store.info(addresses)}
    assert states[lie] is states[flipped] is ChunkState.BAD
    assert set(store.unavailable()) == {flipped, cut, gone, swapped, lie}
    assert file_of(path, flipped).with_name(chunk_name(flipped) + ".bad").exists()
    assert isinstance(store.check([flipped])[0].error, CorruptChunk)


def test_what_was_put_back_is_found_again(store: LocalStore, path: Path) -> None:
    (address,) = fill(store, 1)
    kept = file_of(path, address).read_bytes()
    file_of(path, address).unlink()
    assert isinstance(store.check([address])[0].error, ChunkNotFound)
    file_of(path, address).write_bytes(kept)
    assert store.check([address])[0].error is None
    assert store.unavailable() == frozenset()


def test_a_check_counts_until_it_is_old_or_the_file_is_touched(store: LocalStore, path: Path) -> None:
    first, second, third = addresses = fill(store, 3)
    assert store.proven(addresses, 0, FUTURE) == [None, None, None]
    after = int(file_of(path, first).stat().st_ctime) + 5
    store.record_verified([first, second], after)
    assert store.proven(addresses, after, FUTURE) == [after, after, None]
    assert store.proven(addresses, after + 1, FUTURE) == [None, None, None]
    assert store.proven(addresses, 0, after - 1) == [None, None, None], "a check that is yet to come proves nothing"
    store.record_verified(addresses, int(file_of(path, third).stat().st_ctime))
    assert store.proven([third], 0, FUTURE) == [None]  # written in the second of its check: perhaps after it
    store.record_verified(addresses, after)
    os.truncate(file_of(path, second), 10)
    file_of(path, first).unlink()
    assert store.proven(addresses, 0, FUTURE) == [None, None, after]


def test_a_missing_chunk_is_not_proven_by_what_was(store: LocalStore) -> None:
    (address,) = fill(store, 1)
    store.record_verified([address], FUTURE)
    store.mark_suspect(address)
    assert store.proven([address], 0, FUTURE) == [None]
    assert store.proven([Address(address.domain, chunk_id(b"never"))], 0, FUTURE) == [None]


def test_after_closing_nothing_is_read(path: Path) -> None:
    store = LocalStore.open(str(path), UUID, SERVER, name="s1")
    store.close()
    address, _ = make_blob(1)
    with pytest.raises(DatastoreOffline):
        store.check([address])
    assert content(1)
