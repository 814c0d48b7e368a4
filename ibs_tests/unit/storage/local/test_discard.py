from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from ibs.core import limits
from ibs.core.names import Group, Namespace
from ibs.errors import DatastoreReadOnly, FailedError
from ibs.ports.chunkstore import Address, ChunkState
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import SNAPSHOT, StoreBox, make_blob, publish


def test_the_row_goes_before_the_file(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        seen.append((bool(store._db.lookup([address])), box.chunk_path(address).exists()))

    plan.at("discard.row", look).at("discard.file", look)
    assert store.discard([address]) == len(blob)
    assert seen == [(True, True), (False, True)]
    assert not box.chunk_path(address).exists()


def test_bad_files_and_received_ones_go_too(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.mark_bad(address)
    store.put(address, blob)  # both a .bad file and a received one now
    assert store.discard([address]) == 2 * len(blob)
    assert box.incoming() == []
    assert os.listdir(box.chunk_path(address).parent) == []
    assert store.counts().chunks == 0


def test_a_file_that_cannot_go_is_an_orphan_that_the_next_open_finds(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("discard.file", errno.EIO))
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    with pytest.raises(FailedError):
        store.discard([address])
    assert store.info([address])[0].state is ChunkState.ABSENT
    store = box.reopen(store)
    assert store.info([address])[0].state is ChunkState.DURABLE
    assert store.get(address) == blob


def test_many_chunks_go_in_batches(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    blobs = [make_blob(n, 100) for n in range(limits.STORE_DISCARD_BATCH_CHUNKS + 5)]
    for blob in blobs:
        store.put(*blob)
    store.barrier()
    absent = Address(bytes(32), bytes(32))
    assert store.discard([*(a for a, _ in blobs), absent]) == sum(len(b) for _, b in blobs)
    assert plan.passed["discard.row"] == 2
    assert store.counts().chunks == 0


def test_a_full_disk_costs_the_reserve_which_is_refilled(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    remove, released = store._db.remove, []

    def full(addresses: list[Address]) -> None:
        if not released:
            released.append(sorted(os.listdir(box.path / ".ibs" / "reserve")))
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        assert os.listdir(box.path / ".ibs" / "reserve") == []
        remove(addresses)

    monkeypatch.setattr(store._db, "remove", full)
    assert store.discard([address]) == len(blob)
    assert len(released[0]) == 1 + limits.STORE_RESERVE_INODES
    assert sorted(os.listdir(box.path / ".ibs" / "reserve")) == released[0]


def test_removed_snapshots_are_flushed_before_their_chunks_go(box: StoreBox) -> None:
    plan = Plan()
    box.open().close()
    store = box.open(hook=plan)
    blobs = [make_blob(n) for n in range(3)]
    for blob in blobs:
        store.put(*blob)
    publish(store)
    store.discard([blobs[0][0]])
    assert plan.passed["discard.sync"] == 0, "nothing was removed yet"
    store.snapshots.remove(SNAPSHOT)
    plan.fail("discard.sync")
    with pytest.raises(DatastoreReadOnly):
        store.discard([blobs[1][0]])
    assert store.get(blobs[1][0]) == blobs[1][1]
    store = box.reopen(store, hook=plan)
    store.discard([blobs[1][0]])
    store.snapshots.write_group_owner(Namespace(), Group("host", "web01"), b"{}")
    publish(store)
    store.snapshots.remove(SNAPSHOT)
    store.discard([blobs[2][0]])
    store.discard([blobs[2][0]])
    assert plan.passed["discard.sync"] == 3, "a failed one, one for what the dead process removed, one for this"
