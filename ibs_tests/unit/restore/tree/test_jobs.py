"""What a job leaves undone as long as it has not run."""

from __future__ import annotations

from ibs.core.tree import Entry, Extent, Kind
from ibs.restore.tree.folders import TargetFolder
from ibs.restore.tree.jobs import BatchJob, BigFile, Item, LinkJob, SpanJob, entry_bytes, paths_of

FOLDER = TargetFolder(None, b"", None)


def item(path: bytes) -> Item:
    return Item(Entry(path=path, kind=Kind.FILE), FOLDER, [])


def test_paths_of_every_kind_of_job() -> None:
    assert paths_of(BatchJob([item(b"a"), item(b"b")])) == [b"a", b"b"]
    assert paths_of(LinkJob([item(b"c")])) == [b"c"]
    assert paths_of(SpanJob(BigFile(item(b"d").entry, FOLDER), [], {}, 0)) == [b"d"]


def test_what_makes_an_entry_large() -> None:
    small = Entry(path=b"x" * 10, kind=Kind.FILE, xattrs=((b"user.a", b"12"),))
    assert entry_bytes(small) == 18
    many = Entry(path=b"", kind=Kind.FILE, extents=(Extent(b"", 0, 1),) * 1000, ranges=((0, 1),) * 10)
    assert entry_bytes(many) > 100_000


def test_a_big_file_waits_for_its_planner() -> None:
    assert BigFile(item(b"d").entry, FOLDER).open_spans == 1
