from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from ibs.errors import BusyError, DatastoreOffline, DatastoreReadOnly, FailedError, IbsError, NoSpace
from ibs.storage.local import trouble


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EROFS, DatastoreReadOnly),
        (errno.ESTALE, DatastoreOffline),
        (errno.ENOTCONN, DatastoreOffline),
        (errno.EACCES, DatastoreOffline),
        (errno.EMFILE, BusyError),
        (errno.EIO, FailedError),
        (errno.ENOTDIR, FailedError),
    ],
)
def test_each_kernel_error_has_its_words(code: int, kind: type[IbsError]) -> None:
    error = trouble.translate(OSError(code, os.strerror(code)), "main", "storing a chunk")
    assert type(error) is kind
    assert "main" in error.message


def test_quota_inodes_and_bytes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert trouble.exhausted(OSError(errno.EDQUOT, ""), fd) == "quota"
        assert trouble.exhausted(OSError(errno.ENOSPC, ""), fd) == "bytes"
        figures = list(os.fstatvfs(fd))
        figures[7] = 0  # f_favail
        monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result(figures))
        assert trouble.exhausted(OSError(errno.ENOSPC, ""), fd) == "inodes"
        figures[2], figures[4], figures[5], figures[7] = 1000, 900, 60, 9  # given back meanwhile, by somebody else
        assert trouble.exhausted(OSError(errno.ENOSPC, ""), fd) == "inodes"
        figures[4] = 100
        assert trouble.exhausted(OSError(errno.ENOSPC, ""), fd) == "bytes"
    finally:
        os.close(fd)
    assert trouble.exhausted(OSError(errno.ENOSPC, ""), None) == "bytes"


def test_the_border_translates_and_lets_ours_pass() -> None:
    with pytest.raises(NoSpace), trouble.border("main", "x"):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(DatastoreOffline), trouble.border("main", "x"):
        raise DatastoreOffline("main", "gone")


def test_sqlite_errors_are_translated_by_code() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (x)")
    db.execute("PRAGMA max_page_count=2")
    try:
        with pytest.raises(NoSpace), trouble.border("main", "x"):
            db.execute("INSERT INTO t VALUES (zeroblob(100000))")
        db.execute("PRAGMA query_only=1")
        with pytest.raises(DatastoreReadOnly), trouble.border("main", "x"):
            db.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(FailedError, match="chunk index"), trouble.border("main", "x"):
            db.execute("nonsense")
    finally:
        db.close()
    assert not trouble.is_full(sqlite3.ProgrammingError("closed"))
