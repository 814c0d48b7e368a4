from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import DatastoreReadOnly
from ibs.storage.hooks import no_hook
from ibs.storage.local import durable
from ibs.storage.local.durable import Flusher
from ibs.storage.local.gate import Gate


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_syncfs_flushes_and_reports_a_wrong_descriptor(root: int) -> None:
    durable.syncfs(root)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        durable.syncfs(-1)
    assert caught.value.errno == errno.EBADF


def test_the_kind_of_file_system_is_known(root: int) -> None:
    proc = os.open("/proc", os.O_RDONLY)
    try:
        assert durable.file_system_magic(proc) == 0x9FA0
        assert not durable.flushes_whole(proc)
    finally:
        os.close(proc)
    assert durable.file_system_magic(root) != 0
    assert durable.file_system_magic(-1) == 0


@pytest.mark.parametrize(("release", "version"), [("6.1.0-17-amd64", (6, 1)), ("5.10", (5, 10)), ("odd", (0, 0))])
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert durable.kernel_version(release) == version


def test_a_failed_flush_is_never_followed_by_a_good_one(root: int) -> None:
    gate = Gate("main")
    answers: list[int] = [0, errno.EIO, 0]

    def flush(_: int) -> None:
        if code := answers.pop(0):
            raise OSError(code, os.strerror(code))

    flusher = Flusher(root, gate, no_hook, whole=True, flush_whole=flush)
    flusher.flush("barrier.sync")
    for _ in range(2):
        with pytest.raises(DatastoreReadOnly, match="lost written data"):
            flusher.flush("barrier.sync")
    assert answers == [0], "the disk must not be asked again"
    assert gate.read_only_reason


def test_without_syncfs_files_are_flushed_at_once_and_folders_by_flush(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    flusher = Flusher(root, Gate("main"), no_hook, whole=False)
    flusher.file(root)
    for path in ("a/b", "a", "a/b", "gone"):
        flusher.folder(path)
    flusher.flush("barrier.sync")
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    flusher.flush("barrier.sync")
    assert len(synced) == 3


def test_with_syncfs_single_files_are_left_alone(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _fd: pytest.fail("not needed"))
    flusher = Flusher(root, Gate("main"), no_hook, whole=True, flush_whole=lambda _: None)
    flusher.file(root)
    flusher.folder("a")
    flusher.flush("barrier.sync")
    flusher.check()


@pytest.mark.parametrize(("code", "fatal"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_a_file_that_cannot_be_flushed(root: int, monkeypatch: pytest.MonkeyPatch, code: int, fatal: bool) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    gate = Gate("main")
    flusher = Flusher(root, gate, no_hook, whole=False)
    with pytest.raises(OSError, match=os.strerror(code)):
        flusher.file(root)
    assert bool(gate.read_only_reason) is fatal
