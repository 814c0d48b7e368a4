"""Drafts become entries once their chunks have ids."""

from __future__ import annotations

import os
from pathlib import Path

from ibs.client.backup.items import Batch, ChunkRef, Draft, Job, make_entry
from ibs.core.tree import Extent, Kind, check_entry


def test_a_draft_becomes_a_valid_entry(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    st = os.stat(tmp_path / "f")
    draft = Draft(b"f", st, b"s" * 16, 1, ((b"user.a", b""),))
    one, two = ChunkRef(memoryview(b"y" * 70), None), ChunkRef(memoryview(b"z" * 60), None)
    draft.spans = [(one, 0, 70), (two, 10, 30)]
    one.id, two.id = b"1" * 32, b"2" * 32
    entry = draft.entry()
    check_entry(entry)
    assert entry.extents == (Extent(one.id, 0, 70), Extent(two.id, 10, 30))
    assert (entry.kind, entry.size, entry.racy, entry.xattrs) == (Kind.FILE, 100, True, ((b"user.a", b""),))
    assert (entry.mtime_ns, entry.inode, entry.mode) == (st.st_mtime_ns, st.st_ino, st.st_mode & 0o7777)


def test_other_kinds(tmp_path: Path) -> None:
    entry = make_entry(b"l", Kind.SYMLINK, os.stat(tmp_path), b"s" * 16, 0, (), link=b"target")
    check_entry(entry)
    assert (entry.size, entry.link) == (0, b"target")


def test_requests_and_jobs() -> None:
    batch = Batch([], [], chunk=b"c" * 32)
    assert (batch.chunk, batch.segment) == (b"c" * 32, False)
    assert Job([]).last == -1
    assert Job([], zero={4: b"z"}).zero == {4: b"z"}
