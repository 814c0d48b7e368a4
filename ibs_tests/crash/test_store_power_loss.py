"""Power cut at named points of the local store, on a real file system: neither data nor journal reaches the disk after.

The file system is shut down below the store (xfs_io), mounted again, and the store is held to what it had promised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import IbsError
from ibs.ports.chunkstore import Address, ChunkState
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import SNAPSHOT, SmallDisk, StoreBox, make_blob, publish, small_disk

pytestmark = pytest.mark.root

SIZES = {"ext4": 96 << 20, "xfs": 320 << 20}
POINTS = [
    ("ext4", "put.rename", 20),
    ("ext4", "barrier.sync", 2),
    ("ext4", "barrier.promote", 1),
    ("ext4", "barrier.promote", 12),
    ("ext4", "barrier.record", 2),
    ("ext4", "publish.index", 1),
    ("ext4", "publish.sync", 1),
    ("ext4", "publish.manifest.temp", 2),
    ("ext4", "publish.manifest.rename", 2),
    ("ext4", "publish.manifest.done", 2),
    ("ext4", "end", 1),
    ("xfs", "put.rename", 20),
    ("xfs", "barrier.promote", 12),
    ("xfs", "publish.manifest.done", 2),
    ("xfs", "end", 1),
]


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(request.param, tmp_path / "disk", size=SIZES[request.param]) as disk:
        yield disk


@pytest.mark.parametrize(("disk", "point", "nth"), POINTS, indirect=["disk"])
def test_what_was_promised_before_the_power_went_is_there_after(disk: SmallDisk, point: str, nth: int) -> None:
    box = StoreBox(disk.mounted / "store").create()
    plan = Plan().at(point, disk.cut_power, nth=nth)
    store = box.open(hook=plan)
    promised: list[tuple[Address, bytes]] = []
    published = False
    first, second = [make_blob(n, 50_000) for n in range(10)], [make_blob(n, 50_000) for n in range(10, 20)]
    with contextlib.suppress(IbsError):
        for blob in first:
            store.put(*blob)
        store.barrier()
        promised += first
        store.staging.create("s1").append("a.tree.idx", b"index")
        for blob in second:
            store.put(*blob)
        publish(store, a__tree__idx="s1/a.tree.idx")
        published = True
        promised += second
        plan("end")
    assert plan.passed[point] >= nth, "the power was never cut"
    store.close(clean=False)
    disk.unmount()
    disk.mount()
    store = box.open()
    assert not store.recovered.clean
    for address, blob in promised:
        assert store.get(address) == blob
    for info in store.iterate():
        assert info.state is ChunkState.DURABLE
        store.get(info.address)
    if published:
        assert store.snapshots.names(SNAPSHOT) == ["a.tree.idx", "manifest.json", "manifest.sig"]
    if (box.path / "ns" / SNAPSHOT).exists():
        assert store.snapshots.read(SNAPSHOT, "manifest.json") == b"{}"
        assert store.snapshots.read(SNAPSHOT, "a.tree.idx") == b"index"
        assert all(store.get(address) == blob for address, blob in first + second)
    assert store.unavailable() == frozenset()
    assert box.incoming() == []
    store.close()
    box.close()


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_a_dead_disk_is_an_error_and_never_corruption(disk: SmallDisk) -> None:
    box = StoreBox(disk.mounted / "store").create()
    store = box.open()
    address, blob = make_blob(1, 50_000)
    store.put(address, blob)
    store.barrier()
    store.put(*make_blob(2, 50_000))
    disk.cut_power()
    for call in (lambda: store.put(*make_blob(3)), store.barrier, lambda: publish(store)):
        with pytest.raises(IbsError):
            call()
    with contextlib.suppress(IbsError):
        store.get(address)
    assert store.unavailable() == frozenset()
    assert not all(check.ok for check in store.probe())
    store.close(clean=False)
    disk.unmount()
    disk.mount()
    assert box.open().get(address) == blob
    box.close()


@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
@pytest.mark.parametrize("point", ["remove.files", "discard.sync", "discard.row", "discard.file"])
def test_a_manifest_that_the_power_brings_back_finds_its_chunks(disk: SmallDisk, point: str) -> None:
    box = StoreBox(disk.mounted / "store").create()
    plan = Plan()
    store = box.open(hook=plan)
    blobs = [make_blob(n, 50_000) for n in range(10)]
    for blob in blobs:
        store.put(*blob)
    publish(store, a__tree__idx=b"index")
    plan.at(point, disk.cut_power)
    with contextlib.suppress(IbsError):
        store.snapshots.remove(SNAPSHOT)
        store.discard([address for address, _ in blobs])
    store.close(clean=False)
    disk.unmount()
    disk.mount()
    store = box.open()
    if (box.path / "ns" / SNAPSHOT).exists():
        assert all(store.get(address) == blob for address, blob in blobs)
    for info in store.iterate():
        store.get(info.address)
    box.close()
