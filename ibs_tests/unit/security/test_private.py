"""Secret files: private from the first moment, whole or absent."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ibs.errors import FailedError
from ibs.security import private
from ibs.security.private import read_private, write_private


def test_written_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "key"
    before = os.umask(0)
    try:
        write_private(path, b"one")
        write_private(path, b"two")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_private(path) == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["key"]
    assert read_private(tmp_path / "none") is None


def test_an_open_file_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"x")
    path.chmod(0o644)
    assert read_private(path) == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_links_folders_pipes_and_giants_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "giant").write_bytes(bytes(private.limits.PRIVATE_FILE_BYTES_MAX + 1))
    for name in ("link", "folder", "pipe", "giant"):
        with pytest.raises(FailedError, match=name):
            read_private(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    write_private(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private.os, "fsync", fail)
    with pytest.raises(FailedError, match="No space left"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
