from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from ibs.errors import ChunkNotFound, CorruptChunk, DatastoreOffline, FailedError
from ibs.ports.chunkstore import Address, ChunkState, PutOutcome
from ibs.storage.local import files, reader
from ibs.storage.local.store import LocalStore
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import StoreBox, flip, make_blob


def durable(store: LocalStore, number: int = 1) -> tuple[Address, bytes]:
    address, blob = make_blob(number)
    store.put(address, blob)
    store.barrier()
    return address, blob


def bad_path(box: StoreBox, address: Address) -> Path:
    path = box.chunk_path(address)
    return path.with_name(path.name + ".bad")


@pytest.mark.parametrize("at", [0, 4, 5, 8, 12, 50, 100, 127, 128, 500, -1])
def test_any_flipped_bit_is_found_and_the_chunk_set_aside(box: StoreBox, at: int) -> None:
    store = box.open()
    address, _ = durable(store)
    flip(box.chunk_path(address), at)
    with pytest.raises(CorruptChunk, match=address.id.hex()):
        store.get(address)
    assert bad_path(box, address).exists()
    assert not box.chunk_path(address).exists()
    assert store.unavailable() == {address}


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 3000])
def test_truncated_files_are_corrupt(box: StoreBox, size: int) -> None:
    store = box.open()
    address, _ = durable(store)
    os.truncate(box.chunk_path(address), size)
    with pytest.raises(CorruptChunk):
        store.get(address)


def test_a_file_that_grew_beyond_any_chunk_is_corrupt_and_not_read_whole(box: StoreBox) -> None:
    store = box.open()
    address, _ = durable(store)
    os.truncate(box.chunk_path(address), 1 << 40)
    with pytest.raises(CorruptChunk, match=str(1 << 40)):
        store.get(address)


def test_another_chunk_under_its_name_is_corrupt(box: StoreBox) -> None:
    store = box.open()
    address, _ = durable(store)
    box.chunk_path(address).write_bytes(make_blob(2)[1])
    with pytest.raises(CorruptChunk, match="another chunk"):
        store.get(address)


