"""How a tree restore goes about it: in windows, in order where it matters, with few thread jobs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from ibs.client.restore import fetch
from ibs.client.restore.fetch import ChunkFetcher
from ibs.client.restore.plan import RestorePlan
from ibs.client.restore.run import run_restore
from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind
from ibs.restore.tree.marker import MARKER_NAME
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs_tests.support.restores import CLOCK, SNAPSHOT, STORE, MemorySnapshot, MemoryTransport, folder
from ibs_tests.support.treecmp import look_at, tree_differences
from ibs_tests.support.trees import many_files
from ibs_tests.support.users import public_folder

T = TypeVar("T")
OWN = {"uid": os.geteuid(), "gid": os.getegid()}


def plan(target: Path, **changes: object) -> RestorePlan:
    return RestorePlan(store=STORE, snapshot=SNAPSHOT, archive="a.tree", target=str(target), **changes)  # type: ignore[arg-type]


class CountingPool(InlinePool):
    """Counts the jobs a real pool would have run in threads."""

    def __init__(self) -> None:
        self.jobs = 0

    async def disk(self, work: Callable[..., T], *args: object) -> T:
        self.jobs += 1
        return await super().disk(work, *args)

    async def cpu(self, work: Callable[..., T], *args: object) -> T:
        self.jobs += 1
        return await super().cpu(work, *args)


async def test_few_thread_jobs_for_many_small_files(tmp_path: Path) -> None:
    many_files(tmp_path / "source", seed=1, count=3000, size_max=500)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    pool = CountingPool()
    await run_restore(snapshot.transport(), plan(tmp_path / "t"), pool=pool, clock=CLOCK)
    assert pool.jobs < 60
    assert tree_differences(str(tmp_path / "source"), str(tmp_path / "t")) == []


async def test_what_is_held_stays_within_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTORE_JOB_BYTES", 512 * 1024)
    monkeypatch.setattr(limits, "RESTORE_JOB_CHUNK_BYTES", 512 * 1024)
    held: list[int] = []
    real_init, real_lease = ChunkFetcher.__init__, ChunkFetcher.lease

    def init(self: ChunkFetcher, *args: object, **more: object) -> None:
        real_init(self, *args, **more, window_bytes=2 << 20, cache_bytes=1 << 20)  # type: ignore[arg-type]

    async def lease(self: ChunkFetcher, chunks: dict[bytes, int]) -> fetch.Lease:
        given = await real_lease(self, chunks)
        held.append(self._held_bytes)
        assert self._idle_bytes <= 1 << 20
        return given

    monkeypatch.setattr(ChunkFetcher, "__init__", init)
    monkeypatch.setattr(ChunkFetcher, "lease", lease)
    (tmp_path / "source").mkdir()
    for number in range(6):
        (tmp_path / "source" / str(number)).write_bytes(os.urandom(3 << 20))
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    await run_restore(snapshot.transport(), plan(tmp_path / "t"), pool=ThreadPool(), clock=CLOCK)
    assert 1 << 20 < max(held) <= 2 << 20
    assert tree_differences(str(tmp_path / "source"), str(tmp_path / "t")) == []


async def test_a_hard_link_waits_for_a_big_file_before_it(tmp_path: Path) -> None:
    snapshot = MemorySnapshot(cut=4 << 20)
    data = os.urandom(20 << 20)
    entries = [
        folder(b""),
        Entry(path=b"big", kind=Kind.FILE, mode=0o600, size=len(data), extents=snapshot.extents(data), **OWN),
        *(Entry(path=b"link%03d" % number, kind=Kind.HARDLINK, link=b"big") for number in range(600)),
        Entry(path=b"small", kind=Kind.FILE, mode=0o600, size=5, extents=snapshot.extents(b"small"), **OWN),
    ]
    snapshot.add_tree("a.tree", entries)
    outcome = await run_restore(snapshot.transport(), plan(tmp_path / "t"), pool=ThreadPool(), clock=CLOCK)
    assert outcome.status == "OK"
    assert (tmp_path / "t" / "big").stat().st_nlink == 601
    assert (tmp_path / "t" / "link599").read_bytes() == data


async def test_the_same_chunk_for_a_thousand_files_comes_once(tmp_path: Path) -> None:
    snapshot = MemorySnapshot()
    data = os.urandom(200_000)
    chunk = snapshot.chunk(data)
    files = [
        Entry(path=b"f%04d" % number, kind=Kind.FILE, mode=0o600, size=9, extents=(Extent(chunk, number, 9),), **OWN)
        for number in range(1500)
    ]
    snapshot.add_tree("a.tree", [folder(b""), *files])
    transport = snapshot.transport()
    await run_restore(transport, plan(tmp_path / "t"), pool=InlinePool(), clock=CLOCK)
    assert transport.fetched.count(chunk) == 1
    assert (tmp_path / "t" / "f1499").read_bytes() == data[1499:1508]


async def test_the_mark_is_there_as_long_as_anything_is_missing(tmp_path: Path) -> None:
    marks: list[bool] = []

    class Looking(MemoryTransport):
        async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
            marks.append((tmp_path / "t" / os.fsdecode(MARKER_NAME)).exists())
            return await super().fetch(ids)

    snapshot = MemorySnapshot()
    entry = Entry(path=b"f", kind=Kind.FILE, mode=0o600, size=100, extents=snapshot.extents(b"x" * 100))
    snapshot.add_tree("a.tree", [folder(b""), entry])
    await run_restore(Looking(snapshot), plan(tmp_path / "t"), pool=InlinePool(), clock=CLOCK)
    assert marks
    assert all(marks)
    assert os.listdir(tmp_path / "t") == ["f"]


async def test_the_target_itself_gets_the_metadata_of_the_root(tmp_path: Path) -> None:
    snapshot = MemorySnapshot()
    snapshot.add_tree("a.tree", [folder(b"", mode=0o751, mtime_ns=123_456_789_012_345_678)])
    await run_restore(snapshot.transport(), plan(tmp_path / "t"), pool=InlinePool(), clock=CLOCK)
    found = (tmp_path / "t").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o751, 123_456_789_012_345_678)


async def test_deeper_than_any_path_the_kernel_takes() -> None:
    snapshot = MemorySnapshot()
    entries, path = [folder(b"")], b""
    for number in range(1300):
        path = path + b"/folder" if path else b"folder"
        entries.append(folder(path, mode=0o755 if number % 2 else 0o500))
    entries.append(
        Entry(path=path + b"/leaf", kind=Kind.FILE, mode=0o640, size=6, extents=snapshot.extents(b"bottom"), **OWN)
    )
    snapshot.add_tree("a.tree", entries)
    with public_folder() as target:
        await run_restore(snapshot.transport(), plan(target), pool=ThreadPool(), clock=CLOCK)
        found = look_at(str(target)).entries
        subprocess.run(["chmod", "-R", "u+w", target], check=True)
    assert set(found) == {entry.path for entry in entries}
    assert all(found[entry.path].mode == entry.mode for entry in entries)
    assert all(found[entry.path].mtime_ns == entry.mtime_ns for entry in entries)
