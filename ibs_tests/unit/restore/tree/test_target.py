"""A target is made ready, or refused before anything is fetched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import DestinationNotWritable
from ibs.restore.tree.target import Target, open_target

NONCE = "0123456789abcdef"


def opened(path: Path, **changes: object) -> Target:
    facts: dict[str, object] = {"snapshot": "host/a/T", "archive": "a.tree", "nonce": NONCE, "started": "now"}
    return open_target(str(path), **{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MiB and 64 inodes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_missing_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    target = opened(tmp_path / "a" / "b")
    assert (target.empty, target.resumed, target.stale_nonce) == (True, False, "")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    target.close()


def test_a_folder_with_something_in_it_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    target = opened(tmp_path)
    assert not target.empty
    target.close()


def test_an_unfinished_restore_of_the_same_archive_is_resumed(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "restored").touch()
    target = opened(tmp_path, nonce="fedcba9876543210")
    assert (target.empty, target.resumed, target.stale_nonce) == (False, True, NONCE)
    target.close()
    third = opened(tmp_path)
    assert third.resumed
    third.close()


@pytest.mark.parametrize("changes", [{"snapshot": "host/b/T"}, {"archive": "b.tree"}])
def test_one_of_another_archive_is_not(tmp_path: Path, changes: dict[str, str]) -> None:
    opened(tmp_path).close()
    (tmp_path / "restored").touch()
    target = opened(tmp_path, **changes)
    assert (target.empty, target.resumed, target.stale_nonce) == (False, False, NONCE)
    target.close()


def test_a_file_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DestinationNotWritable, match="destination not writable"):
            opened(path)


def test_more_than_fits_is_refused_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibs.restore.tree.target._file_system", lambda _fd: "ext4")
    with pytest.raises(DestinationNotWritable, match="bytes are coming"):
        opened(tmp_path / "t", bytes_min=1 << 60)
    assert os.listdir(tmp_path / "t") == []
    monkeypatch.setattr("ibs.restore.tree.target._file_system", lambda _fd: "btrfs")
    opened(tmp_path / "t", bytes_min=1 << 60).close()


@pytest.mark.root
def test_a_full_disk_is_refused_before_the_start(small_disk: Path) -> None:
    with pytest.raises(DestinationNotWritable, match="bytes are coming"):
        opened(small_disk, bytes_min=2 << 20)
    with (small_disk / "fill").open("wb") as file:
        file.write(bytes(1 << 20))
    with pytest.raises(DestinationNotWritable, match=r"no space left \(bytes\)"):
        opened(small_disk)


@pytest.mark.root
def test_no_inodes_left_is_told_apart(small_disk: Path) -> None:
    for number in range(os.statvfs(small_disk).f_ffree):
        (small_disk / str(number)).touch()
    with pytest.raises(DestinationNotWritable, match=r"no space left \(inodes\)"):
        opened(small_disk)


@pytest.mark.root
def test_a_read_only_file_system_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(DestinationNotWritable, match="read-only file system"):
        opened(small_disk)
    with pytest.raises(DestinationNotWritable, match="read-only file system"):
        opened(small_disk / "new")
