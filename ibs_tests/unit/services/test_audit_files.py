"""Files of the audit log: rotation, torn ends, a full disk, and what a check finds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ibs.core import audit, limits
from ibs.core.audit import AuditRow, Link
from ibs.errors import FailedError, NoSpace
from ibs.services.audit_files import RESERVE, AuditFiles


def write(files: AuditFiles, link: Link, count: int) -> Link:
    for _ in range(count):
        row = AuditRow(
            n=link.n + 1, time="2026-01-01T00:00:00Z", auth_id="", peer="", action="x", target="/", outcome="ok"
        )
        line, link = audit.encode(row, link)
        files.append([line])
    return link


def test_rotation_keeps_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUDIT_FILE_BYTES", 400)
    files = AuditFiles(tmp_path / "audit")
    link = write(files, files.open(), 7)
    assert len(files.paths()) > 2
    again = AuditFiles(tmp_path / "audit")
    assert again.open() == link
    assert again.check(link).ok
    files.paths()[1].unlink()
    found = again.check(link)
    assert not found.ok
    assert "rows are missing" in found.problem


def test_a_torn_last_line_is_cut_away(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path)
    link = write(files, files.open(), 2)
    with files.paths()[0].open("ab") as file:
        file.write(b'{"n":3,"torn')
    again = AuditFiles(tmp_path)
    assert again.open() == link
    assert again.check(write(again, link, 1)).rows == 3


def test_rows_cut_off_at_the_end_are_missed(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path)
    link = write(files, files.open(), 3)
    path = files.paths()[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    found = files.check(link)
    assert (found.ok, found.rows, found.problem) == (False, 1, "rows 2 to 3 are missing at the end")


def test_a_full_disk_takes_the_reserve_and_then_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = AuditFiles(tmp_path)
    link = write(files, files.open(), 1)
    files.keep_reserve()
    real, full = os.write, [True]

    def no_space(descriptor: int, content: bytes) -> int:
        if full and (not (tmp_path / RESERVE).exists()) < full[0]:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", no_space)
    link = write(files, link, 1)
    assert not (tmp_path / RESERVE).exists()
    full[0] = 2  # type: ignore[call-overload]
    with pytest.raises(NoSpace):
        write(files, link, 1)
    monkeypatch.setattr(os, "write", real)
    assert files.check(link).ok


def test_no_reserve_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = AuditFiles(tmp_path)
    files.open()

    def refuse(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(NoSpace):
        files.keep_reserve()
    assert not (tmp_path / RESERVE).exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedError, match="cannot be kept"):
        AuditFiles(tmp_path / "file" / "audit").open()


def test_finding(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path)
    write(files, files.open(), 3)
    assert [row.n for row, _hash in files.find({}, 2)] == [3, 2]
    assert files.find({"action": "nothing"}, 2) == []
    found = files.row(2)
    assert found is not None
    assert found[0].n == 2
    assert files.row(9) is None
