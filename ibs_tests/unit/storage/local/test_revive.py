from __future__ import annotations

from ibs.ports.chunkstore import ChunkState, PutOutcome
from ibs.storage.local.layout import chunk_name
from ibs.storage.local.revive import take_back, trash_path
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import StoreBox, make_blob

ADDRESS, BLOB = make_blob(1)


def test_a_store_without_trash_never_asks_for_it(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    store.put(ADDRESS, BLOB)
    store.barrier()
    assert take_back(store._held, store._ledger, ADDRESS) is None
    assert plan.passed["revive.file"] == 0


def test_a_row_without_a_file_is_dropped_so_that_the_chunk_can_be_sent_again(box: StoreBox) -> None:
    store = box.open()
    store.put(ADDRESS, BLOB)
    store.barrier()
    epoch = store.raise_epoch()
    store.retire([ADDRESS], epoch, since=0)
    (box.path / "chunks" / trash_path(epoch, chunk_name(ADDRESS))).unlink()
    assert store.put(ADDRESS, BLOB) is PutOutcome.STORED
    store.barrier()
    assert store.get(ADDRESS) == BLOB
    assert store.trash() == []


def test_a_revived_chunk_survives_the_power_like_a_received_one(box: StoreBox) -> None:
    """Its file moved without a flush: it is in one of the two places, and both are looked at."""
    store = box.open()
    store.put(ADDRESS, BLOB)
    store.barrier()
    epoch = store.raise_epoch()
    store.retire([ADDRESS], epoch, since=0)
    trashed = box.path / "chunks" / trash_path(epoch, chunk_name(ADDRESS))
    about = trashed.with_name("about.json").read_bytes()
    store.revive([ADDRESS])
    store.close(clean=False)
    trashed.parent.mkdir(exist_ok=True)
    trashed.with_name("about.json").write_bytes(about)
    box.chunk_path(ADDRESS).rename(trashed)  # the rename never reached the disk
    store = box.open()
    assert store.info([ADDRESS])[0].state is ChunkState.RETIRED
    assert store.put(ADDRESS, BLOB) is PutOutcome.DUPLICATE
    assert store.get(ADDRESS) == BLOB
