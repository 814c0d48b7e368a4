"""The bin's folders: a snapshot is in its place or in the bin, whole, at every point where it may be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.storage.local import LocalStore
from ibs_tests.support.stores import SNAPSHOT, StoreBox, publish


@pytest.fixture
def box(tmp_path: Path) -> Iterator[StoreBox]:
    box = StoreBox(tmp_path / "store").create()
    yield box
    box.close()


@pytest.fixture
def store(box: StoreBox) -> LocalStore:
    store = box.open()
    publish(store, a__tree__idx=b"index")
    return store


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_there_and_back_changes_no_byte(box: StoreBox, store: LocalStore) -> None:
    before = files_of(box.path / "ns" / SNAPSHOT)
    store.bin.put(SNAPSHOT, "e1", b"record")
    assert not (box.path / "ns" / SNAPSHOT).exists()
    assert store.bin.entries() == ["e1"]
    assert files_of(box.path / ".ibs/bin/e1") == before | {"bin.json": b"record"}
    assert store.bin.read("e1", "a.tree.idx") == b"index"
    store.bin.undo("e1", SNAPSHOT)
    assert store.bin.entries() == []
    assert files_of(box.path / "ns" / SNAPSHOT) == before


def test_undo_overwrites_no_snapshot_and_clears_a_failed_one_away(box: StoreBox, store: LocalStore) -> None:
    store.bin.put(SNAPSHOT, "e1", b"record")
    publish(store, a__tree__idx=b"another")
    with pytest.raises(ConflictError):
        store.bin.undo("e1", SNAPSHOT)
    assert store.snapshots.read(SNAPSHOT, "a.tree.idx") == b"another"
    (box.path / "ns" / SNAPSHOT / "manifest.json").unlink()
    store.bin.undo("e1", SNAPSHOT)
    assert store.snapshots.read(SNAPSHOT, "a.tree.idx") == b"index"


def test_what_is_purged_is_gone(box: StoreBox, store: LocalStore) -> None:
    store.bin.put(SNAPSHOT, "e1", b"record")
    store.bin.purge("e1")
    assert list((box.path / ".ibs/bin").iterdir()) == []
    for act in (
        lambda: store.bin.purge("e1"),
        lambda: store.bin.undo("e1", SNAPSHOT),
        lambda: store.bin.read("e1", "x"),
    ):
        with pytest.raises(NotFoundError):
            act()


def test_what_is_no_snapshot_is_refused(store: LocalStore) -> None:
    with pytest.raises(NotFoundError):
        store.bin.put("host/web01/2020-01-01T00:00:00Z", "e1", b"")
    for folder in ("host/web01", "../x"):
        with pytest.raises(UsageError):
            store.bin.put(folder, "e1", b"")
    with pytest.raises(UsageError):
        store.bin.put(SNAPSHOT, "../e1", b"")
    assert store.bin.entries() == []


def test_opening_finishes_a_purge_and_takes_stray_records_away(box: StoreBox, store: LocalStore) -> None:
    store.bin.put(SNAPSHOT, "e1", b"record")
    store.bin.undo("e1", SNAPSHOT)
    (box.path / "ns" / SNAPSHOT / "bin.json").write_bytes(b"stray")
    half = box.path / ".ibs/bin/e2"
    half.mkdir()
    (half / "a.tree.idx").write_bytes(b"index")
    assert store.bin.entries() == []
    store = box.reopen(store)
    assert store.recovered.snapshots_swept == 1
    assert not half.exists()
    assert "bin.json" not in store.snapshots.names(SNAPSHOT)
    assert store.snapshots.read(SNAPSHOT, "a.tree.idx") == b"index"
