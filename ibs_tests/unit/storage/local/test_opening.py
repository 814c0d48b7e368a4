from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from ibs.errors import DatastoreOffline, DatastoreReadOnly, FailedError
from ibs.ports.chunkstore import ChunkState
from ibs.storage.local import LocalStore
from ibs_tests.support.stores import SNAPSHOT, UUID, StoreBox, make_blob, publish


def generation(box: StoreBox) -> str:
    return (box.path / ".ibs" / "generation").read_text()


def test_a_second_opener_is_refused_and_harms_nothing(box: StoreBox) -> None:
    store = box.open()
    before = generation(box)
    with pytest.raises(DatastoreOffline, match="datastore main is offline: in use by another server"):
        box.open()
    assert generation(box) == before
    store.put(*make_blob(1))
    store.close()
    box.open()


def test_a_wrong_uuid_is_refused_before_anything_is_written(box: StoreBox) -> None:
    before = {p: p.stat().st_mtime_ns for p in box.path.rglob("*")}
    with pytest.raises(DatastoreOffline, match="wrong uuid"):
        LocalStore.open(str(box.path), UUID.replace("1", "2"), "server-a", name="main")
    assert {p: p.stat().st_mtime_ns for p in box.path.rglob("*")} == before


def test_another_server_needs_a_takeover(box: StoreBox) -> None:
    box.open().close()
    with pytest.raises(DatastoreOffline, match="owner elsewhere"):
        box.open(server="server-b")
    box.open(server="server-b", takeover=True).close()
    with pytest.raises(DatastoreOffline, match="belongs to server server-b"):
        box.open()


def test_each_open_raises_the_generation_and_only_an_orderly_stop_is_clean(box: StoreBox) -> None:
    store = box.open(boot_id="boot-1")
    assert '"generation":1,"clean":false' in generation(box)
    store.close()
    assert generation(box) == '{"generation":1,"clean":true,"boot_id":"boot-1"}\n'
    store = box.open(boot_id="boot-1")
    assert store.recovered.clean
    assert not store.recovered.index_rebuilt
    store = box.reopen(store, clean=False, boot_id="boot-1")
    assert not store.recovered.clean
    assert store.recovered.index_rebuilt
    assert store.epoch == 3


def test_an_orderly_stop_before_a_reboot_spares_the_index_but_not_the_look_at_incoming(box: StoreBox) -> None:
    store = box.open(boot_id="boot-1")
    store.put(*make_blob(1))
    store = box.reopen(store, clean=True, boot_id="boot-2")
    assert not store.recovered.clean
    assert not store.recovered.index_rebuilt


def test_an_unknown_boot_is_never_the_same_boot(box: StoreBox) -> None:
    store = box.open(boot_id="")
    store = box.reopen(store, clean=True, boot_id="")
    assert not store.recovered.clean


@pytest.mark.parametrize("folder", ["chunks/incoming", "staging", "ns", ".ibs/leases"])
def test_a_store_that_lacks_a_folder_is_damaged(box: StoreBox, folder: str) -> None:
    (box.path / folder).rmdir()
    with pytest.raises(DatastoreOffline, match="damaged"):
        box.open()
    assert not (box.path / folder).exists()


