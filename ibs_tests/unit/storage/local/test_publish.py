from __future__ import annotations

import errno
import os

import pytest

from ibs.errors import (
    ConflictError,
    DatastoreOffline,
    DatastoreReadOnly,
    FailedError,
    IbsError,
    NoSpace,
    NotFoundError,
    UsageError,
)
from ibs.ports.chunkstore import ChunkState
from ibs.storage.local.layout import Owner, encode_record
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import SNAPSHOT, StoreBox, make_blob, publish

POINTS = [
    "barrier.sync",
    "publish.index",
    "publish.sync",
    "publish.manifest.temp",
    "publish.manifest.rename",
    "publish.manifest.done",
]


def test_everything_is_durable_in_order_and_staging_is_emptied(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    store = box.open(hook=order.append)
    session = store.staging.create("s1")
    session.append("etc.tree.idx", b"index")
    session.append("pins.journal", b"ids")
    store.put(*make_blob(1))
    order.clear()
    publish(store, etc__tree__idx="s1/etc.tree.idx", client__log=b"log")
    assert order == [
        "barrier.sync",
        "barrier.promote",
        "barrier.record",
        "publish.index",
        "publish.index",
        "publish.sync",
        *["publish.manifest.temp", "publish.manifest.rename", "publish.manifest.done"] * 2,
    ]
    assert store.snapshots.names(SNAPSHOT) == ["client.log", "etc.tree.idx", "manifest.json", "manifest.sig"]
    assert store.snapshots.read(SNAPSHOT, "etc.tree.idx") == b"index"
    assert session.names() == ["pins.journal"]
    assert store.info([make_blob(1)[0]])[0].state is ChunkState.DURABLE
    folder = box.path / "ns" / SNAPSHOT
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failure_anywhere_shows_nothing_and_keeps_staging(box: StoreBox, point: str, code: int) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    session = store.staging.create("s1")
    session.append("etc.tree.idx", b"index")
    plan.fail(point, code, nth=plan.passed[point] + 1)
    with pytest.raises(IbsError) as caught:
        publish(store, etc__tree__idx="s1/etc.tree.idx")
    if point in ("barrier.sync", "publish.sync"):
        assert isinstance(caught.value, DatastoreReadOnly)
    else:
        assert isinstance(caught.value, NoSpace if code == errno.ENOSPC else FailedError)
    assert not (box.path / "ns" / SNAPSHOT).exists()
    assert session.names() == ["etc.tree.idx"]
    if isinstance(caught.value, DatastoreReadOnly):
        store = box.reopen(store)
    publish(store, etc__tree__idx="s1/etc.tree.idx")
    assert store.snapshots.read(SNAPSHOT, "etc.tree.idx") == b"index"


@pytest.mark.parametrize("point", POINTS[1:-1])
def test_killed_before_the_manifest_the_folder_goes_at_the_next_open(
    box: StoreBox, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    store = box.open(hook=Plan().at(point, die, nth=2 if point.startswith("publish.manifest") else 1))
    monkeypatch.setattr(store._publisher.__class__, "_undo", lambda *_: None)  # a dead process undoes nothing
    store.staging.create("s1").append("etc.tree.idx", b"index")
    with pytest.raises(Killed):
        publish(store, etc__tree__idx="s1/etc.tree.idx")
    assert (box.path / "ns" / SNAPSHOT).exists()
    group = store.snapshots.groups(store.snapshots.namespaces()[0])
    assert [store.snapshots.times(store.snapshots.namespaces()[0], g) for g in group] == [[]]
    store = box.reopen(store)
    assert store.recovered.snapshots_swept == 1
    assert not (box.path / "ns" / SNAPSHOT).exists()
    assert store.staging.folder("s1").read("etc.tree.idx") == b"index"
    publish(store, etc__tree__idx="s1/etc.tree.idx")


def test_what_a_failed_publication_left_is_cleared_away_by_the_next(box: StoreBox) -> None:
    store = box.open()
    folder = box.path / "ns" / SNAPSHOT
    folder.mkdir(parents=True)
    (folder / "old.tree.idx").write_bytes(b"old")
    publish(store)
    assert store.snapshots.names(SNAPSHOT) == ["manifest.json", "manifest.sig"]


def test_an_existing_snapshot_is_never_touched(box: StoreBox) -> None:
    store = box.open()
    publish(store)
    with pytest.raises(ConflictError, match="exists already"):
        publish(store, more__blob=b"x")
    assert store.snapshots.names(SNAPSHOT) == ["manifest.json", "manifest.sig"]


def test_a_missing_staged_file_fails_cleanly(box: StoreBox) -> None:
    store = box.open()
    store.staging.create("s1")
    with pytest.raises(NotFoundError, match=r"s1/a\.idx"):
        publish(store, a__idx="s1/a.idx")
    assert not (box.path / "ns" / SNAPSHOT).exists()


@pytest.mark.parametrize(
    ("folder", "files", "last"),
    [
        ("host/web01", {"manifest.json": b""}, ["manifest.json"]),
        ("../x/y/2026-11-22T19:00:00Z", {"manifest.json": b""}, ["manifest.json"]),
        (SNAPSHOT, {"../m": b"", "manifest.json": b""}, ["manifest.json"]),
        (SNAPSHOT, {"a": "../../etc/passwd", "manifest.json": b""}, ["manifest.json"]),
        (SNAPSHOT, {"a": "s1", "manifest.json": b""}, ["manifest.json"]),
        (SNAPSHOT, {"manifest.json": "s1/manifest.json"}, ["manifest.json"]),
        (SNAPSHOT, {"a": b"", "manifest.json": b""}, ["manifest.json", "a"]),
    ],
)
def test_hostile_or_senseless_requests_change_nothing(
    box: StoreBox, folder: str, files: dict[str, bytes | str], last: list[str]
) -> None:
    store = box.open()
    with pytest.raises(UsageError):
        store.publish(folder, files, last)
    assert os.listdir(box.path / "ns") == []


def test_a_store_taken_over_publishes_nothing_more(box: StoreBox) -> None:
    store = box.open()
    (box.path / ".ibs" / "owner").write_bytes(encode_record(Owner(server="server-b", fence=2)))
    with pytest.raises(DatastoreOffline, match="owner elsewhere"):
        publish(store)
    assert os.listdir(box.path / "ns") == []
    assert store.status == ("offline", "owner elsewhere: server server-b took it over (fence 2)")
    with pytest.raises(DatastoreOffline):
        store.put(*make_blob(1))


def test_an_error_met_by_another_flush_stops_the_manifest(box: StoreBox) -> None:
    store = box.open()
    plan = Plan().at("publish.manifest.temp", lambda: None)
    store._held.hook = lambda point: (
        store._held.flusher.fail("the disk lost written data") if point == "publish.index" else plan(point)
    )
    with pytest.raises(DatastoreReadOnly):
        publish(store, a__blob=b"x")
    assert not (box.path / "ns" / SNAPSHOT / "manifest.json").exists()


def test_file_by_file_every_folder_and_file_is_flushed_before_the_manifest(
    box: StoreBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = box.open(flush_whole=False)
    store.staging.create("s1").append("a.idx", b"index")
    address, blob = make_blob(1)
    store.put(address, blob)
    synced: list[str] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), box.path))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    publish(store, a__idx="s1/a.idx", log__blob=b"log")
    manifest = max(i for i, path in enumerate(synced) if "manifest.json" in path)
    before = set(synced[:manifest])
    prefix = address.id.hex()[:4]
    wanted = {"ns", "ns/host", "ns/host/web01", f"ns/{SNAPSHOT}", f"ns/{SNAPSHOT}/a.idx", f"ns/{SNAPSHOT}/log.blob"}
    assert wanted | {f"chunks/{prefix}", "chunks", f"chunks/incoming/{store.epoch}"} <= before
    assert synced[-2:] == [f"ns/{SNAPSHOT}", f"ns/{SNAPSHOT}/manifest.json"]


def test_a_staged_file_that_could_not_be_flushed_is_not_published_at_the_second_try(
    box: StoreBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = box.open(flush_whole=False)
    store.staging.create("s1").append("a.tree.idx", b"index")
    fsync, told = os.fsync, []

    def lose(fd: int) -> None:
        if not told and os.readlink(f"/proc/self/fd/{fd}").endswith(".idx"):
            told.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(FailedError):
        publish(store, a__tree__idx="s1/a.tree.idx")
    with pytest.raises(DatastoreReadOnly, match="lost written data"):
        publish(store, a__tree__idx="s1/a.tree.idx")