def test_a_received_chunk_can_be_corrupt_too(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    flip(box.incoming()[0])
    with pytest.raises(CorruptChunk):
        store.get(address)
    assert store.barrier() == 0
    assert store.info([address])[0].state is ChunkState.BAD
    assert store.put(address, blob) is PutOutcome.REPLACED
    store.barrier()
    assert store.get(address) == blob


def test_wrong_bytes_in_the_page_cache_only_are_not_corruption(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, blob = durable(store)
    read, lies = files.read_all, [True]

    def cached(fd: int, size: int) -> bytes:
        data = read(fd, size)
        return data[:-1] + bytes([data[-1] ^ 1]) if lies and lies.pop() else data

    monkeypatch.setattr(files, "read_all", cached)
    assert store.get(address) == blob
    assert store.unavailable() == frozenset()


@pytest.mark.parametrize(
    ("code", "error"), [(errno.EIO, FailedError), (errno.ESTALE, DatastoreOffline), (errno.ENOTCONN, DatastoreOffline)]
)
def test_a_failed_read_marks_nothing(box: StoreBox, code: int, error: type[Exception]) -> None:
    store = box.open(hook=Plan().fail("get.read", code))
    address, blob = durable(store)
    with pytest.raises(error):
        store.get(address)
    assert store.unavailable() == frozenset()
    assert store.get(address) == blob


def test_a_failed_second_read_marks_nothing_either(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, _ = durable(store)
    flip(box.chunk_path(address))

    def broken(_fd: int) -> bytes:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(reader, "read_past_cache", broken)
    with pytest.raises(FailedError):
        store.get(address)
    assert store.unavailable() == frozenset()
    assert box.chunk_path(address).exists()


def test_bad_and_missing_marks_survive_both_kinds_of_reopening(box: StoreBox) -> None:
    store = box.open()
    bad, _ = durable(store, 1)
    missing, _ = durable(store, 2)
    suspect, blob = durable(store, 3)
    flip(box.chunk_path(bad))
    box.chunk_path(missing).unlink()
    for address, error in ((bad, CorruptChunk), (missing, ChunkNotFound)):
        with pytest.raises(error):
            store.get(address)
    store.mark_suspect(suspect)
    for clean in (True, False, True):
        store = box.reopen(store, clean=clean)
        assert store.unavailable() == {bad, missing, suspect}
        assert store.get(suspect) == blob
        with pytest.raises(CorruptChunk):
            store.get(bad)


def test_a_missing_chunk_that_was_put_back_by_hand_is_found_again(box: StoreBox) -> None:
    store = box.open()
    address, blob = durable(store)
    away = box.path / "away"
    box.chunk_path(address).rename(away)
    with pytest.raises(ChunkNotFound):
        store.get(address)
    assert store.unavailable() == {address}
    away.rename(box.chunk_path(address))
    assert store.get(address) == blob
    assert store.unavailable() == frozenset()
    assert store.counts().missing == 0


def test_a_chunk_replaced_while_it_is_read_is_read_again(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    address, blob = durable(store)
    path = box.chunk_path(address)
    flip(path)
    fresh = path.with_name("fresh")
    fresh.write_bytes(blob)
    plan.at("get.read", lambda: fresh.replace(path), nth=plan.passed["get.read"] + 1)
    assert store.get(address) == blob
    assert store.unavailable() == frozenset()


def test_a_chunk_promoted_while_it_is_looked_for_is_found(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    received, first = store._ledger.received, [True]

    def late(asked: Address) -> object:
        entry = received(asked)
        if first and first.pop():
            store.barrier()
        return entry

    monkeypatch.setattr(store._reader.ledger, "received", late)
    assert store.get(address) == blob


def test_the_mark_holds_when_the_index_cannot_be_written(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, _ = durable(store)
    flip(box.chunk_path(address))

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store._db, "mark", refuse)
    for _ in range(2):
        with pytest.raises(CorruptChunk):
            store.get(address)
    assert store.unavailable() == {address}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 70_000])
def test_reading_past_the_cache_gives_the_same_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    fd = os.open(path, os.O_RDONLY)
    try:
        assert reader.read_past_cache(fd) == path.read_bytes()
    finally:
        os.close(fd)


def test_where_direct_reading_is_not_supported_the_cache_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    fd = os.open(path, os.O_RDONLY)

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "preadv", refuse)
    assert reader.read_past_cache(fd) == b"bytes"
    monkeypatch.setattr(os, "open", refuse)
    assert reader.read_past_cache(fd) == b"bytes"
    os.close(fd)


def test_too_many_marks_stop_writing_but_not_reading(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, blob = durable(store)
    monkeypatch.setattr("ibs.core.limits.STORE_MARKS_MAX", 3)
    for number in range(10, 14):
        with pytest.raises(ChunkNotFound):
            store.get(make_blob(number)[0])
    assert store.status == ("read-only", "more than 3 chunks are bad or missing; repair it, or restore a replica")
    assert store.get(address) == blob


def test_a_corrupt_new_body_does_not_take_the_old_chunk_with_it(box: StoreBox) -> None:
    store = box.open()
    address, blob = durable(store)
    store.mark_suspect(address)
    store.put(address, blob)
    flip(box.incoming()[0])
    with pytest.raises(CorruptChunk):
        store.get(address)
    assert store.get(address) == blob, "it is still served"
    assert store.unavailable() == {address}, "and still suspect"


def test_a_chunk_marked_bad_is_put_aside_wherever_it_lies(box: StoreBox) -> None:
    store = box.open()
    address, blob = durable(store)
    store.mark_suspect(address)
    store.put(address, blob)
    store.mark_bad(address)
    with pytest.raises(CorruptChunk):
        store.get(address)
    assert box.incoming() == []
    assert [path.name for path in bad_path(box, address).parent.iterdir()] == [bad_path(box, address).name]


def test_a_chunk_found_corrupt_between_promotion_and_record_is_set_aside(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    address, blob = make_blob(1)

    def look() -> None:
        flip(box.chunk_path(address))
        with pytest.raises(CorruptChunk):
            store.get(address)

    plan.at("barrier.record", look)
    store.put(address, blob)
    assert store.barrier() == 0
    assert store.info([address])[0].state is ChunkState.BAD
    assert bad_path(box, address).exists()


def test_a_copy_received_while_the_corrupt_one_is_found_out_stays(box: StoreBox) -> None:
    plan = Plan()
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store = box.reopen(store, hook=plan)
    flip(box.chunk_path(address))
    plan.at("get.read", lambda: store.put(address, blob))
    assert store.get(address) == blob
    assert store.info([address])[0].state is ChunkState.RECEIVED
    assert bad_path(box, address).exists()
    store.barrier()
    assert store.get(address) == blob
    assert not bad_path(box, address).exists()