def test_nothing_stays_open_when_opening_fails(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def broken(*_args: object) -> object:
        raise OSError(errno.EIO, "I/O error")

    for target in ("read_generation", "write_generation", "claim"):
        with monkeypatch.context() as patch:
            patch.setattr(f"ibs.storage.local.ownership.{target}", lambda *a, **k: broken())
            with pytest.raises(FailedError):
                box.open()
    with monkeypatch.context() as patch:
        patch.setattr("ibs.storage.local.chunkdb.ChunkDb.set_generation", broken)
        with pytest.raises(FailedError):
            box.open()
    assert len(os.listdir("/proc/self/fd")) == before
    box.open()


def test_a_damaged_index_is_made_anew(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    store.close()
    index = box.path / ".ibs" / "chunks.db"
    index.write_bytes(b"nonsense" * 1000)
    store = box.open()
    assert store.recovered.index_rebuilt
    assert store.info([address])[0].state is ChunkState.DURABLE
    store.close(clean=False)
    data = bytearray(index.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)  # the header is right, the pages are not
    index.write_bytes(data)
    store = box.open()
    assert store.info([address])[0].state is ChunkState.DURABLE
    assert store.get(address) == blob


def test_an_index_of_another_generation_is_rebuilt(box: StoreBox) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.close()
    old = (box.path / ".ibs" / "chunks.db").read_bytes()
    store = box.open()
    store.put(address, blob)
    store.close()
    (box.path / ".ibs" / "chunks.db").write_bytes(old)  # restored from somewhere, behind the store
    store = box.open()
    assert store.recovered.index_rebuilt
    assert store.info([address])[0].state is ChunkState.DURABLE


def test_an_index_that_cannot_be_opened_for_another_reason_is_kept(
    box: StoreBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.open().close()
    before = (box.path / ".ibs" / "chunks.db").read_bytes()

    def locked(*_args: object, **_kwargs: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", locked)
    with pytest.raises(FailedError, match="chunk index"):
        box.open()
    assert (box.path / ".ibs" / "chunks.db").read_bytes() == before


def test_a_read_only_file_system_gives_a_store_that_reads(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.open()
    address, blob = make_blob(1)
    store.put(address, blob)
    publish(store)
    store.close()
    before = {p: p.stat().st_mtime_ns for p in box.path.rglob("*")}
    real = os.fstatvfs

    def read_only(fd: int) -> os.statvfs_result:
        figures = list(real(fd))
        figures[8] |= os.ST_RDONLY
        return os.statvfs_result(figures)

    monkeypatch.setattr(os, "fstatvfs", read_only)
    with pytest.raises(DatastoreOffline, match="owner elsewhere"):
        box.open(server="server-b")
    store = box.open()
    assert store.status == ("read-only", "its file system is mounted read-only")
    assert store.get(address) == blob
    assert store.info([address])[0].state is ChunkState.DURABLE
    assert store.snapshots.read(SNAPSHOT, "manifest.json") == b"{}"
    with pytest.raises(DatastoreReadOnly):
        store.put(*make_blob(2))
    with pytest.raises(DatastoreReadOnly):
        publish(store, "host/web01/2026-11-23T00:00:00Z")
    store.close()
    assert {p: p.stat().st_mtime_ns for p in box.path.rglob("*")} == before


def test_a_disk_whose_flush_fails_while_opening_can_still_be_read(box: StoreBox) -> None:
    store = box.open()
    durable, blob = make_blob(1)
    store.put(durable, blob)
    store.barrier()
    store.put(*make_blob(2))
    store.close(clean=False)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    store = box.open(flush_whole=True, flush=broken)
    assert store.status[0] == "read-only"
    assert store.get(durable) == blob
    assert len(box.incoming()) == 1, "what is in doubt is left for an open that can flush"
    store = box.reopen(store)
    assert store.recovered.chunks_promoted == 1


def test_the_path_may_be_a_link(box: StoreBox, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(box.path)
    store = StoreBox(link).open()
    store.put(*make_blob(1))
    assert all(check.ok for check in store.probe())
    store.close()


def test_what_a_killed_process_removed_is_flushed_before_the_first_chunk_goes(box: StoreBox) -> None:
    store = box.open(boot_id="boot-1")
    blob = make_blob(1)
    store.put(*blob)
    store.barrier()
    publish(store)
    store.snapshots.remove(SNAPSHOT)
    store.close(clean=False)  # killed: whether the removal is on the platter, nobody knows
    passed: list[str] = []
    store = box.open(boot_id="boot-1", hook=passed.append)
    passed.clear()
    store.discard([blob[0]])
    assert passed[:2] == ["discard.sync", "discard.row"]
    store.close()
    store = box.open(boot_id="boot-1", hook=passed.append)
    passed.clear()
    store.discard([blob[0]])
    assert "discard.sync" not in passed, "an orderly stop leaves nothing behind"
