"""The trash of a local store: where files and rows are after a stop at each step, and what the next opening does."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence

import pytest

from ibs.errors import DatastoreOffline, FailedError, NoSpace
from ibs.ports.chunkstore import Address, ChunkState, PutOutcome
from ibs.storage.local import LocalStore
from ibs.storage.local.layout import chunk_name
from ibs.storage.local.revive import trash_path
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import KEYS, SNAPSHOT, StoreBox, make_blob, publish

BLOBS = [make_blob(n, keys=KEYS if n % 2 else None) for n in range(4)]
ADDRESSES = [address for address, _ in BLOBS]


class Stopped(BaseException):
    """The process ends here."""


def stop() -> None:
    raise Stopped


def filled(box: StoreBox, plan: Plan | None = None) -> LocalStore:
    store = box.open(hook=plan) if plan is not None else box.open()
    for blob in BLOBS:
        store.put(*blob)
    store.barrier()
    return store


def in_trash(box: StoreBox) -> set[str]:
    folder = box.path / "chunks" / "trash"
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != "about.json"}


def states(store: LocalStore) -> list[str]:
    return [info.state.value for info in store.info(ADDRESSES)]


def names(addresses: Sequence[Address]) -> set[str]:
    return {chunk_name(address) for address in addresses}


def test_retired_files_lie_in_the_folder_of_their_epoch(box: StoreBox) -> None:
    store = filled(box)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:2], epoch, since=5)
    for address in ADDRESSES[:2]:
        assert (box.path / "chunks" / trash_path(epoch, chunk_name(address))).is_file()
        assert not box.chunk_path(address).exists()
    assert (box.path / "chunks" / "trash").stat().st_mode & 0o777 == 0o700
    store.revive(ADDRESSES[:1])
    assert in_trash(box) == names(ADDRESSES[1:2])
    assert box.chunk_path(ADDRESSES[0]).is_file()


@pytest.mark.parametrize("clean", [True, False])
def test_trash_outlives_either_kind_of_stop(box: StoreBox, clean: bool) -> None:
    store = filled(box)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:2], epoch, since=1234)
    store = box.reopen(store, clean=clean)
    assert store.recovered.index_rebuilt is not clean
    assert store.epoch > epoch
    assert states(store) == ["retired", "retired", "durable", "durable"]
    assert [(t.epoch, t.since, t.chunks) for t in store.trash()] == [(epoch, 1234, 2)]
    assert store.unavailable() == frozenset()
    assert store.put(*BLOBS[0]) is PutOutcome.DUPLICATE
    assert store.reclaim(epoch).freed_chunks == 1
    assert states(store) == ["durable", "absent", "durable", "durable"]
    assert os.listdir(box.path / "chunks" / "trash") == []


@pytest.mark.parametrize(
    ("point", "nth", "after"),
    [
        ("retire.row", 1, ["durable"] * 4),
        ("retire.file", 1, ["durable"] * 4),  # rows say trash, files are in their places: the files are right
        ("retire.file", 2, ["retired", "durable", "durable", "durable"]),
        ("retire.file", 3, ["retired", "retired", "durable", "durable"]),
    ],
)
def test_stopped_while_retiring_every_chunk_is_where_its_file_is(
    box: StoreBox, point: str, nth: int, after: list[str]
) -> None:
    plan = Plan().at(point, stop, nth=nth)
    store = filled(box, plan)
    epoch = store.raise_epoch()
    with pytest.raises(Stopped):
        store.retire(ADDRESSES[:3], epoch, since=5)
    store = box.reopen(store, clean=False)
    # Rows come back in the order of a dictionary; how many moved is what counts.
    assert sorted(states(store)) == sorted(after)
    assert states(store)[3] == "durable"
    assert store.unavailable() == frozenset()
    assert [store.get(a) for a in ADDRESSES] == [blob for _, blob in BLOBS]


@pytest.mark.parametrize("point", ["retire.row", "retire.free"])
def test_stopped_while_deleting_at_once_no_row_stands_for_a_lost_file(box: StoreBox, point: str) -> None:
    plan = Plan().at(point, stop, nth=1 if point == "retire.row" else 2)
    store = filled(box, plan)
    with pytest.raises(Stopped):
        store.retire(ADDRESSES[:2], store.raise_epoch(), since=5, keep=False)
    store = box.reopen(store, clean=False)
    assert sorted(states(store)[:2]) == (["durable"] * 2 if point == "retire.row" else ["absent", "durable"])
    assert store.unavailable() == frozenset(), "what went on purpose is not missing"


@pytest.mark.parametrize("point", ["revive.file", "revive.row"])
@pytest.mark.parametrize("reopened", [True, False])
def test_stopped_while_reviving_the_next_one_goes_on(box: StoreBox, point: str, reopened: bool) -> None:
    plan = Plan().at(point, stop)
    store = filled(box, plan)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:1], epoch, since=5)
    with pytest.raises(Stopped):
        store.revive(ADDRESSES[:1])
    if reopened:
        store = box.reopen(store, clean=False)
        assert states(store)[0] == ("retired" if point == "revive.file" else "durable")
    assert store.put(*BLOBS[0]) is PutOutcome.DUPLICATE
    assert states(store) == ["durable"] * 4
    assert store.get(ADDRESSES[0]) == BLOBS[0][1]
    assert store.reclaim(epoch).freed_chunks == 0


def test_emptying_trash_keeps_a_chunk_that_was_half_revived(box: StoreBox) -> None:
    store = filled(box, Plan().at("revive.row", stop))
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:1], epoch, since=5)
    with pytest.raises(Stopped):
        store.revive(ADDRESSES[:1])
    assert store.reclaim(epoch).freed_chunks == 0
    assert states(store)[0] == "durable"
    assert store.get(ADDRESSES[0]) == BLOBS[0][1]


@pytest.mark.parametrize(("point", "nth"), [("reclaim.row", 1), ("reclaim.file", 1), ("reclaim.file", 2)])
def test_stopped_while_emptying_trash_the_rest_is_still_in_it(box: StoreBox, point: str, nth: int) -> None:
    store = filled(box, Plan().at(point, stop, nth=nth))
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:2], epoch, since=5)
    with pytest.raises(Stopped):
        store.reclaim(epoch)
    store = box.reopen(store, clean=False)
    left = 1 if (point, nth) == ("reclaim.file", 2) else 2
    assert states(store)[:2].count("retired") == left
    assert store.unavailable() == frozenset()
    assert store.reclaim(epoch).freed_chunks == left
    assert in_trash(box) == set()


def test_trash_whose_record_is_lost_says_that_its_time_is_not_known(box: StoreBox) -> None:
    store = filled(box)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:1], epoch, since=5)
    (box.path / "chunks" / "trash" / str(epoch) / "about.json").write_text("{")
    store = box.reopen(store, clean=True)
    assert [(t.epoch, t.since) for t in store.trash()] == [(epoch, None)]
    store.retire([], epoch, since=99)
    assert [(t.epoch, t.since) for t in store.trash()] == [(epoch, 99)]


def test_a_chunk_that_is_in_its_place_as_well_is_not_in_trash(box: StoreBox) -> None:
    store = filled(box)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:1], epoch, since=5)
    shutil.copy(box.path / "chunks" / trash_path(epoch, chunk_name(ADDRESSES[0])), box.chunk_path(ADDRESSES[0]))
    store = box.reopen(store, clean=False)
    assert states(store)[0] == "durable"
    assert in_trash(box) == set()


def test_a_file_that_cannot_move_keeps_its_place_and_its_row(box: StoreBox) -> None:
    plan = Plan().fail("retire.file", errno.EIO, nth=2)
    store = filled(box, plan)
    epoch = store.raise_epoch()
    with pytest.raises(FailedError):
        store.retire(ADDRESSES[:3], epoch, since=5)
    assert states(store).count("retired") == 1
    assert sorted(states(store)) == ["durable"] * 3 + ["retired"]
    assert in_trash(box) == names([a for a, s in zip(ADDRESSES, states(store), strict=True) if s == "retired"])


def test_a_full_disk_is_told_and_deleting_at_once_still_works(box: StoreBox) -> None:
    store = filled(box, Plan().fail("retire.file", errno.ENOSPC, times=100))
    epoch = store.raise_epoch()
    with pytest.raises(NoSpace):
        store.retire(ADDRESSES[:2], epoch, since=5)
    assert states(store) == ["durable"] * 4
    assert store.retire(ADDRESSES[:2], epoch, since=5, keep=False).freed_chunks == 2


def test_removed_snapshots_are_flushed_before_a_chunk_moves_and_before_trash_is_emptied(box: StoreBox) -> None:
    plan = Plan()
    store = filled(box, plan)
    publish(store)
    store.snapshots.remove(SNAPSHOT)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:1], epoch, since=5)
    assert plan.passed["discard.sync"] == 1
    publish(store, "host/web01/2026-11-23T00:00:00Z")
    store.snapshots.remove("host/web01/2026-11-23T00:00:00Z")
    store.reclaim(epoch)
    assert plan.passed["discard.sync"] == 2


def test_a_store_that_another_server_took_over_loses_nothing_to_us(box: StoreBox) -> None:
    store = filled(box)
    epoch = store.raise_epoch()
    store.retire(ADDRESSES[:1], epoch, since=5)
    owner = box.path / ".ibs" / "owner"
    owner.write_text(owner.read_text().replace('"fence":', '"fence":9'))
    for call in (lambda: store.reclaim(epoch), lambda: store.retire(ADDRESSES[1:], epoch, since=5)):
        with pytest.raises(DatastoreOffline):
            call()
    assert in_trash(box) == names(ADDRESSES[:1])


def test_a_raised_epoch_is_never_given_twice_and_a_clean_stop_stays_clean(box: StoreBox) -> None:
    store = filled(box)
    raised = store.raise_epoch()
    store.put(*make_blob(9))
    assert [path.name for path in (box.path / "chunks" / "incoming").iterdir()] == [str(raised - 1)]
    store = box.reopen(store, clean=True)
    assert store.recovered.clean
    assert not store.recovered.index_rebuilt
    assert store.epoch == raised + 1
    raised = store.raise_epoch()
    store = box.reopen(store, clean=False)
    assert store.epoch == raised + 1


def test_a_retired_chunk_is_read_where_it_lies_when_the_store_takes_no_writes(box: StoreBox) -> None:
    store = filled(box)
    store.retire(ADDRESSES[:1], store.raise_epoch(), since=5)
    store._held.gate.go_read_only("for the test")
    assert store.get(ADDRESSES[0]) == BLOBS[0][1]
    assert states(store)[0] == ChunkState.RETIRED.value
