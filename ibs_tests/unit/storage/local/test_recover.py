from __future__ import annotations

import os

import pytest

from ibs.errors import ChunkNotFound, CorruptChunk, DatastoreOffline
from ibs.ports.chunkstore import ChunkState
from ibs.storage.local import recover
from ibs.storage.local.layout import chunk_name
from ibs_tests.support.stores import KEYS, StoreBox, flip, make_blob


def test_whole_received_chunks_are_promoted_and_torn_ones_dropped(box: StoreBox) -> None:
    store = box.open()
    blobs = {
        name: make_blob(number, keys=KEYS if number % 2 else None)
        for number, name in enumerate(["whole", "sealed", "torn", "empty", "flipped", "longer", "swapped"])
    }
    for blob in blobs.values():
        store.put(*blob)
    store.close(clean=False)
    paths = {name: next(p for p in box.incoming() if p.name == chunk_name(blob[0])) for name, blob in blobs.items()}
    os.truncate(paths["torn"], 700)
    os.truncate(paths["empty"], 0)
    flip(paths["flipped"])
    paths["longer"].write_bytes(blobs["longer"][1] + b"\0")
    paths["swapped"].write_bytes(blobs["whole"][1])
    (paths["whole"].parent / ".tmp-7").write_bytes(b"half")
    (paths["whole"].parent / "stranger").write_bytes(b"x")
    store = box.open()
    assert store.recovered.chunks_promoted == 2
    for name, (address, blob) in blobs.items():
        if name in ("whole", "sealed"):
            assert store.info([address])[0].state is ChunkState.DURABLE
            assert store.get(address) == blob
        else:
            assert store.info([address])[0].state is ChunkState.ABSENT, name
    assert box.incoming() == []
    assert os.listdir(box.path / "chunks" / "incoming") == [str(store.epoch)]


def test_several_old_epochs_are_merged(box: StoreBox) -> None:
    store = box.open()
    one, two = make_blob(1), make_blob(2)
    store.put(*one)
    store.close(clean=False)
    old = box.path / "chunks" / "incoming" / "1"
    other = old.with_name("77")
    other.mkdir()
    (other / two[0].id.hex()).write_bytes(two[1])
    store = box.open()
    assert store.recovered.chunks_promoted == 2
    assert store.get(one[0]) == one[1]
    assert store.get(two[0]) == two[1]


