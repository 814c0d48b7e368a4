from __future__ import annotations

import errno
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from ibs.errors import ChunkNotFound, DatastoreReadOnly, FailedError, NoSpace
from ibs.ports.chunkstore import ChunkState
from ibs.storage.local.barrier import Together
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import KEYS, StoreBox, flip, make_blob


class FailingDisk:
    """A stand-in for syncfs that reports an error once, as the kernel does."""

    def __init__(self) -> None:
        self.fail = False
        self.calls = 0

    def __call__(self, fd: int) -> None:
        self.calls += 1
        if self.fail:
            self.fail = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_chunks_get_their_final_name_only_after_the_flush(box: StoreBox) -> None:
    seen: list[int] = []
    store = box.open(flush_whole=True, flush=lambda _: seen.append(len(box.incoming())))
    address, blob = make_blob(1)
    store.put(address, blob)
    seen.clear()
    assert store.barrier() == 1
    assert seen == [1]
    assert box.incoming() == []
    assert box.chunk_path(address).read_bytes() == blob


def test_rows_come_after_the_names(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    address, blob = make_blob(1)
    states: list[object] = []
    plan.at("barrier.record", lambda: states.append((store._db.lookup([address]), store.info([address])[0].state)))
    store.put(address, blob)
    store.barrier()
    assert states == [({}, ChunkState.RECEIVED)]
    assert address in store._db.lookup([address])


def test_a_chunk_received_during_the_flush_waits_for_the_next(box: StoreBox) -> None:
    late, blob = make_blob(2)
    plan = Plan()
    store = box.open(hook=plan)
    store.put(*make_blob(1))
    plan.at("barrier.sync", lambda: store.put(late, blob) and None)
    assert store.barrier() == 1
    assert store.info([late])[0].state is ChunkState.RECEIVED
    assert not box.chunk_path(late).exists()
    assert store.barrier() == 1


def test_callers_who_arrive_together_share_one_round() -> None:
    started, go_on = Event(), Event()
    rounds: list[int] = []

    def work() -> int:
        rounds.append(1)
        started.set()
        assert go_on.wait(10)
        return len(rounds)

    together = Together(work)
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(together.run)
        assert started.wait(10)
        others = [threads.submit(together.run) for _ in range(5)]
        while together._change._waiters is None or len(together._change._waiters) < 5:  # type: ignore[attr-defined]
            pass
        go_on.set()
        assert first.result(10) == 1
        assert {other.result(10) for other in others} == {2}
    assert len(rounds) == 2, "one for the first, one for all who came while it ran"


def test_whoever_waited_for_a_failed_round_runs_its_own() -> None:
    started, go_on = Event(), Event()
    answers: list[Exception | int] = [OSError(errno.EIO, "once"), 7]

    def work() -> int:
        started.set()
        assert go_on.wait(10)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    together = Together(work)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(together.run)
        assert started.wait(10)
        second = threads.submit(together.run)
        go_on.set()
        with pytest.raises(OSError, match="once"):
            first.result(10)
        assert second.result(10) == 7


def test_a_write_back_error_ends_writing_for_good(box: StoreBox) -> None:
    disk = FailingDisk()
    store = box.open(flush_whole=True, flush=disk)
    before, blob = make_blob(1)
    store.put(before, blob)
    store.barrier()
    whole, torn = make_blob(2), make_blob(3)
    store.put(*whole)
    store.put(*torn)
    flip(next(path for path in box.incoming() if path.name == torn[0].id.hex()))
    disk.fail = True
    with pytest.raises(DatastoreReadOnly, match="the disk lost written data"):
        store.barrier()
    calls = disk.calls
    with pytest.raises(DatastoreReadOnly):
        store.barrier()
    with pytest.raises(DatastoreReadOnly):
        store.put(*make_blob(4))
    with pytest.raises(DatastoreReadOnly):
        store.sync()
    assert disk.calls == calls, "never retried into success"
    assert store.status[0] == "read-only"
    assert store.get(before) == blob, "reading goes on"
    states = [info.state for info in store.info([whole[0], torn[0]])]
    assert states == [ChunkState.RECEIVED, ChunkState.ABSENT], "what the disk does not give back whole is dropped"
    assert not box.chunk_path(whole[0]).exists()


def test_after_a_write_back_error_the_next_open_checks_everything(box: StoreBox) -> None:
    disk = FailingDisk()
    store = box.open(flush_whole=True, flush=disk)
    whole, lost = make_blob(1), make_blob(2)
    store.put(*whole)
    store.put(*lost)
    disk.fail = True
    with pytest.raises(DatastoreReadOnly):
        store.barrier()
    os.truncate(next(path for path in box.incoming() if path.name == lost[0].id.hex()), 100)
    store = box.reopen(store, clean=True)  # an orderly close of a store that failed is no clean stop
    assert not store.recovered.clean
    assert store.recovered.chunks_promoted == 1
    assert store.get(whole[0]) == whole[1]
    assert store.info([lost[0]])[0].state is ChunkState.ABSENT
    assert box.incoming() == []


def test_one_error_fails_every_caller_of_barrier_and_sync(box: StoreBox) -> None:
    disk = FailingDisk()
    store = box.open(flush_whole=True, flush=disk)
    store.put(*make_blob(1))
    disk.fail = True

    def call(number: int) -> type[Exception] | None:
        try:
            store.barrier() if number % 2 else store.sync()
        except DatastoreReadOnly as error:
            return type(error)
        return None

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(call, range(8))) == {DatastoreReadOnly}


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_promotion_that_fails_half_way_is_continued_by_the_next(box: StoreBox, nth: int) -> None:
    store = box.open(hook=Plan().fail("barrier.promote", errno.EIO, nth=nth))
    blobs = [make_blob(n, keys=KEYS) for n in range(3)]
    for blob in blobs:
        store.put(*blob)
    with pytest.raises(FailedError):
        store.barrier()
    states = [info.state for info in store.info([a for a, _ in blobs])]
    assert states.count(ChunkState.DURABLE) == nth - 1
    assert all(store.get(a) == b for a, b in blobs)
    assert store.barrier() == 3 - (nth - 1)
    assert store.counts().received == 0


