from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ibs.errors import DatastoreOffline, FailedError, UsageError
from ibs.ports.chunkstore import ChunkState, ChunkStore, PutOutcome
from ibs.storage.local import ownership
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import StoreBox, make_blob, publish


def test_it_is_a_chunk_store(box: StoreBox) -> None:
    store: ChunkStore = box.open()
    assert store.space().inodes_total > 0


def test_an_orderly_close_makes_everything_durable(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store = box.reopen(store, clean=True)
    assert store.recovered.clean
    assert store.recovered.chunks_promoted == 0
    assert store.info([address])[0].state is ChunkState.DURABLE
    assert store.get(address) == blob


def test_a_durable_chunk_that_vanished_or_changed_its_length_is_not_called_durable(box: StoreBox) -> None:
    store = box.open()
    (lost, lost_blob), (cut, cut_blob), (whole, whole_blob) = (make_blob(number) for number in range(3))
    for address, blob in ((lost, lost_blob), (cut, cut_blob), (whole, whole_blob)):
        store.put(address, blob)
    store.barrier()
    box.chunk_path(lost).unlink()
    os.truncate(box.chunk_path(cut), 0)
    states = [info.state for info in store.info([lost, cut, whole])]
    assert states == [ChunkState.ABSENT, ChunkState.BAD, ChunkState.DURABLE]
    assert [store.put(lost, lost_blob), store.put(cut, cut_blob)] == [PutOutcome.STORED, PutOutcome.REPLACED]
    store.barrier()
    assert {info.state for info in store.info([lost, cut, whole])} == {ChunkState.DURABLE}
    assert store.get(cut) == cut_blob


def test_a_close_that_cannot_flush_says_so_closes_all_the_same_and_is_not_clean(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("barrier.promote"))
    address, blob = make_blob(1)
    store.put(address, blob)
    with pytest.raises(FailedError):
        store.close()
    store.close()
    store = box.open()
    assert not store.recovered.clean
    assert store.get(address) == blob


def test_close_waits_for_calls_inside_and_refuses_later_ones(box: StoreBox) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        inside.set()
        assert go_on.wait(10)

    store = box.open(hook=Plan().at("put.temp", pause))
    address, blob = make_blob(1)
    with ThreadPoolExecutor(2) as threads:
        put = threads.submit(store.put, address, blob)
        assert inside.wait(10)
        closing = threads.submit(store.close)
        while store.status[0] != "offline":
            pass
        with pytest.raises(DatastoreOffline, match="closed"):
            store.get(address)
        assert not closing.done()
        go_on.set()
        put.result(10)
        closing.result(10)
    assert box.open().info([address])[0].state is ChunkState.DURABLE


def test_an_iteration_left_half_way_does_not_keep_the_store_open(box: StoreBox) -> None:
    store = box.open()
    for number in range(3):
        store.put(*make_blob(number))
    store.barrier()
    walk = store.iterate()
    next(walk)
    store.close()
    assert len([next(walk), next(walk)]) == 2, "what was fetched is still given"
    with pytest.raises(DatastoreOffline):
        next(walk)  # an end would look like the end of the list


@pytest.mark.parametrize("prefix", ["g", "A", "0" * 65, "../"])
def test_senseless_prefixes_are_refused(box: StoreBox, prefix: str) -> None:
    with pytest.raises(UsageError):
        list(box.open().iterate(prefix))


def test_a_store_closed_without_cleaning_writes_nothing_but_its_index(box: StoreBox) -> None:
    store = box.open()
    store.put(*make_blob(1))

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in box.path.rglob("*") if p.is_file() and "chunks.db" not in p.name}

    before = files()
    store.close(clean=False)
    assert files() == before


def test_status_and_owner(box: StoreBox) -> None:
    store = box.open()
    assert store.status == ("online", "")
    store.check_owner()
    store.sync()
    store.close()
    assert store.status == ("offline", "closed")


def test_an_owner_record_that_cannot_be_read_is_our_error_wherever_it_is_looked_at(
    box: StoreBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    epoch = store.raise_epoch()

    def unreadable(meta: int) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ownership, "read_owner", unreadable)
    for call in (store.check_owner, lambda: store.retire([address], epoch, since=0), lambda: store.reclaim(epoch)):
        with pytest.raises(FailedError, match="reading the owner record"):
            call()
    monkeypatch.undo()
    assert store.status == ("online", "")
    assert store.get(address) == blob


def test_a_lost_disk_is_offline_not_corrupt(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("get.read", errno.ENODEV))
    address, blob = make_blob(1)
    store.put(address, blob)
    with pytest.raises(DatastoreOffline, match="its file system is gone"):
        store.get(address)
    assert store.unavailable() == frozenset()


def test_everything_at_once_from_many_threads(box: StoreBox) -> None:
    """Puts, reads, barriers, discards and publications interleave; what was never discarded is whole at the end."""
    store = box.open()
    kept = [make_blob(n) for n in range(40)]
    passing = [make_blob(n) for n in range(100, 120)]

    def worker(seed: int) -> None:
        for step in range(40):
            address, blob = kept[(seed * 11 + step) % len(kept)]
            store.put(address, blob)
            assert store.get(address) == blob
            doomed = passing[(seed + step) % len(passing)]
            if step % 3 == 0:
                store.put(*doomed)
            elif step % 7 == 1:
                store.discard([doomed[0]])
            if step % 10 == seed:
                store.barrier()
        publish(store, f"host/h{seed}/2026-11-22T19:00:00Z")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(worker, range(8)))
    store = box.reopen(store, clean=True)
    assert all(info.state is ChunkState.DURABLE for info in store.info([a for a, _ in kept]))
    assert all(store.get(a) == b for a, b in kept)
    on_disk = {p.name for p in (box.path / "chunks").glob("????/*")}
    assert on_disk == {info.address.id.hex() for info in store.iterate()}
    assert len(store.snapshots.groups(store.snapshots.namespaces()[0])) == 8
