"""What a job leaves undone as long as it has not run."""

from __future__ import annotations

from ibs.core.tree import Entry, Kind
from ibs.restore.tree.folders import TargetFolder
from ibs.restore.tree.jobs import BatchJob, BigFile, Item, LinkJob, SpanJob, paths_of

FOLDER = TargetFolder(None, b"", None)


def item(path: bytes) -> Item:
    return Item(Entry(path=path, kind=Kind.FILE), FOLDER, [])


def test_paths_of_every_kind_of_job() -> None:
    assert paths_of(BatchJob([item(b"a"), item(b"b")])) == [b"a", b"b"]
    assert paths_of(LinkJob([item(b"c")])) == [b"c"]
    assert paths_of(SpanJob(BigFile(item(b"d").entry, FOLDER), [], {}, 0)) == [b"d"]


def test_a_big_file_waits_for_its_planner() -> None:
    assert BigFile(item(b"d").entry, FOLDER).open_spans == 1