def test_a_received_chunk_heals_a_bad_one_also_through_a_crash(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    suspect, fresh = make_blob(2)
    for each in ((address, blob), (suspect, fresh)):
        store.put(*each)
    store.barrier()
    store.mark_bad(address)
    store.mark_suspect(suspect)
    store.put(address, blob)
    store.put(suspect, fresh)
    store = box.reopen(store)
    assert store.unavailable() == frozenset()
    assert store.get(address) == blob
    assert not box.chunk_path(address).with_name(address.id.hex() + ".bad").exists()


def test_a_torn_new_body_leaves_the_mark(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.mark_bad(address)
    store.put(address, blob)
    os.truncate(box.incoming()[0], 10)
    store = box.reopen(store)
    assert store.unavailable() == {address}
    with pytest.raises(CorruptChunk):
        store.get(address)


def test_the_index_is_rebuilt_from_the_folders(box: StoreBox) -> None:
    store = box.open()
    blobs = [make_blob(n, keys=KEYS if n % 2 else None) for n in range(10)]
    for blob in blobs:
        store.put(*blob)
    store.barrier()
    store.record_verified([blobs[0][0]], 1234)
    store.close()
    (box.path / ".ibs" / "chunks.db").unlink()
    (box.path / "chunks" / blobs[0][0].id.hex()[:4] / "stranger").write_bytes(b"x")
    store = box.open()
    assert {info.address for info in store.iterate()} == {a for a, _ in blobs}, "domains are read from the headers"
    assert store.counts().stored_bytes == sum(len(b) for _, b in blobs)
    assert store.verified([blobs[0][0]]) == [None], "what only the index knew is gone with it"


def test_verification_times_outlive_an_unclean_stop(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.record_verified([address], 1234)
    store = box.reopen(store)
    assert store.verified([address]) == [1234]


def test_a_chunk_that_vanished_while_the_server_was_down_is_missing(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.close(clean=False)
    box.chunk_path(address).unlink()
    store = box.open()
    assert store.unavailable() == {address}
    assert store.counts().missing == 1
    with pytest.raises(ChunkNotFound):
        store.get(address)


def test_a_bad_mark_whose_file_was_not_renamed_is_settled_by_its_digest(box: StoreBox) -> None:
    store = box.open()
    good, rotten = make_blob(1), make_blob(2)
    for blob in (good, rotten):
        store.put(*blob)
    store.barrier()
    for address, _ in (good, rotten):
        store.mark_bad(address)
        path = box.chunk_path(address)
        path.with_name(path.name + ".bad").rename(path)
    flip(box.chunk_path(rotten[0]))
    store = box.reopen(store)
    assert store.get(good[0]) == good[1]
    assert store.unavailable() == {rotten[0]}
    assert not box.chunk_path(rotten[0]).exists()


def test_a_file_too_short_for_a_header_is_bad(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.close(clean=False)
    os.truncate(box.chunk_path(address), 20)
    store = box.open()
    assert store.info([address])[0].state is ChunkState.BAD


def test_a_bad_file_alone_in_its_domain_is_passed_over(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1, keys=KEYS)
    store.put(address, blob)
    store.barrier()
    store.mark_bad(address)
    store.close()
    bad = box.chunk_path(address).with_name(chunk_name(address) + ".bad")
    flip(bad, 0)
    (box.path / ".ibs" / "chunks.db").unlink()
    store = box.open()
    assert list(store.iterate()) == []
    assert bad.exists()


@pytest.mark.parametrize("spoilt", [0, 1])
def test_a_flipped_bit_in_a_header_makes_up_no_domain(box: StoreBox, spoilt: int) -> None:
    store = box.open()
    blobs = sorted(make_blob(n, keys=KEYS) for n in range(2))
    for blob in blobs:
        store.put(*blob)
    store.close()
    flip(box.chunk_path(blobs[spoilt][0]), 40)  # in the second half of the domain, which the file's name does not hold
    (box.path / ".ibs" / "chunks.db").unlink()
    store = box.open()
    assert {info.address for info in store.iterate()} == {address for address, _ in blobs}
    store.put(*make_blob(7, keys=KEYS))
    with pytest.raises(CorruptChunk):
        store.get(blobs[spoilt][0])


def test_an_interrupted_recovery_is_simply_run_again(box: StoreBox) -> None:
    store = box.open()
    blobs = [make_blob(n) for n in range(5)]
    for blob in blobs:
        store.put(*blob)
    store.close(clean=False)
    name = blobs[0][0].id.hex()
    # killed after one rename: that chunk is in its folder, the others are still incoming, the index knows none
    (box.path / "chunks" / "incoming" / "1" / name).rename(box.chunk_path(blobs[0][0]))
    store = box.open()
    assert store.recovered.chunks_promoted == 4
    assert all(info.state is ChunkState.DURABLE for info in store.info([a for a, _ in blobs]))


def test_temporary_files_go_everywhere(box: StoreBox) -> None:
    box.open().close(clean=False)
    group = box.path / "ns" / "@a" / "host" / "web01"
    group.mkdir(parents=True)
    litter = [group / ".tmp-1-owner.json", box.path / ".ibs" / ".tmp-2-generation"]
    for path in litter:
        path.write_bytes(b"half")
    (group / "owner.json").write_bytes(b"{}")
    box.open()
    assert not any(path.exists() for path in litter)
    assert (group / "owner.json").exists()


def test_what_others_put_into_the_store_does_not_keep_it_from_opening(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.barrier()
    store.close(clean=False)
    strange = [
        box.path / "chunks" / "incoming" / "1" / "folder",
        box.path / "chunks" / "incoming" / "9" / "deep" / "folder",
        box.path / "chunks" / address.id.hex()[:4] / ("ab" * 32),
        box.path / "ns" / "host" / "web01" / "2026-11-22T19:00:00Z" / "folder",
        box.path / "staging" / "s1" / "folder",
    ]
    for folder in strange:
        folder.mkdir(parents=True)
    (box.path / "ns" / "link").symlink_to("/")
    (box.path / "chunks" / "incoming" / "file").touch()
    store = box.open()
    assert [info.address for info in store.iterate()] == [address]
    assert all(folder.exists() for folder in strange)


def test_an_index_that_is_not_the_one_in_the_folder_is_refused(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    other = StoreBox(box.path.parent / "other").create()
    real = recover.ChunkDb
    monkeypatch.setattr(recover, "ChunkDb", lambda _path: real(str(other.path / ".ibs" / "chunks.db")))
    with pytest.raises(DatastoreOffline, match="its file system is gone"):
        box.open()


def test_a_record_of_trash_that_was_half_written_does_not_keep_its_folder(box: StoreBox) -> None:
    store = box.open()
    blob = make_blob(1)
    store.put(*blob)
    store.barrier()
    epoch = store.raise_epoch()
    store.retire([blob[0]], epoch, since=1)
    litter = box.path / "chunks" / "trash" / str(epoch) / ".tmp-1-about.json"
    litter.touch()
    store = box.reopen(store)
    assert not litter.exists()
    assert store.reclaim(epoch, limit=None).freed_chunks == 1
    assert not litter.parent.exists()
