from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from ibs.core.names import Group, Namespace, SnapshotName
from ibs.errors import DatastoreReadOnly, FormatError, NotFoundError, UsageError
from ibs.storage.wrap.faults import Plan
from ibs_tests.support.stores import SNAPSHOT, StoreBox, publish

WEB = Group("host", "web01")
ROOT = Namespace()
TIME = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)


def test_listing_shows_namespaces_groups_and_complete_snapshots_only(box: StoreBox) -> None:
    store = box.open()
    for folder in (
        SNAPSHOT,
        "host/web01/2026-11-20T00:00:00Z",
        "vm/100/2026-11-20T00:00:00Z",
        "@a/ct/7/2026-11-20T00:00:00Z",
        "@a/@b/host/web01/2026-11-20T00:00:00Z",
    ):
        publish(store, folder)
    ns = box.path / "ns"
    (ns / "host" / "web01" / "2026-11-21T00:00:00Z").mkdir()  # no manifest
    (ns / "host" / "web01" / "not-a-time").mkdir()
    (ns / "host" / "empty").mkdir()
    (ns / "host" / ".odd").mkdir()
    (ns / "stray").write_text("x")
    files = store.snapshots
    assert files.namespaces() == [ROOT, Namespace(("a",)), Namespace(("a", "b"))]
    assert files.groups(ROOT) == [Group("host", "empty"), WEB, Group("vm", "100")]
    assert files.groups(Namespace(("a",))) == [Group("ct", "7")]
    assert files.times(ROOT, WEB) == [datetime(2026, 11, 20, tzinfo=UTC), TIME]
    assert files.times(ROOT, Group("ct", "none")) == []
    assert files.exists(SnapshotName(ROOT, WEB, TIME))
    assert not files.exists(SnapshotName(ROOT, WEB, datetime(2026, 11, 21, tzinfo=UTC)))


def test_reading_is_bounded_and_stays_good_after_removal(box: StoreBox) -> None:
    store = box.open()
    publish(store, a__blob=b"0123456789")
    files = store.snapshots
    assert files.read(SNAPSHOT, "a.blob") == b"0123456789"
    assert files.size(SNAPSHOT, "a.blob") == 10
    assert files.size(SNAPSHOT, "b.blob") is None
    with pytest.raises(FormatError):
        files.read(SNAPSHOT, "a.blob", limit=9)
    for call in (lambda: files.read(SNAPSHOT, "b"), lambda: files.open(SNAPSHOT, "b"), lambda: files.names("ct/1")):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(UsageError):
        files.read(SNAPSHOT, "../../owner.json")
    fd = files.open(SNAPSHOT, "a.blob")
    files.remove(SNAPSHOT)
    assert os.read(fd, 20) == b"0123456789"
    os.close(fd)


def test_state_is_replaced_and_changes_the_stamp(box: StoreBox) -> None:
    store = box.open()
    publish(store)
    before = store.snapshots.stamp(SNAPSHOT)
    os.utime(box.path / "ns" / SNAPSHOT, ns=(1, 1))
    assert store.snapshots.stamp(SNAPSHOT) != before
    store.snapshots.write_state(SNAPSHOT, b'{"format":1}')
    assert store.snapshots.read(SNAPSHOT, "state.json") == b'{"format":1}'
    assert store.snapshots.stamp("host/none") is None
    with pytest.raises(NotFoundError):
        store.snapshots.write_state("host/web01/2020-01-01T00:00:00Z", b"{}")
    with pytest.raises(UsageError, match="larger"):
        store.snapshots.write_state(SNAPSHOT, bytes(2 << 20))


def test_a_groups_owner_makes_the_group(box: StoreBox) -> None:
    store = box.open()
    store.snapshots.write_group_owner(Namespace(("a",)), WEB, b"{}")
    assert store.snapshots.read("@a/host/web01", "owner.json") == b"{}"
    assert store.snapshots.groups(Namespace(("a",))) == [WEB]


def test_removal_takes_the_manifest_first(box: StoreBox) -> None:
    plan = Plan()
    store = box.open(hook=plan)
    publish(store, a__blob=b"x")
    seen: list[list[str]] = []
    plan.at("remove.files", lambda: seen.append(store.snapshots.names(SNAPSHOT)))
    store.snapshots.remove(SNAPSHOT)
    assert seen == [["a.blob", "manifest.sig"]]
    assert os.listdir(box.path / "ns" / "host" / "web01") == []
    with pytest.raises(NotFoundError):
        store.snapshots.remove(SNAPSHOT)
    with pytest.raises(UsageError):
        store.snapshots.remove("host/web01")


def test_a_removal_stopped_half_way_is_finished_at_the_next_open(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("remove.files"))
    publish(store, a__blob=b"x")
    with pytest.raises(Exception, match="removing a snapshot failed"):
        store.snapshots.remove(SNAPSHOT)
    assert store.snapshots.times(ROOT, WEB) == []
    store = box.reopen(store)
    assert store.recovered.snapshots_swept == 1
    assert os.listdir(box.path / "ns" / "host" / "web01") == []


def test_removal_stopped_before_the_manifest_leaves_it_whole(box: StoreBox) -> None:
    store = box.open(hook=Plan().fail("remove.manifest"))
    publish(store, a__blob=b"x")
    with pytest.raises(Exception, match="removing a snapshot failed"):
        store.snapshots.remove(SNAPSHOT)
    assert store.snapshots.times(ROOT, WEB) == [TIME]


def test_links_planted_in_the_store_are_not_followed(box: StoreBox) -> None:
    store = box.open()
    publish(store)
    secret = box.path.parent / "secret"
    secret.mkdir()
    (secret / "manifest.json").write_text("secret")
    (box.path / "ns" / "host" / "evil").symlink_to(secret)
    (box.path / "ns" / SNAPSHOT / "log.blob").symlink_to(secret / "manifest.json")
    with pytest.raises(Exception, match="failed"):
        store.snapshots.read("host/evil", "manifest.json")
    with pytest.raises(Exception, match="failed"):
        store.snapshots.read(SNAPSHOT, "log.blob")


def test_a_read_only_store_lists_and_reads_but_changes_nothing(box: StoreBox) -> None:
    store = box.open()
    publish(store)
    store._held.gate.go_read_only("why")
    assert store.snapshots.times(ROOT, WEB) == [TIME]
    for call in (lambda: store.snapshots.remove(SNAPSHOT), lambda: store.snapshots.write_state(SNAPSHOT, b"{}")):
        with pytest.raises(DatastoreReadOnly):
            call()
