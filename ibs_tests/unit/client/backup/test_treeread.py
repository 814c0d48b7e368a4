"""Reading files: what holds still is whole, what does not is kept as far as it was read and told once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ibs.core.tree import Entry
from ibs.runtime.clock import ManualClock
from ibs_tests.support.backups import CountingFiles, MemoryServer, back_up, differences

LARGE = 9_000_000


async def one_backup(
    root: Path, during: Callable[[bytes], None] | None = None, files: CountingFiles | None = None
) -> tuple[dict[bytes, Entry], dict[bytes, bytes], list[str], MemoryServer]:
    server = MemoryServer()
    outcome, transport = await back_up(server, root, files=files or CountingFiles(during))
    lines = [line.text for line in transport.lines]
    assert outcome.status == ("WARNING" if lines else "OK")
    assert len(lines) == outcome.warnings
    return {entry.path: entry for entry in server.entries("data.tree")}, server.files("data.tree"), lines, server


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_a_file_that_grows_is_kept_as_it_was(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "log").write_bytes(content)
    (tmp_path / "other").write_bytes(b"other")

    def append(name: bytes) -> None:
        if name == b"log":
            with (tmp_path / "log").open("ab") as file:
                file.write(b"more")

    entries, files, lines, server = await one_backup(tmp_path, append)
    assert lines == ["log: changed while it was read; the changed copy is kept"]
    assert entries[b"log"].incomplete
    got = files[b"log"]
    assert got[:size] == content
    assert set(got[size:]) <= set(b"more")
    assert files[b"other"] == b"other"
    # An incomplete entry is never taken over, although the file holds still by now.
    again = CountingFiles()
    await back_up(server, tmp_path, files=again)
    assert again.opened == [b"log"]
    assert differences(server, tmp_path) == []


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_a_file_that_shrinks_is_kept_as_far_as_it_goes(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    left = [size]

    def truncate(name: bytes) -> None:
        left[0] = max(left[0] // 2, 100)
        os.truncate(tmp_path / "f", left[0])

    entries, files, lines, _ = await one_backup(tmp_path, truncate)
    assert len(lines) == 1
    assert "changed while it was read" in lines[0]
    assert entries[b"f"].incomplete
    assert files[b"f"] == content[: entries[b"f"].size]
    assert entries[b"f"].size > 0


async def test_a_small_file_that_changed_once_is_simply_read_again(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"first version")
    changed: list[bytes] = []

    def rewrite(name: bytes) -> None:
        if not changed:
            changed.append(name)
            (tmp_path / "f").write_bytes(b"second")

    entries, files, lines, _ = await one_backup(tmp_path, rewrite)
    assert (files[b"f"], lines, entries[b"f"].incomplete) == (b"second", [], False)


async def test_a_file_replaced_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old" * 100)
    (tmp_path / "new").write_bytes(b"new" * 50)

    def replace(name: bytes) -> None:
        if name == b"f" and (tmp_path / "new").exists():
            os.rename(tmp_path / "new", tmp_path / "f")

    entries, files, lines, _ = await one_backup(tmp_path, replace)
    assert files[b"f"] in (b"old" * 100, b"new" * 50)
    assert set(entries) == {b"", b"f"}
    assert lines == ["new: vanished while the backup ran; left out"]


class Refusing(CountingFiles):
    """Fails to open, or to read, files whose names say so."""

    def open(self, folder_fd: int, name: bytes, owner: int) -> int:
        if name.startswith(b"gone"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if name.startswith(b"secret"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().open(folder_fd, name, owner)

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        if self._names[fd].startswith(b"broken") and offset >= self.good(fd):
            raise OSError(errno.EIO, "Input/output error")
        return super().read(fd, view, offset)

    def good(self, fd: int) -> int:
        return 4 << 20 if b"large" in self._names[fd] else 0


async def test_what_cannot_be_opened_is_left_out(tmp_path: Path) -> None:
    for name in ("gone", "kept", "secret"):
        (tmp_path / name).write_bytes(b"x" * 100)
    entries, files, lines, _ = await one_backup(tmp_path, files=Refusing())
    assert lines == [
        "gone: vanished while the backup ran; left out",
        "secret: cannot be read: Permission denied; left out",
    ]
    assert set(entries) == {b"", b"kept"}
    assert files[b"kept"] == b"x" * 100


async def test_what_fails_half_way_is_kept_as_far_as_it_was_read(tmp_path: Path) -> None:
    content = os.urandom(LARGE)
    (tmp_path / "broken-large").write_bytes(content)
    (tmp_path / "broken-small").write_bytes(b"x" * 100)
    (tmp_path / "z").write_bytes(b"whole")
    entries, files, lines, _ = await one_backup(tmp_path, files=Refusing())
    assert len(lines) == 2
    assert all("failed while it was read: Input/output error" in line for line in lines)
    assert files[b"broken-large"] == content[: 4 << 20]
    assert files[b"broken-small"] == b""
    assert entries[b"broken-large"].incomplete
    assert entries[b"broken-small"].incomplete
    assert files[b"z"] == b"whole"
    assert not entries[b"z"].incomplete


@pytest.mark.parametrize("size", [600_000, 40 << 20])
async def test_sparse_files_keep_their_holes(tmp_path: Path, size: int) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(size)
        for offset in (0, size // 2, size - 5000):
            file.seek(offset)
            file.write(os.urandom(5000))
    server = MemoryServer()
    outcome, _ = await back_up(server, tmp_path)
    assert differences(server, tmp_path) == []
    (entry,) = [entry for entry in server.entries("data.tree") if entry.path == b"f"]
    assert len(entry.ranges) == 3
    assert outcome.bytes_read < 50_000


async def test_a_sparse_file_cut_while_it_is_read(tmp_path: Path) -> None:
    size = 20 << 20
    with (tmp_path / "f").open("wb") as file:
        file.truncate(size)
        for offset in (1 << 20, 10 << 20):
            file.seek(offset)
            file.write(b"x" * 8192)

    def cut(_name: bytes) -> None:
        os.truncate(tmp_path / "f", 2 << 20)

    entries, files, lines, _ = await one_backup(tmp_path, cut)
    assert len(lines) == 1
    assert entries[b"f"].incomplete
    assert files[b"f"] == bytes(1 << 20) + b"x" * 8192


async def test_files_of_every_size_around_the_limits(tmp_path: Path) -> None:
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 4 << 20, (16 << 20) - 1, (16 << 20) + 1):
        (tmp_path / f"f{size}").write_bytes(os.urandom(min(size, 1000)) * -(-size // 1000))
        os.truncate(tmp_path / f"f{size}", size)
    server = MemoryServer()
    outcome, _ = await back_up(server, tmp_path)
    assert differences(server, tmp_path) == []
    assert outcome.warnings == 0


async def test_files_without_permission(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "f").chmod(0)
    entries, _, lines, _ = await one_backup(tmp_path)
    if os.geteuid() == 0:
        assert (b"f" in entries, lines) == (True, [])
    else:
        assert (b"f" in entries, lines) == (False, ["f: cannot be read: Permission denied; left out"])


async def test_times_in_the_future_are_racy(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    server = MemoryServer()
    await back_up(server, tmp_path, clock=ManualClock())
    assert all(entry.racy for entry in server.entries("data.tree"))
