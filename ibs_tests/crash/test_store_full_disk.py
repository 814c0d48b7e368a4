"""The local store on real file systems that run full, of bytes and of inodes: only writing stops (DESIGN P7)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import DatastoreOffline, NoSpace
from ibs.ports.chunkstore import Address, ChunkState
from ibs.storage.local import LocalStore
from ibs.storage.local.space import floor_bytes, floor_inodes, measure
from ibs_tests.support.stores import SNAPSHOT, SmallDisk, StoreBox, make_blob, publish, small_disk

pytestmark = pytest.mark.root

KINDS = {
    "tmpfs bytes": ("tmpfs", 6 << 20, 100_000, "bytes", 40_000),
    "tmpfs inodes": ("tmpfs", 64 << 20, 700, "inodes", 300),
    "ext4 bytes": ("ext4", 24 << 20, 8000, "bytes", 40_000),
    "ext4 inodes": ("ext4", 64 << 20, 800, "inodes", 300),
}


@pytest.fixture(params=list(KINDS))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SmallDisk, StoreBox, str, int]]:
    kind, size, inodes, runs_out, blob_size = KINDS[request.param]
    with small_disk(kind, tmp_path / "disk", size=size, inodes=inodes) as disk:
        box = StoreBox(disk.mounted / "store").create()
        yield disk, box, runs_out, blob_size
        box.close()


def put_until_full(store: LocalStore, blob_size: int, runs_out: str, first: int = 0) -> list[tuple[Address, bytes]]:
    stored = []
    for number in range(first, first + 5000):
        blob = make_blob(number, blob_size)
        try:
            store.put(*blob)
        except NoSpace as error:
            if error.details["exhausted"] != runs_out:
                raise
            return stored
        stored.append(blob)
    pytest.fail("the disk never ran full")


def litter(box: StoreBox) -> list[Path]:
    return list(box.path.rglob(".tmp-*"))


def test_writers_stop_at_the_floor_and_everything_else_goes_on(case: tuple[SmallDisk, StoreBox, str, int]) -> None:
    _, box, runs_out, blob_size = case
    store = box.open()
    stored = put_until_full(store, blob_size, runs_out)
    assert len(stored) > 20
    space = store.space()
    if runs_out == "bytes":
        assert space.bytes_free + blob_size + 8192 >= floor_bytes(space)
    else:
        assert space.inodes_free + 2 >= floor_inodes(space)
    assert litter(box) == []
    assert store.status == ("online", "")
    publish(store, a__tree__idx=b"index")  # what was received before is still committed
    assert all(store.get(a) == b for a, b in stored)
    assert all(info.state is ChunkState.DURABLE for info in store.info([a for a, _ in stored]))
    freed = store.discard([a for a, _ in stored[:10]])
    assert freed == sum(len(b) for _, b in stored[:10])
    assert put_until_full(store, blob_size, runs_out, first=10_000)
    store = box.reopen(store, clean=True)
    assert store.recovered.clean
    assert all(store.get(a) == b for a, b in stored[10:])


def test_a_disk_filled_to_the_last_by_others_still_reads_deletes_and_restores(
    case: tuple[SmallDisk, StoreBox, str, int],
) -> None:
    disk, box, runs_out, blob_size = case
    store = box.open()
    stored = [make_blob(n, blob_size) for n in range(20)]
    for blob in stored:
        store.put(*blob)
    publish(store, a__tree__idx=b"index")
    disk.fill(inodes=runs_out == "inodes")
    with pytest.raises(NoSpace) as caught:
        store.put(*make_blob(99, blob_size))
    assert caught.value.details["exhausted"] == runs_out
    assert all(store.get(a) == b for a, b in stored)
    lease = store.leases.create("reader")  # a restore needs a lease
    lease.link(SNAPSHOT, "a.tree.idx", as_name="a.tree.idx")
    lease.write("lease.json", b"{}")
    store.snapshots.write_state(SNAPSHOT, b'{"format":1}')
    store.record_verified([a for a, _ in stored], 1_800_000_000)
    store.leases.remove("reader")
    store.snapshots.remove(SNAPSHOT)
    assert store.discard([a for a, _ in stored]) == sum(len(b) for _, b in stored)
    store.close()
    disk.empty()
    store = box.open()
    assert store.counts().chunks == 0
    store.put(*stored[0])
    publish(store)
    assert litter(box) == []
    assert (box.path / ".ibs" / "reserve" / "bytes").exists(), "the reserve is whole again"


@pytest.mark.parametrize("clean", [True, False])
def test_a_store_opens_on_a_full_disk_after_either_kind_of_stop(
    case: tuple[SmallDisk, StoreBox, str, int], clean: bool
) -> None:
    disk, box, runs_out, blob_size = case
    store = box.open()
    durable, received = make_blob(1, blob_size), make_blob(2, blob_size)
    store.put(*durable)
    publish(store)
    store.put(*received)
    disk.fill(inodes=runs_out == "inodes")
    store = box.reopen(store, clean=clean)
    assert store.recovered.clean is clean
    assert store.get(durable[0]) == durable[1]
    assert store.get(received[0]) == received[1]
    store.discard([durable[0], received[0]])
    assert measure(store._held.folders.root).inodes_free > 0


def test_an_unmounted_disk_is_offline_and_its_mount_point_stays_bare(tmp_path: Path) -> None:
    with small_disk("ext4", tmp_path / "disk", size=24 << 20) as disk:
        box = StoreBox(disk.mounted).create()  # in the root of the file system, beside lost+found
        store = box.open()
        store.put(*make_blob(1))
        store.close()
        disk.unmount()
        with pytest.raises(DatastoreOffline, match="not mounted"):
            box.open()
        assert list(disk.mounted.iterdir()) == []
        disk.mount()
        store = box.open()
        assert store.counts().chunks == 1
        subprocess.run(["umount", "-l", str(disk.mounted)], check=True)
        reasons = [check.detail for check in store.probe() if not check.ok]
        assert any(reason.startswith("not mounted") for reason in reasons)
        store.put(*make_blob(2))  # still into the disk that is held, never into the mount point
        store.barrier()
        assert list(disk.mounted.iterdir()) == []
        store.close()
        disk.mount()
        assert box.open().counts().chunks == 2
        box.close()


def test_a_store_spread_over_file_systems_is_refused(tmp_path: Path) -> None:
    """One flush could not cover it, and nothing could be renamed from one to the other."""
    box = StoreBox(tmp_path / "store").create()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(box.path / "ns")], check=True)
    try:
        with pytest.raises(DatastoreOffline, match="different file systems"):
            box.open()
    finally:
        subprocess.run(["umount", str(box.path / "ns")], check=True)
    box.open()
    box.close()
