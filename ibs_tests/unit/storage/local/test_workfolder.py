from __future__ import annotations

import errno
import os

import pytest

from ibs.errors import ConflictError, NoSpace, NotFoundError, UsageError
from ibs.storage.local import space
from ibs_tests.support.stores import SNAPSHOT, StoreBox, publish


def test_a_session_lives_in_its_folder(box: StoreBox) -> None:
    store = box.open()
    session = store.staging.create("s1")
    with pytest.raises(ConflictError):
        store.staging.create("s1")
    session.write("session.json", b"{}")
    session.write("session.json", b'{"a":1}')
    assert session.append("etc.tree.idx", b"0123") == 4
    assert session.append("etc.tree.idx", b"4567") == 8
    session.sync("etc.tree.idx")
    assert session.names() == ["etc.tree.idx", "session.json"]
    assert store.staging.names() == ["s1"]
    again = store.staging.folder("s1")
    assert again.read("etc.tree.idx") == b"01234567"
    assert again.read("etc.tree.idx", offset=6, length=100) == b"67"
    assert again.read("etc.tree.idx", offset=100) == b""
    assert again.read("session.json") == b'{"a":1}'
    assert again.size("etc.tree.idx") == 8
    assert again.size("none") is None
    fd = again.open("etc.tree.idx")
    store.staging.remove("s1")
    store.staging.remove("s1")
    assert os.read(fd, 10) == b"01234567"
    os.close(fd)
    assert store.staging.names() == []


def test_a_repeated_append_changes_nothing(box: StoreBox) -> None:
    session = box.open().staging.create("s1")
    assert session.append("i", b"aaaa", at=0) == 4
    assert session.append("i", b"bbbb", at=4) == 8
    assert session.append("i", b"bbbb", at=4) == 8
    with pytest.raises(UsageError, match="past its end"):
        session.append("i", b"x", at=9)
    with pytest.raises(UsageError):
        session.append("i", b"x", at=-1)
    session.truncate("i", 6)
    session.truncate("i", 60)
    assert session.read("i") == b"aaaabb"


def test_a_refused_append_leaves_the_file_as_it_was(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    session = box.open().staging.create("s1")
    session.append("i", b"aaaa")
    pwrite = os.pwrite

    def half(fd: int, data: bytes, at: int) -> int:
        if at >= 6:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(fd, bytes(data)[:2], at)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(NoSpace):
        session.append("i", b"bbbb")
    assert session.read("i") == b"aaaa"


def test_what_is_not_there_is_not_found(box: StoreBox) -> None:
    store = box.open()
    session = store.staging.create("s1")
    for call in (
        lambda: session.read("none"),
        lambda: session.sync("none"),
        lambda: session.open("none"),
        lambda: store.staging.folder("s2"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert not session.unlink("none")
    store.staging.remove("s1")
    with pytest.raises(NotFoundError):
        session.append("i", b"x")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x"])
def test_names_are_checked(box: StoreBox, name: str) -> None:
    store = box.open()
    session = store.staging.create("s1")
    for call in (
        lambda: store.staging.create(name),
        lambda: store.staging.remove(name),
        lambda: session.append(name, b""),
        lambda: session.read(name),
        lambda: session.link(SNAPSHOT, "a", as_name=name),
    ):
        with pytest.raises(UsageError):
            call()


def test_a_pinned_index_outlives_its_snapshot(box: StoreBox) -> None:
    store = box.open()
    publish(store, etc__tree__idx=b"index")
    lease = store.leases.create("reader1")
    lease.write("lease.json", b"{}")
    lease.link(SNAPSHOT, "etc.tree.idx", as_name="base-etc.tree.idx")
    with pytest.raises(ConflictError, match="pinned already"):
        lease.link(SNAPSHOT, "etc.tree.idx", as_name="base-etc.tree.idx")
    with pytest.raises(NotFoundError):
        lease.link(SNAPSHOT, "none.idx", as_name="b.idx")
    store.snapshots.remove(SNAPSHOT)
    store = box.reopen(store)
    assert store.leases.names() == ["reader1"]
    assert store.leases.folder("reader1").read("base-etc.tree.idx") == b"index"


def test_sessions_stop_at_the_floor_and_leases_do_not(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    session = store.staging.create("s1")
    publish(store, etc__tree__idx=b"index")
    full = space.Space(bytes_total=1000, bytes_free=5, inodes_total=1000, inodes_free=5)
    monkeypatch.setattr(space, "measure", lambda _fd: full)
    store._held.room.forget()
    with pytest.raises(NoSpace):
        session.append("i", b"0123456789")
    with pytest.raises(NoSpace):
        store.staging.create("s2")
    session.write("session.json", b"{}")  # the last word of a session still fits above the reserve
    lease = store.leases.create("r1")
    lease.write("lease.json", b"{}")
    lease.link(SNAPSHOT, "etc.tree.idx", as_name="etc.tree.idx")
    store.leases.remove("r1")
    store.staging.remove("s1")


def test_a_lease_gets_the_reserve_when_the_disk_is_full(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    mkdir, refused = os.mkdir, []

    def full(*args: object, **kwargs: object) -> None:
        if not refused:
            refused.append(1)
            raise OSError(errno.ENOSPC, "full")
        mkdir(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", full)
    store.leases.create("r1")
    assert os.listdir(box.path / ".ibs" / "reserve") == []
    refused.clear()
    with pytest.raises(NoSpace):
        store.staging.create("s1")


def test_unfinished_files_are_litter_that_goes_at_the_next_open(box: StoreBox) -> None:
    store = box.open()
    store.staging.create("s1").write("session.json", b"{}")
    (box.path / "staging" / "s1" / ".tmp-abc-session.json").write_bytes(b"half")
    assert store.staging.folder("s1").names() == ["session.json"]
    box.reopen(store)
    assert os.listdir(box.path / "staging" / "s1") == ["session.json"]
