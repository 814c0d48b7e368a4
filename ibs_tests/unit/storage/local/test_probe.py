from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from ibs.errors import DatastoreOffline, UsageError
from ibs.ports.chunkstore import Space
from ibs.storage.local import files, probe
from ibs.storage.local.layout import Owner, encode_record
from ibs.storage.local.probe import Check, Expected, contains_store, find_store_above, probe_path
from ibs_tests.support.stores import SERVER, UUID, StoreBox

RIGHT = Expected(UUID, SERVER)


def look(path: Path, expected: Expected = RIGHT) -> list[Check]:
    return probe_path(str(path), "main", expected)


def reason(checks: list[Check]) -> str:
    return next((check.detail for check in checks if not check.ok), "")


def snapshot_of(folder: Path) -> set[tuple[str, int]]:
    return {(str(p), p.stat().st_mtime_ns) for p in [folder, *folder.rglob("*")]}


def test_a_right_store_passes_every_check(box: StoreBox) -> None:
    names = ["path", "mounted", "uuid", "owner", "lock", "writable", "space"]
    assert [check.check for check in look(box.path) if check.ok] == names
    store = box.open()
    checks = store.probe()
    assert [check.check for check in checks if check.ok] == ["path", "same folder", *names[1:]]
    assert not list(box.path.rglob(".tmp*"))


@pytest.mark.parametrize("litter", [[], ["lost+found"], [".ibs"]])
def test_a_bare_mount_point_is_not_mounted_and_stays_bare(tmp_path: Path, litter: list[str]) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in litter:
        (bare / name).mkdir()
    before = snapshot_of(bare)
    assert reason(look(bare)).startswith("not mounted: ")
    with pytest.raises(DatastoreOffline, match="not mounted"):
        StoreBox(bare).open()
    assert snapshot_of(bare) == before


def test_other_wrong_places(tmp_path: Path, box: StoreBox) -> None:
    (tmp_path / "file").touch()
    assert reason(look(tmp_path / "none")).startswith("path does not exist")
    assert reason(look(tmp_path / "file")).startswith("path is not a folder")
    assert "wrong uuid: " in reason(look(box.path, Expected("other", SERVER)))
    (box.path / ".ibs" / "datastore.json").write_text("{")
    assert reason(look(box.path)).startswith("damaged: ")


def test_permission_is_told(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "open_dir", refuse)
    assert reason(look(box.path)).startswith("permission denied: ")
    monkeypatch.setattr(os, "open", refuse)
    assert reason(look(box.path)).startswith("permission denied: ")


def test_a_dead_mount_is_told(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_args: object, **_kwargs: object) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "open", dead)
    assert "Stale file handle" in reason(look(box.path))


def test_another_owner_is_told_and_nothing_is_written(box: StoreBox) -> None:
    (box.path / ".ibs" / "owner").write_bytes(encode_record(Owner(server="server-b", fence=3)))
    before = snapshot_of(box.path)
    checks = look(box.path)
    assert reason(checks) == "owner elsewhere: server server-b, fence 3"
    assert "writable" not in [check.check for check in checks]
    assert snapshot_of(box.path) == before


def test_a_store_in_use_is_told(box: StoreBox) -> None:
    box.open()
    assert "in use by another server" in reason(look(box.path))


def test_another_folder_in_the_place_of_an_open_store_is_noticed(box: StoreBox) -> None:
    store = box.open()
    box.path.rename(box.path.parent / "away")
    assert reason(store.probe()).startswith("path does not exist")
    shutil.copytree(box.path.parent / "away", box.path)
    before = snapshot_of(box.path)
    assert reason(store.probe()).startswith("not mounted: ")
    assert snapshot_of(box.path) == before, "a copy is not the store"
    store.close(clean=False)
    assert [check.detail for check in store.probe()] == ["closed"]


def test_a_read_only_file_system_is_not_writable(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "write_new", refuse)
    assert "Read-only" in reason(look(box.path))


def test_a_full_disk_is_told_but_is_no_reason_to_be_offline(box: StoreBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full = Space(1000, 0, 1000, 0)
    monkeypatch.setattr(files, "write_new", refuse)
    monkeypatch.setattr(probe, "measure", lambda _fd: full)
    checks = look(box.path)
    assert reason(checks) == ""
    assert checks[-1] == Check("space", True, "no space: no free bytes and inodes")


def test_stores_above_and_below_are_found(box: StoreBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = box.path / "chunks" / "deeper"
    inside.mkdir()
    assert find_store_above(str(inside)) == str(box.path)
    assert find_store_above(str(box.path / "not" / "there")) == str(box.path)
    assert find_store_above(str(box.path)) == str(box.path)
    assert find_store_above(str(tmp_path)) is None
    assert contains_store(str(tmp_path)) == str(box.path)
    assert contains_store(str(box.path)) is None
    (tmp_path / "link").symlink_to(box.path)
    assert find_store_above(str(tmp_path / "link" / "x")) == str(box.path)
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("ibs.core.limits.STORE_FOLDERS_SEARCHED_MAX", 1)
    with pytest.raises(UsageError, match="too many folders"):
        contains_store(str(tmp_path))
