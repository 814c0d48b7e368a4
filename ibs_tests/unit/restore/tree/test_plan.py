"""Entries become jobs: bounded, in order, with their folders made before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.tree import FLAG_INCOMPLETE, Entry, Extent, Kind
from ibs.errors import FormatError
from ibs.restore.tree.folders import Overwrite
from ibs.restore.tree.jobs import BatchJob, LinkJob, SpanJob
from ibs_tests.support.restores import SyncRestore, folder
from ibs_tests.support.users import public_folder

ROOT = folder(b"")


@pytest.fixture
def deep_folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def test_small_files_travel_together(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    entries = [restore.file(b"f%05d" % number, b"%d" % number) for number in range(1200)]
    jobs = [*restore.planner.plan([ROOT, *entries]), *restore.planner.finish()]
    assert [len(job.items) for job in jobs if isinstance(job, BatchJob)] == [512, 512, 176]
    restore.root.close()


def test_a_batch_is_bounded_in_bytes_and_in_chunks(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    mib = limits.MIB
    big_chunks = [restore.chunk(os.urandom(4 * mib)) for _ in range(12)]
    scattered = [
        Entry(path=b"s%02d" % number, kind=Kind.FILE, size=1, extents=(Extent(chunk, 5, 1),))
        for number, chunk in enumerate(big_chunks)
    ]
    packed = [
        Entry(path=b"t%02d" % number, kind=Kind.FILE, size=mib, extents=(Extent(big_chunks[0], 0, mib),))
        for number in range(20)
    ]
    jobs = [*restore.planner.plan([ROOT, *scattered, *packed]), *restore.planner.finish()]
    for job in jobs:
        assert isinstance(job, BatchJob)
        assert sum(job.chunks.values()) <= limits.RESTORE_JOB_CHUNK_BYTES
        assert job.data_bytes <= limits.RESTORE_JOB_BYTES
    assert sum(len(job.items) for job in jobs if isinstance(job, BatchJob)) == 32
    restore.root.close()


def test_long_names_do_not_pile_up(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    attributes = ((b"user.big", b"x" * 200_000),)
    entries = [restore.file(b"f%03d" % number, b"x", xattrs=attributes) for number in range(60)]
    links = [Entry(path=b"l%03d" % number, kind=Kind.HARDLINK, link=b"x" * 200_000) for number in range(60)]
    jobs = [*restore.planner.plan([ROOT, *entries, *links]), *restore.planner.finish()]
    assert len(jobs) > 15
    assert all(len(job.items) <= 6 for job in jobs if not isinstance(job, SpanJob))
    restore.root.close()


def test_one_file_over_many_chunks_is_cut_into_spans(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    chunks = [restore.chunk(os.urandom(4 * limits.MIB)) for _ in range(6)]
    # Two bytes of each: little data, but no window could hold all of it.
    extents = tuple(Extent(chunk, 7, 2) for chunk in chunks)
    entry = Entry(path=b"f", kind=Kind.FILE, mode=0o644, size=12, extents=extents)
    jobs = list(restore.planner.plan([ROOT, entry]))
    assert [type(job) for job in jobs] == [SpanJob, SpanJob]
    for job in jobs:
        assert isinstance(job, SpanJob)
        assert sum(job.chunks.values()) <= limits.RESTORE_JOB_CHUNK_BYTES
        restore.writer.run_span(job, restore.chunks)
    assert (tmp_path / "f").stat().st_size == 12
    restore.run()


def test_folders_are_there_before_the_job_is_given_out(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    plan = restore.planner.plan([ROOT, folder(b"a"), folder(b"a/b"), restore.file(b"a/b/f", b"x"), folder(b"c")])
    list(plan)
    assert (tmp_path / "a" / "b").is_dir()
    assert restore.planner.waiting() == [b"a/b/f"]
    assert restore.planner.last_path == b"c"
    restore.run()


def test_links_come_after_everything_before_them(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    entries = [
        ROOT,
        restore.file(b"a", b"x"),
        Entry(path=b"b", kind=Kind.HARDLINK, link=b"a"),
        restore.file(b"c", b"y"),
    ]
    jobs = [*restore.planner.plan(entries), *restore.planner.finish()]
    assert [type(job) for job in jobs] == [BatchJob, LinkJob]
    restore.root.close()


BAD = [
    b"..",
    b".",
    b"../x",
    b"a/../x",
    b"/etc/x",
    b"a//x",
    b"x\0y",
    b"a/./x",
    b"none/x",
    b"f/x",
    b"a/",
    b"//",
]


@pytest.mark.parametrize("path", BAD)
@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIR, Kind.SYMLINK, Kind.FIFO])
def test_paths_that_lead_out_are_lost_not_made(tmp_path: Path, path: bytes, kind: Kind) -> None:
    restore = SyncRestore(str(tmp_path / "t"))
    bad = Entry(path=path, kind=kind, mode=0o644, link=b"/etc" if kind is Kind.SYMLINK else b"")
    reasons = restore.run(ROOT, folder(b"a"), bad, restore.file(b"f", b"x"))
    assert list(reasons) == ["malformed"]
    assert os.listdir(tmp_path) == ["t"]
    assert sorted(os.listdir(tmp_path / "t")) == ["a", "f"]


def test_what_lies_below_a_bad_folder_is_lost_with_it(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path / "t"))
    reasons = restore.run(ROOT, folder(b".."), restore.file(b"../x", b"x"), folder(b"../etc"), restore.file(b"g", b"y"))
    assert reasons == {"malformed": ["..", "../x", "../etc"]}
    assert os.listdir(tmp_path / "t") == ["g"]
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK])
def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, kind: Kind) -> None:
    restore = SyncRestore(str(tmp_path))
    with pytest.raises(FormatError, match="root of the archive"):
        restore.run(Entry(path=b"", kind=kind))


def test_a_chunk_the_index_does_not_list_loses_the_file_only(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    bad = Entry(path=b"b", kind=Kind.FILE, size=1, extents=(Extent(b"?" * 32, 0, 1),))
    assert restore.run(ROOT, restore.file(b"a", b"x"), bad) == {"malformed": ["b"]}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("extents", "ranges", "size"),
    [
        (((0, 0, 4),), ((0, 4), (2, 4)), 8),
        (((0, 0, 2),), (), 4),
        (((0, 0, 4), (0, 0, 4)), (), 4),
        (((0, 0, 4),), ((6, 4),), 8),
    ],
)
def test_data_that_does_not_add_up_loses_the_file_only(
    tmp_path: Path, extents: tuple[tuple[int, int, int], ...], ranges: tuple[tuple[int, int], ...], size: int
) -> None:
    restore = SyncRestore(str(tmp_path))
    chunk = restore.chunk(b"data")
    bad = Entry(
        path=b"b",
        kind=Kind.FILE,
        size=size,
        extents=tuple(Extent(chunk, offset, length) for _, offset, length in extents),
        ranges=ranges,
    )
    assert restore.run(ROOT, restore.file(b"a", b"x"), bad, restore.file(b"c", b"x")) == {"malformed": ["b"]}
    assert sorted(os.listdir(tmp_path)) == ["a", "c"]


# --- patterns ---


def sample(restore: SyncRestore) -> list[Entry]:
    return [
        folder(b"", mode=0o711),
        folder(b"etc", mode=0o750),
        restore.file(b"etc/a.conf", b"a"),
        folder(b"etc/deep", mode=0o710),
        folder(b"etc/deep/er", mode=0o700),
        restore.file(b"etc/deep/er/b.conf", b"b"),
        restore.file(b"etc/deep/er/c.txt", b"c"),
        folder(b"var"),
        restore.file(b"var/d.txt", b"d"),
    ]


def made(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_only_what_is_selected_with_the_folders_above_it(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path), patterns=["etc/deep/er/*.conf"])
    restore.run(*sample(restore))
    assert made(tmp_path) == ["etc", "etc/deep", "etc/deep/er", "etc/deep/er/b.conf"]
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "etc" / "deep").stat().st_mode) == 0o710
    assert (tmp_path / "etc").stat().st_mtime_ns == 10**18
    assert stat.S_IMODE(tmp_path.stat().st_mode) != 0o711  # the target itself was not asked for
    assert restore.planner.selected == 1


def test_a_selected_folder_comes_whole_even_when_empty(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path), patterns=["var", "etc/deep"])
    restore.run(*sample(restore), folder(b"w"))
    assert made(tmp_path) == [
        "etc", "etc/deep", "etc/deep/er", "etc/deep/er/b.conf", "etc/deep/er/c.txt", "var", "var/d.txt",
    ]  # fmt: skip


def test_existing_parents_keep_their_metadata(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(mode=0o777)
    (tmp_path / "etc").chmod(0o777)
    restore = SyncRestore(str(tmp_path), patterns=["etc/a.conf"], fresh=False, overwrite=Overwrite.ALWAYS)
    restore.run(*sample(restore))
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o777


def test_reading_may_begin_below_the_root(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path), patterns=["etc/deep/er"])
    entries = sample(restore)
    restore.planner.place_ancestors([entries[0], entries[1], entries[3]])
    restore.run(*entries[4:7])
    assert made(tmp_path) == ["etc", "etc/deep", "etc/deep/er", "etc/deep/er/b.conf", "etc/deep/er/c.txt"]
    assert stat.S_IMODE((tmp_path / "etc" / "deep").stat().st_mode) == 0o710


def test_ancestors_must_be_folders(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    with pytest.raises(FormatError):
        restore.planner.place_ancestors([ROOT, restore.file(b"a", b"x")])
    restore.root.close()


def test_the_name_of_the_marker_is_reserved_in_the_root_only(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    name = b".ibs-restore-incomplete"
    reasons = restore.run(ROOT, restore.file(name, b"x"), folder(b"d"), restore.file(b"d/" + name, b"x"))
    assert reasons == {"not-created": [".ibs-restore-incomplete"]}
    assert made(tmp_path) == ["d", "d/.ibs-restore-incomplete"]


def test_entries_the_backup_could_not_read_in_full_are_noted(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    assert restore.run(ROOT, restore.file(b"a", b"x", flags=FLAG_INCOMPLETE)) == {"incomplete-in-backup": ["a"]}
    assert (tmp_path / "a").exists()


def test_a_copy_of_a_big_file_is_planned_beside_the_stream(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    list(restore.planner.plan([ROOT]))
    top = restore.planner._top
    assert top is not None
    data = os.urandom(limits.CHUNK_PLAIN_BYTES_MAX)
    extents = (Extent(restore.chunk(data), 0, len(data)),) * 3
    restore.keeper.hold(top)
    for job in restore.planner.plan_copy(Entry(path=b"big", kind=Kind.FILE, size=3 * len(data), extents=extents), top):
        assert isinstance(job, SpanJob)
        restore.writer.run_span(job, restore.chunks)
    restore.keeper.hold(top)
    for job in restore.planner.plan_copy(restore.file(b"small", b"x"), top):
        assert isinstance(job, BatchJob)
        restore.writer.run_batch(job, restore.chunks)
    restore.keeper.hold(top)
    broken = Entry(path=b"broken", kind=Kind.FILE, size=1, extents=extents)
    assert list(restore.planner.plan_copy(broken, top)) == []
    restore.run()
    assert sorted(os.listdir(tmp_path)) == ["big", "small"]
    assert top.pending == 0


def test_a_thousand_levels_and_back(deep_folder: Path) -> None:
    restore = SyncRestore(str(deep_folder))
    entries = [ROOT]
    path = b""
    for _ in range(1500):
        path = path + b"/deep" if path else b"deep"
        entries.append(folder(path, mode=0o700))
    entries.append(restore.file(path + b"/leaf", b"bottom"))
    assert restore.run(*entries) == {}
    assert restore.report.counts.folders == 1500