def test_a_promotion_gets_the_reserve_on_a_full_disk(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("barrier.promote", errno.ENOSPC))
    address, blob = make_blob(1)
    store.put(address, blob)
    assert store.barrier() == 1
    assert list((box.path / ".ibs" / "reserve").iterdir()) == []
    store._held.hook = Plan().fail("barrier.promote", errno.ENOSPC)
    store.put(*make_blob(2))
    with pytest.raises(NoSpace):
        store.barrier()
    assert store.barrier() == 1


def test_a_received_chunk_that_vanished_fails_the_barrier_and_is_missing(box: StoreBox) -> None:
    store = box.open()
    gone, kept = make_blob(1), make_blob(2)
    store.put(*gone)
    store.put(*kept)
    next(path for path in box.incoming() if path.name == gone[0].id.hex()).unlink()
    with pytest.raises(ChunkNotFound, match=gone[0].id.hex()):
        store.barrier()
    assert store.info([kept[0]])[0].state is ChunkState.DURABLE
    assert store.unavailable() == {gone[0]}
    assert store.barrier() == 0


def test_rows_that_could_not_be_written_come_with_the_next_barrier(
    box: StoreBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    add, broken = store._db.add, [True]

    def refuse(*args: object) -> None:
        if broken:
            raise sqlite3.OperationalError("disk I/O error")
        add(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store._db, "add", refuse)
    with pytest.raises(FailedError, match="chunk index"):
        store.barrier()
    assert store.info([address])[0].state is ChunkState.DURABLE
    assert store.get(address) == blob
    assert [info.address for info in store.iterate()] == [address]
    assert store.counts().chunks == 1
    broken.clear()
    assert store.barrier() == 0
    assert address in store._db.lookup([address])
    assert store.counts().chunks == 1


def test_a_chunk_received_again_during_the_flush_is_not_promoted_too_early(box: StoreBox) -> None:
    """The newer file has not been flushed; giving it the final name would promise too much."""
    plan = Plan()
    store = box.open(hook=plan)
    address, first = make_blob(1, keys=KEYS)
    second = make_blob(1, keys=KEYS)[1]
    store.put(address, first)
    store.mark_suspect(address)
    plan.at("barrier.sync", lambda: store.put(address, second) and None)
    assert store.barrier() == 0
    assert store.info([address])[0].state is ChunkState.RECEIVED
    assert store.barrier() == 1
    assert box.chunk_path(address).read_bytes() == second


def test_a_chunk_discarded_during_the_flush_stays_discarded(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    address, blob = make_blob(1)
    plan.at("barrier.sync", lambda: store.discard([address]) and None)
    plan.at("barrier.record", lambda: store.discard([address]) and None, nth=2)
    for _ in range(2):
        store.put(address, blob)
        assert store.barrier() == 0
        assert store.info([address])[0].state is ChunkState.ABSENT
        assert not box.chunk_path(address).exists()
        assert store._db.lookup([address]) == {}


def test_acknowledged_duplicates_get_the_epoch_of_now(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store = box.reopen(store, clean=True)
    old = store._db.lookup([address])[address].epoch
    store.put(address, blob)
    store.barrier()
    assert store._db.lookup([address])[address].epoch == store.epoch == old + 1


def test_condemned_chunks_are_read_once(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FailingDisk()
    store = box.open(flush_whole=True, flush=disk)
    store.put(*make_blob(1))
    reads: list[str] = []
    monkeypatch.setattr("ibs.storage.local.barrier.whole_on_disk", lambda _fd, name, _a: reads.append(name) or True)
    disk.fail = True
    for call in (store.sync, store.barrier, store.barrier):
        with pytest.raises(DatastoreReadOnly):
            call()
    assert len(reads) == 1
