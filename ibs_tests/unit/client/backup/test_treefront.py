"""Deciding what to take over: hard links, changed kinds, metadata without content, links that lead nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.tree import Entry, Kind
from ibs.errors import FormatError
from ibs_tests.support.backups import CountingFiles, MemoryServer, back_up, differences
from ibs_tests.support.trees import many_files


def by_path(server: MemoryServer) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in server.entries("data.tree")}


async def test_the_first_name_of_an_inode_stands_for_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/first").write_bytes(b"content")
    os.link(tmp_path / "b/first", tmp_path / "c")
    os.link(tmp_path / "b/first", tmp_path / "d")
    os.mkfifo(tmp_path / "fifo")
    os.link(tmp_path / "fifo", tmp_path / "fifo2")
    server = MemoryServer()
    for _ in range(2):
        await back_up(server, tmp_path)
        entries = by_path(server)
        assert [(entries[path].kind, entries[path].link) for path in (b"b/first", b"c", b"d", b"fifo", b"fifo2")] == [
            (Kind.FILE, b""),
            (Kind.HARDLINK, b"b/first"),
            (Kind.HARDLINK, b"b/first"),
            (Kind.FIFO, b""),
            (Kind.HARDLINK, b"fifo"),
        ]
        assert differences(server, tmp_path) == []
    os.link(tmp_path / "d", tmp_path / "a")
    files = CountingFiles()
    await back_up(server, tmp_path, files=files)
    assert files.opened == [b"a"]
    assert by_path(server)[b"b/first"].link == b"a"
    assert differences(server, tmp_path) == []
    (tmp_path / "a").unlink()
    await back_up(server, tmp_path)
    assert differences(server, tmp_path) == []


async def test_an_excluded_first_name_leaves_the_next_one_to_stand(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    os.link(tmp_path / "a", tmp_path / "b")
    server = MemoryServer()
    await back_up(server, tmp_path, excludes=("/a",))
    assert by_path(server)[b"b"].kind is Kind.FILE
    assert server.files("data.tree")[b"b"] == b"content"


async def test_an_unreadable_first_name_leaves_the_next_one_to_stand(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    os.link(tmp_path / "a", tmp_path / "b")

    class Refusing(CountingFiles):
        def open(self, folder_fd: int, name: bytes, owner: int) -> int:
            if name == b"a":
                raise PermissionError(13, "Permission denied")
            return super().open(folder_fd, name, owner)

    server = MemoryServer()
    await back_up(server, tmp_path, files=Refusing())
    assert by_path(server).keys() == {b"", b"b"}
    assert by_path(server)[b"b"].kind is Kind.FILE


async def test_a_path_that_became_something_else(tmp_path: Path) -> None:
    kinds = {"file": Kind.FILE, "folder": Kind.DIR, "link": Kind.SYMLINK, "fifo": Kind.FIFO}

    def make(name: str, what: str) -> None:
        path = tmp_path / name
        match what:
            case "file":
                path.write_text(what)
            case "folder":
                path.mkdir()
                (path / "in").write_text(what)
            case "link":
                path.symlink_to("anywhere")
            case _:
                os.mkfifo(path)

    server = MemoryServer()
    order = list(kinds)
    for turn in range(3):
        for number, name in enumerate(order):
            path = tmp_path / name
            if path.is_dir() and not path.is_symlink():
                (path / "in").unlink()
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            make(name, order[(number + turn) % len(order)])
        await back_up(server, tmp_path)
        assert differences(server, tmp_path) == []
        entries = by_path(server)
        for number, name in enumerate(order):
            assert entries[name.encode()].kind is kinds[order[(number + turn) % len(order)]]


async def test_metadata_alone_is_read_without_content(tmp_path: Path) -> None:
    many_files(tmp_path, seed=1, count=60)
    server = MemoryServer()
    await back_up(server, tmp_path)
    path = next(path for path in tmp_path.rglob("f*") if path.stat().st_size)
    path.chmod(0o640)
    os.setxattr(path, "user.new", b"x")
    folder = path.parent
    folder.chmod(0o711)
    await back_up(server, tmp_path)
    assert differences(server, tmp_path) == []


async def test_links_that_lead_nowhere_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dangling").symlink_to("no-such-file")
    (tmp_path / "fine").symlink_to("dangling")
    (tmp_path / "up").symlink_to("..")
    server = MemoryServer()
    for _ in range(2):  # also where the previous snapshot is taken over whole
        outcome, transport = await back_up(server, tmp_path)
        told = [line.text for line in transport.lines]
        assert told == ["dangling: symlink target is unreachable", "fine: symlink target is unreachable"]
        assert (outcome.status, outcome.warnings) == ("WARNING", 2)


async def test_many_entries_behind_one_small_file_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(tmp_path, seed=2, count=500)
    server = MemoryServer()
    await back_up(server, tmp_path)
    monkeypatch.setattr(limits, "BACKUP_HELD_ENTRIES", 50)
    monkeypatch.setattr(limits, "BACKUP_BATCH_ENTRIES", 20)
    for path in sorted(tmp_path.rglob("f*"))[::10]:
        path.write_bytes(path.name.encode())
    outcome, transport = await back_up(server, tmp_path)
    assert outcome.files_read == 50
    assert differences(server, tmp_path) == []
    # One chunk for about fifty entries that waited, and not one for every file behind them.
    assert len(transport.sent) < 20


async def test_an_old_archive_that_is_not_sound_only_costs_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(tmp_path, seed=3, count=40)
    server = MemoryServer()
    await back_up(server, tmp_path)

    def unsound(_data: bytes) -> None:
        raise FormatError("nonsense")

    monkeypatch.setattr("ibs.client.backup.previous.parse_block", unsound)
    outcome, transport = await back_up(server, tmp_path)
    assert (outcome.files_read, outcome.status) == (40, "OK")
    assert transport.sent == []
    assert any("nonsense: the previous snapshot cannot be built on further" in line.text for line in transport.lines)
    monkeypatch.undo()
    assert differences(server, tmp_path) == []


@pytest.mark.root
async def test_a_mount_point_is_an_empty_folder_twice(tmp_path: Path) -> None:
    server = MemoryServer()
    for _ in range(2):
        await back_up(server, "/dev")
        entries = by_path(server)
        assert entries[b"null"].rdev == 1 << 32 | 3
        assert entries[b"null"].kind is Kind.CHAR
        if Path("/dev/shm").is_mount():
            assert entries[b"shm"].kind is Kind.DIR
            assert not any(path.startswith(b"shm/") for path in entries)
