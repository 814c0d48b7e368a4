"""The walk: canonical order, any depth and width, never through a link, never blocked, one warning each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs.core.tree import Kind, path_key
from ibs.errors import SourceUnreadable, UsageError
from ibs.sources.notes import Note
from ibs.sources.tree import scan as scans
from ibs.sources.tree.scan import Found, TreeScan
from ibs_tests.support.trees import rich_tree


class Walked:
    """A finished walk."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.notes: list[Note] = []
        self.kinds: dict[bytes, Kind] = {}
        scan = TreeScan(os.fsencode(root), note=self.notes.append, **options)
        for found in scan:
            assert found.folder.fd >= 0
            assert found.path not in self.kinds
            self.kinds[found.path] = found.kind
        scan.close()

    @property
    def paths(self) -> list[bytes]:
        return list(self.kinds)

    @property
    def warnings(self) -> list[str]:
        return [note.line for note in self.notes if note.level == "warning"]


def test_order_is_canonical_and_complete(tmp_path: Path) -> None:
    for name in ("a", "a/b", "a.d", "a-", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    (tmp_path / "ä").touch()
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    walked = Walked(tmp_path)
    assert walked.paths == sorted(walked.paths, key=path_key)
    assert walked.paths[:6] == [b"", b"a", b"a/b", b"a/b/x", b"a/x", b"a-"]
    assert walked.paths[-1] == b"\xff"
    assert len(walked.paths) == 13
    assert not walked.notes


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs acl, libcap2-bin")
def test_every_kind_is_found_and_nothing_followed(tmp_path: Path) -> None:
    rich_tree(tmp_path / "tree")
    kinds = Walked(tmp_path / "tree").kinds
    assert kinds[b"fifo"] is Kind.FIFO
    assert kinds[b"socket"] is Kind.SOCKET
    assert kinds[b"folder-link"] is Kind.SYMLINK
    assert b"folder-link/deeper" not in kinds
    assert len(kinds) == 1 + sum(1 for _ in (tmp_path / "tree").rglob("*"))


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """2,000 folders one in the other, with a file at the bottom: far beyond PATH_MAX."""
    root = tmp_path / "deep"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("folder", dir_fd=fd)
        inner = os.open("folder", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    yield root
    # Whoever cleans up after tests recurses; this does not.
    subprocess.run(["rm", "-rf", root], check=True)


def test_depth_does_not_matter_and_descriptors_are_few(deep: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    scan = TreeScan(os.fsencode(deep), note=lambda note: pytest.fail(note.line))
    paths = []
    for found in scan:
        paths.append(found.path)
        if not len(paths) % 100:
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert len(paths) == 2002
    assert paths[-1] == b"folder/" * 2000 + b"bottom"
    assert most <= scans.OPEN_FOLDERS_MAX + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_siblings_after_a_deep_branch_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "OPEN_FOLDERS_MAX", 3)
    path = tmp_path
    for _ in range(12):
        path = path / "b"
        path.mkdir()
        (path / "a").touch()
        (path / "z").touch()
    walked = Walked(tmp_path)
    assert len(walked.paths) == 1 + 36
    assert walked.paths == sorted(walked.paths, key=path_key)
    assert not walked.notes


def test_a_folder_moved_meanwhile_costs_its_rest_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "OPEN_FOLDERS_MAX", 2)
    (tmp_path / "tree/a/b/c/d").mkdir(parents=True)
    (tmp_path / "tree/a/b/z").touch()
    (tmp_path / "tree/z").touch()
    notes: list[Note] = []
    paths = []
    scan = TreeScan(os.fsencode(tmp_path / "tree"), note=notes.append)
    for found in scan:
        paths.append(found.path)
        if found.path == b"a/b/c/d":
            os.rename(tmp_path / "tree/a/b/c", tmp_path / "elsewhere")
            os.rename(tmp_path / "tree/a/b", tmp_path / "gone")
    assert paths == [b"", b"a", b"a/b", b"a/b/c", b"a/b/c/d", b"z"]
    assert [note.line for note in notes] == [
        "a/b/: folder was moved while the backup ran; its last 1 entries are left out"
    ]


def test_a_wide_folder(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for number in range(20_000):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    walked = Walked(tmp_path)
    assert len(walked.paths) == 20_001
    assert walked.paths[1:] == sorted(str(number).encode() for number in range(20_000))


def test_excludes_and_exclude_files(tmp_path: Path) -> None:
    for name in ("a/cache", "a/deep", "b"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/cache/x", "a/x.log", "a/deep/x.log", "a/deep/keep.log", "b/x.log", "b/plain"):
        (tmp_path / name).touch()
    (tmp_path / ".ibsexclude").write_text("*.log\n# comment\nnever-there\n")
    (tmp_path / "a/deep/.ibsexclude").write_text("!keep.log\r\n")
    walked = Walked(tmp_path, excludes=("cache/", "*.none"))
    kept = [b"", b".ibsexclude", b"a", b"a/deep", b"a/deep/.ibsexclude", b"a/deep/keep.log", b"b", b"b/plain"]
    assert walked.paths == kept
    assert "--exclude '*.none': exclude pattern matched nothing" in walked.warnings
    assert ".ibsexclude 'never-there': exclude pattern matched nothing" in walked.warnings
    assert len(walked.warnings) == len(set(walked.warnings))


def test_unusable_exclude_files_are_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/.ibsexclude").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "b/.ibsexclude")
    (tmp_path / "c/.ibsexclude").write_bytes(b"x" * ((1 << 20) + 1))
    (tmp_path / ".ibsexclude").write_text("\\\n")
    warnings = Walked(tmp_path).warnings
    assert len(warnings) == 3
    assert "not a valid pattern" in warnings[0]
    assert "cannot be read" in warnings[1]
    assert "over 1048576 bytes" in warnings[2]


def test_what_vanishes_costs_one_warning(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-file").touch()
    notes: list[Note] = []
    paths = []
    for found in TreeScan(os.fsencode(tmp_path), note=notes.append):
        paths.append(found.path)
        if found.path == b"a":
            (tmp_path / "b-file").unlink()
            (tmp_path / "c").rmdir()
            (tmp_path / "d").rmdir()
            (tmp_path / "d").symlink_to("/etc")
    assert paths == [b"", b"a", b"a-file", b"b", b"c-file", b"d", b"d-file"]
    assert sorted(note.subject for note in notes) == ["b-file", "c"]
    assert all("vanished" in note.text for note in notes)


def test_unreadable_folders_are_kept_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut/in").mkdir(parents=True)
    (tmp_path / "z").touch()
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path == b"shut":
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    notes: list[Note] = []
    found = {one.path: one for one in TreeScan(os.fsencode(tmp_path), note=notes.append)}
    assert set(found) == {b"", b"shut", b"z"}
    assert not found[b"shut"].listed
    assert [note.line for note in notes] == ["shut: folder cannot be listed: Permission denied; kept empty"]


def test_roots_that_cannot_be_walked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a folder"):
        Walked(tmp_path / "file")
    with pytest.raises(SourceUnreadable, match="No such file"):
        Walked(tmp_path / "none")
    with pytest.raises(UsageError, match="not a valid pattern"):
        Walked(tmp_path, excludes=("\\",))


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").touch()
    (tmp_path / "link").symlink_to("real")
    assert Walked(tmp_path / "link").paths == [b"", b"x"]


def test_a_walk_given_up_closes_what_it_opened(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    scan = TreeScan(os.fsencode(tmp_path), note=lambda _: None)
    entries = iter(scan)
    first: list[Found] = [next(entries) for _ in range(4)]
    assert first[-1].path == b"a/b/c"
    scan.close()
    scan.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_mount_points_are_kept_empty_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "none", tmp_path / "mounted"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        (tmp_path / "mounted/x").touch()
        (tmp_path / "z").touch()
        assert Walked(tmp_path).paths == [b"", b"mounted", b"z"]
        assert Walked(tmp_path, all_file_systems=True).paths == [b"", b"mounted", b"mounted/x", b"z"]
        found = {one.path: one for one in TreeScan(os.fsencode(tmp_path), note=lambda _: None, all_file_systems=True)}
        assert found[b"mounted/x"].file_system.id != found[b"z"].file_system.id
    finally:
        subprocess.run(["umount", tmp_path / "mounted"], check=True)


def test_views_of_the_kernel_do_not_block(tmp_path: Path) -> None:
    scan = TreeScan(b"/proc/self", note=lambda _: None, all_file_systems=True)
    kinds = {found.kind: found.file_system.pseudo for found in scan}
    assert kinds[Kind.FILE]
