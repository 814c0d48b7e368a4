from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from ibs.core import limits
from ibs.errors import ConflictError, DatastoreOffline, DatastoreReadOnly, FailedError, NoSpace
from ibs.ports.chunkstore import Address, ChunkState, PutOutcome
from ibs.storage.local import files
from ibs.storage.local.receive import Vouched
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import KEYS, StoreBox, flip, make_blob


def test_a_received_chunk_lies_in_the_incoming_folder_of_this_open(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    assert [path.relative_to(box.path / "chunks" / "incoming").parts for path in box.incoming()] == [
        (str(store.epoch), address.id.hex())
    ]
    assert box.incoming()[0].stat().st_mode & 0o777 == 0o600
    assert not box.chunk_path(address).exists()


@pytest.mark.parametrize("point", ["put.write", "put.temp"])
@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EROFS, DatastoreReadOnly), (errno.EIO, FailedError)],
)
def test_a_refused_write_leaves_no_litter_and_the_next_one_works(
    box: StoreBox, point: str, code: int, error: type[Exception]
) -> None:
    store = box.open(hook=Plan().fail(point, code))
    address, blob = make_blob(1)
    with pytest.raises(error):
        store.put(address, blob)
    assert box.incoming() == []
    assert store.info([address])[0].state is ChunkState.ABSENT
    assert store.put(address, blob) is PutOutcome.STORED


def test_quota_is_told_from_space(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("put.write", errno.EDQUOT))
    with pytest.raises(NoSpace) as caught:
        store.put(*make_blob(1))
    assert caught.value.details["exhausted"] == "quota"


def test_a_second_sender_waits_for_the_first_and_is_a_duplicate(box: StoreBox) -> None:
    writing, go_on = Event(), Event()

    def pause() -> None:
        writing.set()
        assert go_on.wait(10)

    store = box.open(hook=Plan().at("put.temp", pause))
    address, blob = make_blob(1)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(store.put, address, blob)
        assert writing.wait(10)
        second = threads.submit(store.put, address, blob)
        assert not second.done()
        go_on.set()
        assert first.result(10) is PutOutcome.STORED
        assert second.result(10) is PutOutcome.DUPLICATE


def test_a_second_sender_takes_over_when_the_first_fails(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("put.temp", errno.EIO))
    address, blob = make_blob(1)

    def put(_: int) -> object:
        try:
            return store.put(address, blob)
        except FailedError as error:
            return type(error)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(put, range(4)))
    assert results.count(FailedError) == 1
    assert results.count(PutOutcome.STORED) == 1
    assert results.count(PutOutcome.DUPLICATE) == 2


@pytest.mark.parametrize("spoil", ["torn", "empty", "longer", "other"])
def test_a_torn_chunk_of_another_length_is_replaced(box: StoreBox, spoil: str) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    bad = {"torn": blob[:500], "empty": b"", "longer": blob + b"x", "other": make_blob(2, 4000)[1]}[spoil]
    box.chunk_path(address).write_bytes(bad)
    assert store.put(address, blob) is PutOutcome.REPLACED
    assert store.get(address) == blob
    store.barrier()
    assert box.chunk_path(address).read_bytes() == blob


def test_a_chunk_lost_from_the_incoming_folder_is_written_again(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    box.incoming()[0].unlink()
    assert store.put(address, blob) is PutOutcome.REPLACED
    assert store.get(address) == blob


def test_a_chunk_lost_from_its_folder_is_simply_stored_again(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    box.chunk_path(address).unlink()
    assert store.put(address, blob) is PutOutcome.STORED
    store.barrier()
    assert store.get(address) == blob
    assert store.counts().chunks == 1


def test_a_corrupt_chunk_of_the_right_length_is_replaced_when_it_is_sent_again(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    assert store.put(address, blob) is PutOutcome.DUPLICATE  # looked at, and remembered
    flip(box.chunk_path(address))
    assert store.put(address, blob) is PutOutcome.REPLACED
    store.barrier()
    assert store.get(address) == blob
    store.mark_bad(address)
    assert store.put(address, blob) is PutOutcome.REPLACED
    store.barrier()
    assert store.get(address) == blob
    assert not box.chunk_path(address).with_name(box.chunk_path(address).name + ".bad").exists()


def test_keys_whose_fingerprints_begin_alike_do_not_meet(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1, keys=KEYS)
    store.put(address, blob)
    store.barrier()
    twin = Address(address.domain[:16] + bytes(16), address.id)
    for again in (store, box.reopen(store)):
        with pytest.raises(ConflictError, match="same first half"):
            again.put(twin, blob)


def test_a_new_chunk_costs_few_system_calls(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    store.put(*make_blob(0))
    store._held.prefixes.ensure(make_blob(1)[0].id.hex()[:4])  # 65,536 times in the life of a store
    calls: list[str] = []
    for name in ("open", "stat", "rename", "close", "write", "unlink", "mkdir", "fstatvfs", "fsync", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _n=name, _r=real, **k: (calls.append(_n), _r(*a, **k))[1])
    store.put(*make_blob(1))
    assert [call for call in calls if call != "fsync"] == ["stat", "open", "write", "close", "rename"]
    calls.clear()
    store.put(*make_blob(1))
    assert calls == ["stat", "open", "close"]  # the stored copy is proven once
    calls.clear()
    store.put(*make_blob(1))
    assert calls == ["stat"]


def test_too_many_received_chunks_run_a_barrier_first(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibs.core.limits.STORE_RECEIVED_CHUNKS_MAX", 5)
    store = box.open()
    for number in range(12):
        store.put(*make_blob(number))
        assert store.counts().received <= 5
    monkeypatch.setattr("ibs.core.limits.STORE_RECEIVED_CHUNKS_MAX", 100)
    monkeypatch.setattr("ibs.core.limits.STORE_RECEIVED_BYTES_MAX", 10_000)
    for number in range(20, 40):
        store.put(*make_blob(number))
        assert store.counts().received <= 5


def test_a_chunk_promoted_but_not_recorded_yet_is_a_duplicate(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    address, blob = make_blob(1)
    outcomes: list[PutOutcome] = []
    plan.at("barrier.record", lambda: outcomes.append(store.put(address, blob)))
    store.put(address, blob)
    assert store.barrier() == 1
    assert outcomes == [PutOutcome.DUPLICATE]
    assert box.incoming() == []


def test_a_copy_that_cannot_be_read_is_replaced(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()

    def broken(code: int) -> Callable[..., bytes]:
        def read(*_: object, **__: object) -> bytes:
            raise OSError(code, os.strerror(code))

        return read

    monkeypatch.setattr(files, "read_file", broken(errno.EIO))
    assert store.put(address, blob) is PutOutcome.REPLACED
    store.barrier()
    monkeypatch.setattr(files, "read_file", broken(errno.ESTALE))
    with pytest.raises(DatastoreOffline):
        store.put(address, blob)


def test_the_memory_of_what_was_checked_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_VOUCHED_MAX", 2)
    known, addresses = Vouched(), [make_blob(number)[0] for number in range(3)]
    for address in addresses:
        known.add(address, 1.0)
    assert [known.has(address, 1.0) for address in addresses] == [False, False, True]
    assert not known.has(addresses[2], 2.0)
