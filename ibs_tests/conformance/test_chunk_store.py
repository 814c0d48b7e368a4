"""What every implementation of the ChunkStore port promises, asked of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs.errors import ChunkNotFound, ConflictError, CorruptChunk, DatastoreOffline, UsageError
from ibs.ports.chunkstore import Address, ChunkState, ChunkStore, PutOutcome
from ibs.storage.memory import MemoryStore
from ibs.storage.wrap.faults import FaultyStore
from ibs_tests.support.stores import KEYS, SNAPSHOT, StoreBox, flip, make_blob, other_blob


@dataclass
class Subject:
    """A store under test, and how to spoil a durable chunk of it and read a published file."""

    store: ChunkStore
    corrupt: Callable[[Address], None]
    read_file: Callable[[str, str], bytes]


def _memory(_: Path) -> tuple[Subject, Callable[[], None]]:
    store = MemoryStore()
    return Subject(store, store.corrupt, store.read_file), store.close


def _wrapped(_: Path) -> tuple[Subject, Callable[[], None]]:
    store = MemoryStore()
    return Subject(FaultyStore(store), store.corrupt, store.read_file), store.close


def _local(folder: Path, *, flush_whole: bool | None = None) -> tuple[Subject, Callable[[], None]]:
    box = StoreBox(folder / "store").create()
    store = box.open(flush_whole=flush_whole)
    return Subject(store, lambda a: flip(box.chunk_path(a)), store.snapshots.read), box.close


KINDS: dict[str, Callable[[Path], tuple[Subject, Callable[[], None]]]] = {
    "memory": _memory,
    "faults over memory": _wrapped,
    "local": _local,
    "local, file by file": lambda folder: _local(folder, flush_whole=False),
}


@pytest.fixture(params=list(KINDS))
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    subject, end = KINDS[request.param](tmp_path)
    yield subject
    end()


@pytest.fixture
def store(subject: Subject) -> ChunkStore:
    return subject.store


def state(store: ChunkStore, address: Address) -> ChunkState:
    return store.info([address])[0].state


def test_a_chunk_is_received_then_durable_and_always_readable(store: ChunkStore) -> None:
    address, blob = make_blob(1)
    assert state(store, address) is ChunkState.ABSENT
    assert store.put(address, memoryview(blob)) is PutOutcome.STORED
    assert state(store, address) is ChunkState.RECEIVED
    assert store.get(address) == blob
    assert store.barrier() == 1
    assert state(store, address) is ChunkState.DURABLE
    assert store.info([address])[0].stored_bytes == len(blob)
    assert store.get(address) == blob
    assert store.barrier() == 0


def test_a_whole_chunk_is_a_duplicate_and_is_not_replaced(store: ChunkStore) -> None:
    address, small, raw = other_blob(1)
    assert len(small) != len(raw)
    assert store.put(address, small) is PutOutcome.STORED
    assert store.put(address, small) is PutOutcome.DUPLICATE
    store.barrier()
    assert store.put(address, small) is PutOutcome.DUPLICATE
    assert store.put(address, raw) is PutOutcome.DUPLICATE, "a good chunk must not give way to another body"
    assert store.get(address) == small


def test_domains_do_not_serve_for_each_other(store: ChunkStore) -> None:
    plain, blob = make_blob(1)
    encrypted, sealed = make_blob(1, keys=KEYS)
    same_id = Address(encrypted.domain, plain.id)
    store.put(plain, blob)
    store.put(encrypted, sealed)
    store.barrier()
    assert store.get(plain) == blob
    assert store.get(encrypted) == sealed
    assert state(store, same_id) is ChunkState.ABSENT
    with pytest.raises(ChunkNotFound):
        store.get(same_id)


def test_an_absent_chunk_is_remembered_as_missing_until_it_is_put(store: ChunkStore) -> None:
    address, blob = make_blob(1)
    with pytest.raises(ChunkNotFound, match=address.id.hex()):
        store.get(address)
    assert store.unavailable() == {address}
    assert state(store, address) is ChunkState.ABSENT
    assert store.put(address, blob) is PutOutcome.REPLACED
    assert store.unavailable() == frozenset()
    store.barrier()
    assert store.get(address) == blob


def test_a_corrupt_chunk_is_never_served_and_heals_by_a_new_body(subject: Subject) -> None:
    store = subject.store
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    subject.corrupt(address)
    for _ in range(2):
        with pytest.raises(CorruptChunk, match=f"CORRUPT chunk {address.id.hex()}"):
            store.get(address)
    assert state(store, address) is ChunkState.BAD
    assert store.unavailable() == {address}
    assert store.counts().bad == 1
    assert store.put(address, blob) is PutOutcome.REPLACED
    assert store.unavailable() == frozenset()
    assert store.get(address) == blob
    store.barrier()
    assert state(store, address) is ChunkState.DURABLE
    assert store.get(address) == blob
    assert store.counts().bad == 0


def test_a_suspect_chunk_is_served_but_no_duplicate(store: ChunkStore) -> None:
    address, blob = make_blob(1, keys=KEYS)
    again = make_blob(1, keys=KEYS)[1]
    store.put(address, blob)
    store.barrier()
    store.mark_suspect(address)
    assert store.get(address) == blob
    assert store.unavailable() == {address}
    assert store.counts().suspect == 1
    assert store.put(address, again) is PutOutcome.REPLACED
    assert store.unavailable() == frozenset()
    store.barrier()
    assert store.get(address) == again


def test_a_suspect_received_chunk_is_replaced_too(store: ChunkStore) -> None:
    address, blob = make_blob(1, keys=KEYS)
    again = make_blob(1, keys=KEYS)[1]
    store.put(address, blob)
    store.mark_suspect(address)
    assert store.unavailable() == {address}
    assert store.put(address, again) is PutOutcome.REPLACED
    store.barrier()
    assert store.get(address) == again
    assert store.unavailable() == frozenset()


def test_marking_an_absent_chunk_suspect_changes_nothing(store: ChunkStore) -> None:
    store.mark_suspect(make_blob(1)[0])
    assert store.unavailable() == frozenset()


def test_a_chunk_marked_bad_is_not_served(store: ChunkStore) -> None:
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.mark_bad(address)
    with pytest.raises(CorruptChunk):
        store.get(address)
    assert state(store, address) is ChunkState.BAD


def test_info_answers_in_the_order_asked(store: ChunkStore) -> None:
    blobs = [make_blob(n) for n in range(6)]
    for blob in blobs[1:4]:
        store.put(*blob)
    store.barrier()
    store.put(*blobs[4])
    asked = [blobs[4][0], blobs[0][0], blobs[2][0], blobs[5][0], blobs[2][0]]
    infos = store.info(asked)
    assert [info.address for info in infos] == asked
    assert [info.state.value for info in infos] == ["received", "absent", "durable", "absent", "durable"]


def test_iterate_shows_everything_once_by_prefix(store: ChunkStore) -> None:
    blobs = [make_blob(n, keys=KEYS if n % 2 else None) for n in range(40)]
    for number, blob in enumerate(blobs):
        store.put(*blob)
        if number == 20:
            store.barrier()
    for prefix in ("", "0", "a", "ab", blobs[0][0].id.hex(), blobs[0][0].id.hex()[:5]):
        wanted = sorted(a for a, _ in blobs if a.id.hex().startswith(prefix))
        assert sorted(info.address for info in store.iterate(prefix)) == wanted


def test_discarded_chunks_are_gone_received_or_durable(store: ChunkStore) -> None:
    one, two, three = make_blob(1), make_blob(2), make_blob(3)
    store.put(*one)
    store.barrier()
    store.put(*two)
    store.put(*three)
    assert store.discard([one[0], two[0], make_blob(4)[0]]) == len(one[1]) + len(two[1])
    assert store.barrier() == 1
    assert [state(store, a).value for a in (one[0], two[0], three[0])] == ["absent", "absent", "durable"]
    assert store.put(*one) is PutOutcome.STORED


def test_a_bad_chunk_can_be_discarded(subject: Subject) -> None:
    store = subject.store
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    subject.corrupt(address)
    with pytest.raises(CorruptChunk):
        store.get(address)
    assert store.discard([address]) == len(blob)
    assert store.unavailable() == frozenset()
    assert state(store, address) is ChunkState.ABSENT


def test_counts_follow(store: ChunkStore) -> None:
    blobs = [make_blob(n) for n in range(3)]
    for blob in blobs:
        store.put(*blob)
    assert (store.counts().chunks, store.counts().received) == (3, 3)
    store.barrier()
    counts = store.counts()
    assert (counts.chunks, counts.received, counts.stored_bytes) == (3, 0, sum(len(b) for _, b in blobs))
    store.discard([blobs[0][0]])
    assert store.counts().chunks == 2


def test_times_of_verification_are_kept(store: ChunkStore) -> None:
    one, two = make_blob(1), make_blob(2)
    store.put(*one)
    store.put(*two)
    store.barrier()
    store.record_verified([one[0]], 1_800_000_000)
    assert store.verified([two[0], one[0]]) == [None, 1_800_000_000]


# --- garbage collection ---


def durable(store: ChunkStore, *numbers: int) -> list[tuple[Address, bytes]]:
    blobs = [make_blob(n) for n in numbers]
    for blob in blobs:
        store.put(*blob)
    store.barrier()
    return blobs


def collectable(store: ChunkStore, epoch: int) -> set[Address]:
    found = set()
    for rows in store.scan(bytes(32), b"\xff" * 32, epoch):
        assert len(rows) == len(rows.domains) == len(rows.stored_bytes) == len(rows.collectable) == len(rows.retired)
        for at, one in enumerate(rows.ids):
            if rows.collectable[at]:
                found.add(Address(rows.domains[at], one.tobytes()))
    return found


def test_a_range_of_a_chunk_is_read_without_the_rest(store: ChunkStore) -> None:
    ((address, blob),) = durable(store, 1)
    assert store.get_range(address, 0, 128) == blob[:128]
    assert store.get_range(address, 100, 50) == blob[100:150]
    assert store.get_range(address, len(blob) - 3, 100) == blob[-3:]
    assert store.get_range(address, len(blob) + 3, 100) == b""
    with pytest.raises(UsageError):
        store.get_range(address, -1, 5)
    with pytest.raises(ChunkNotFound):
        store.get_range(make_blob(2)[0], 0, 5)
    store.mark_bad(address)
    with pytest.raises(CorruptChunk):
        store.get_range(address, 0, 5)


def test_epochs_only_grow(store: ChunkStore) -> None:
    first, second = store.raise_epoch(), store.raise_epoch()
    assert second > first
    with pytest.raises(UsageError):
        store.retire([], second + 1, since=0)


def test_only_durable_chunks_that_nobody_asked_for_since_the_epoch_began_are_collectable(store: ChunkStore) -> None:
    old, asked, bad = (address for address, _ in durable(store, 1, 2, 3))
    epoch = store.raise_epoch()
    assert collectable(store, epoch) == {old, asked, bad}
    store.mark_bad(bad)
    assert store.put(*make_blob(2)) is PutOutcome.DUPLICATE
    store.put(*make_blob(4))
    store.barrier()
    store.put(*make_blob(5))
    assert collectable(store, epoch) == {old, bad}
    assert collectable(store, store.raise_epoch()) == {old, asked, bad, make_blob(4)[0]}


def test_an_answer_that_no_barrier_has_recorded_spares_a_chunk_all_the_same(store: ChunkStore) -> None:
    ((address, blob),) = durable(store, 1)
    epoch = store.raise_epoch()
    store.put(address, blob)
    done = store.retire([address], epoch, since=0)
    assert (done.chunks, done.spared) == (0, 1)
    assert state(store, address) is ChunkState.DURABLE


def test_a_retired_chunk_waits_in_trash_and_is_told_there(store: ChunkStore) -> None:
    (one, blob), (two, _) = durable(store, 1, 2)
    epoch = store.raise_epoch()
    done = store.retire([one, make_blob(9)[0]], epoch, since=1000)
    assert (done.chunks, done.bytes, done.freed_chunks, done.spared) == (1, len(blob), 0, 1)
    assert [state(store, a) for a in (one, two)] == [ChunkState.RETIRED, ChunkState.DURABLE]
    assert one not in store.unavailable()
    counts = store.counts()
    assert (counts.chunks, counts.retired, counts.retired_bytes) == (1, 1, len(blob))
    assert [(t.epoch, t.since, t.chunks, t.bytes) for t in store.trash()] == [(epoch, 1000, 1, len(blob))]
    assert [(i.address, i.state) for i in store.trashed(epoch)] == [(one, ChunkState.RETIRED)]
    assert list(store.trashed(epoch - 1)) == []
    assert {i.address: i.state for i in store.iterate()}[one] is ChunkState.RETIRED
    assert one not in collectable(store, store.raise_epoch())


def test_a_revived_chunk_is_as_good_as_ever_and_counts_as_asked_for(store: ChunkStore) -> None:
    ((address, blob),) = durable(store, 1)
    epoch = store.raise_epoch()
    store.retire([address], epoch, since=0)
    later = store.raise_epoch()
    done = store.revive([address, make_blob(2)[0]])
    assert (done.chunks, done.bytes) == (1, len(blob))
    assert state(store, address) is ChunkState.DURABLE
    assert store.get(address) == blob
    assert store.trash() == []
    assert store.retire([address], later, since=0).spared == 1
    assert store.revive([address]).chunks == 0


def test_putting_a_retired_chunk_revives_it(store: ChunkStore) -> None:
    ((address, blob),) = durable(store, 1)
    epoch = store.raise_epoch()
    store.retire([address], epoch, since=0)
    assert store.put(address, blob) is PutOutcome.DUPLICATE
    assert state(store, address) is ChunkState.DURABLE
    assert store.reclaim(epoch).freed_chunks == 0
    assert store.get(address) == blob


def test_whoever_reads_a_retired_chunk_gets_it_and_keeps_it(store: ChunkStore) -> None:
    (one, blob), (two, other) = durable(store, 1, 2)
    store.retire([one, two], store.raise_epoch(), since=0)
    assert store.get(one) == blob
    assert store.get_range(two, 0, 10) == other[:10]
    assert [state(store, a) for a in (one, two)] == [ChunkState.DURABLE] * 2


def test_reclaiming_frees_what_is_in_the_trash_of_that_epoch(store: ChunkStore) -> None:
    blobs = durable(store, *range(6))
    first = store.raise_epoch()
    store.retire([a for a, _ in blobs[:4]], first, since=1)
    second = store.raise_epoch()
    store.retire([blobs[4][0]], second, since=2)
    part = store.reclaim(first, limit=3)
    assert (part.freed_chunks, part.freed_bytes) == (3, 3 * len(blobs[0][1]))
    assert [t.epoch for t in store.trash()] == [first, second]
    assert store.reclaim(first).freed_chunks == 1
    assert store.reclaim(first).freed_chunks == 0
    assert [(t.epoch, t.chunks) for t in store.trash()] == [(second, 1)]
    assert [state(store, a) for a, _ in blobs[:4]] == [ChunkState.ABSENT] * 4
    assert store.put(*blobs[0]) is PutOutcome.STORED


def test_without_keeping_chunks_go_at_once_and_bad_ones_always_do(store: ChunkStore) -> None:
    (one, blob), (two, _), (bad, _) = durable(store, 1, 2, 3)
    store.mark_bad(bad)
    epoch = store.raise_epoch()
    done = store.retire([one], epoch, since=0, keep=False)
    assert (done.chunks, done.freed_chunks, done.freed_bytes) == (0, 1, len(blob))
    done = store.retire([two, bad], epoch, since=0)
    assert (done.chunks, done.freed_chunks) == (1, 1)
    assert [state(store, a).value for a in (one, two, bad)] == ["absent", "retired", "absent"]
    assert store.unavailable() == frozenset()


def test_a_retired_chunk_can_be_discarded_and_found_bad(store: ChunkStore) -> None:
    (one, blob), (two, _) = durable(store, 1, 2)
    store.retire([one, two], store.raise_epoch(), since=0)
    assert store.discard([one]) == len(blob)
    store.mark_bad(two)
    assert [state(store, a).value for a in (one, two)] == ["absent", "bad"]
    assert store.trash() == []


def test_the_domains_of_one_id_are_retired_apart(store: ChunkStore) -> None:
    (plain, blob), (sealed, other) = make_blob(1), make_blob(1, keys=KEYS)
    store.put(plain, blob)
    store.put(sealed, other)
    store.barrier()
    store.retire([sealed], store.raise_epoch(), since=0)
    assert [state(store, a).value for a in (plain, sealed)] == ["durable", "retired"]
    assert store.get(plain) == blob


def test_publish_makes_chunks_durable_and_files_visible(subject: Subject) -> None:
    store = subject.store
    address, blob = make_blob(1)
    store.put(address, blob)
    files: dict[str, bytes | str] = {"a.blob": b"content", "manifest.sig": b"sig", "manifest.json": b"{}"}
    store.publish(SNAPSHOT, files, ["manifest.sig", "manifest.json"])
    assert state(store, address) is ChunkState.DURABLE
    assert {name: subject.read_file(SNAPSHOT, name) for name in files} == files
    with pytest.raises(ConflictError):
        store.publish(SNAPSHOT, files, ["manifest.json"])


def test_the_last_files_must_be_among_the_files(store: ChunkStore) -> None:
    with pytest.raises(UsageError):
        store.publish(SNAPSHOT, {"a.blob": b""}, ["manifest.json"])
    with pytest.raises(UsageError):
        store.publish(SNAPSHOT, {"a.blob": b""}, [])


def test_empty_and_oversized_chunks_are_refused(store: ChunkStore) -> None:
    address, blob = make_blob(1)
    for wrong in (b"", blob + bytes(8 << 20)):
        with pytest.raises(UsageError):
            store.put(address, wrong)


def test_many_threads_put_the_same_chunks_and_each_is_stored_once(store: ChunkStore) -> None:
    blobs = [make_blob(n) for n in range(30)]

    def worker(seed: int) -> list[PutOutcome]:
        outcomes = [store.put(*blobs[(seed * 7 + n) % len(blobs)]) for n in range(len(blobs))]
        store.barrier()
        return outcomes

    with ThreadPoolExecutor(8) as threads:
        outcomes = [outcome for part in threads.map(worker, range(8)) for outcome in part]
    assert outcomes.count(PutOutcome.STORED) == len(blobs)
    assert outcomes.count(PutOutcome.DUPLICATE) == 7 * len(blobs)
    assert all(state(store, a) is ChunkState.DURABLE for a, _ in blobs)
    assert all(store.get(a) == b for a, b in blobs)


def test_a_closed_store_says_offline(store: ChunkStore) -> None:
    address, blob = make_blob(1)
    store.put(address, blob)
    store.close()
    store.close()
    for call in (lambda: store.get(address), lambda: store.put(address, blob), store.barrier, store.counts):
        with pytest.raises(DatastoreOffline, match="closed"):
            call()


def test_space_is_plausible(store: ChunkStore) -> None:
    space = store.space()
    assert 0 < space.bytes_free <= space.bytes_total
