"""A restore from the signature to the last byte, and every way in which it can end otherwise."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from blake3 import blake3

from ibs.client.restore.plan import RestoreOutcome, RestorePlan, RestoreProgress
from ibs.client.restore.run import run_restore
from ibs.core import limits
from ibs.core.keys import DataKeys
from ibs.core.tree import Entry, Kind
from ibs.errors import (
    ChunkNotFound,
    ConflictError,
    CorruptChunk,
    DestinationNotWritable,
    FingerprintMismatch,
    FormatError,
    NotFoundError,
    ServerUnreachable,
    UsageError,
)
from ibs.ports.pool import Pool
from ibs.restore.tree.folders import Overwrite
from ibs.runtime.clock import LoopClock
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs_tests.support.restores import CLOCK, SNAPSHOT, STORE, MemorySnapshot, MemoryTransport, folder
from ibs_tests.support.treecmp import tree_differences
from ibs_tests.support.trees import make_disk, many_files, rich_tree
from ibs_tests.support.users import as_nobody, public_folder

KEYS = DataKeys.from_root(b"k" * 32)
MARKER = ".ibs-restore-incomplete"
POOLS = [InlinePool(), ThreadPool()]


def plan(target: Path | str, archive: str = "a.tree", **changes: object) -> RestorePlan:
    return RestorePlan(store=STORE, snapshot=SNAPSHOT, archive=archive, target=str(target), **changes)  # type: ignore[arg-type]


async def restore(transport: MemoryTransport, what: RestorePlan, pool: Pool | None = None) -> RestoreOutcome:
    return await run_restore(transport, what, pool=pool or InlinePool(), clock=CLOCK)


def small_tree(**changes: object) -> MemorySnapshot:
    """a, b, d/c and a hard link d/h to a."""
    snapshot = MemorySnapshot(**changes)  # type: ignore[arg-type]

    def file(path: bytes, data: bytes) -> Entry:
        return Entry(
            path=path,
            kind=Kind.FILE,
            mode=0o644,
            uid=os.geteuid(),
            gid=os.getegid(),
            mtime_ns=10**18,
            size=len(data),
            extents=snapshot.extents(data),
        )

    snapshot.add_tree(
        "a.tree",
        [
            folder(b""),
            file(b"a", b"a" * 100),
            file(b"b", b"b" * 100),
            folder(b"d"),
            file(b"d/c", b"c" * 100),
            Entry(path=b"d/h", kind=Kind.HARDLINK, link=b"a"),
        ],
    )
    return snapshot


def marker(target: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((target / MARKER).read_bytes())
    return found


def leftovers(path: Path) -> list[str]:
    return [name for _, _, names in os.walk(path) for name in names if name.endswith(".tmp")]


# --- all goes well ---


@pytest.mark.parametrize("keys", [None, KEYS])
@pytest.mark.parametrize("pool", POOLS)
async def test_everything_a_file_system_holds_comes_back(tmp_path: Path, keys: DataKeys | None, pool: Pool) -> None:
    rich_tree(tmp_path / "source")
    snapshot = MemorySnapshot(keys=keys)
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    transport = snapshot.transport()
    outcome = await restore(transport, plan(tmp_path / "target", keys=keys), pool)
    assert tree_differences(str(tmp_path / "source"), str(tmp_path / "target")) == []
    assert (outcome.status, outcome.warnings, outcome.lines) == ("OK", 0, ())
    assert outcome.signed_by == ("client" if keys else "server")
    assert transport.closed == ("OK", 0, "")
    assert set(outcome.stages) == {"fetch", "decode", "plan", "write"}


async def test_many_small_files(tmp_path: Path) -> None:
    many_files(tmp_path / "source", seed=3, count=1500, size_max=3000)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    transport = snapshot.transport()
    told: list[RestoreProgress] = []
    outcome = await run_restore(
        transport, plan(tmp_path / "target"), pool=ThreadPool(), clock=CLOCK, progress=told.append
    )
    assert tree_differences(str(tmp_path / "source"), str(tmp_path / "target")) == []
    assert told[-1].done_bytes == told[-1].total_bytes == outcome.plain_bytes
    assert len(transport.fetched) == len(set(transport.fetched))


async def test_a_big_file_in_many_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTORE_JOB_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "RESTORE_JOB_CHUNK_BYTES", 1 << 20)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(os.urandom(30 << 20))
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    await restore(snapshot.transport(), plan(tmp_path / "target"), ThreadPool())
    assert tree_differences(str(tmp_path / "source"), str(tmp_path / "target")) == []


async def test_the_newest_by_name_of_the_group(tmp_path: Path) -> None:
    what = RestorePlan(store=STORE, snapshot="host/web01", archive="a.tree", target=str(tmp_path / "t"))
    assert (await restore(small_tree().transport(), what)).snapshot == SNAPSHOT


@pytest.mark.parametrize(
    ("patterns", "expected", "links"),
    [
        (("d/c",), ["d", "d/c"], 1),
        (("**/c", "b"), ["b", "d", "d/c"], 1),
        (("d",), ["d", "d/c", "d/h"], 1),
        (("a", "d/h"), ["a", "d", "d/h"], 2),
    ],
)
async def test_patterns(tmp_path: Path, patterns: tuple[str, ...], expected: list[str], links: int) -> None:
    outcome = await restore(small_tree().transport(), plan(tmp_path / "t", patterns=patterns))
    made = sorted(str(path.relative_to(tmp_path / "t")) for path in (tmp_path / "t").rglob("*"))
    assert made == expected
    assert outcome.status == "OK"
    if "d/h" in expected:
        assert (tmp_path / "t" / "d" / "h").read_bytes() == b"a" * 100
        assert (tmp_path / "t" / "d" / "h").stat().st_nlink == links
        copied = [problem["reason"] for problem in outcome.report["problems"]] == ["hard-link-copied"]
        assert copied == (links == 1)


async def test_a_pattern_reads_only_the_part_it_can_match(tmp_path: Path) -> None:
    many_files(tmp_path / "source", seed=3, count=4000, size_max=60)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    transport = snapshot.transport()
    await restore(transport, plan(tmp_path / "t", patterns=("d079/f03999",)))
    assert len(list((tmp_path / "t").rglob("f*"))) == 1
    assert len(transport.fetched) < 12


async def test_a_pattern_that_matched_nothing_is_a_warning_beside_others(tmp_path: Path) -> None:
    transport = small_tree().transport()
    outcome = await restore(transport, plan(tmp_path / "t", patterns=("a", "none/*")))
    assert (outcome.status, outcome.warnings) == ("WARNING", 1)
    assert outcome.lines == ("warning: pattern matched nothing: 1 entry (none/*)",)
    assert transport.closed == ("WARNING", 1, "")


@pytest.mark.parametrize("patterns", [("none",), ("d/none/deeper",), ("*.none", "x/**")])
async def test_nothing_selected_is_an_error_and_leaves_no_mark(tmp_path: Path, patterns: tuple[str, ...]) -> None:
    transport = small_tree().transport()
    with pytest.raises(NotFoundError, match="nothing in the archive matches"):
        await restore(transport, plan(tmp_path / "t", patterns=patterns))
    assert os.listdir(tmp_path / "t") == []
    assert transport.closed is not None
    assert transport.closed[0] == "FAILED"


async def test_several_links_to_what_is_not_restored_share_one_copy(tmp_path: Path) -> None:
    snapshot = MemorySnapshot()
    data = os.urandom(500)
    entries = [
        folder(b""),
        Entry(path=b"a", kind=Kind.FILE, mode=0o600, size=500, extents=snapshot.extents(data)),
        folder(b"d"),
        *(Entry(path=b"d/%d" % number, kind=Kind.HARDLINK, link=b"a") for number in range(3)),
    ]
    snapshot.add_tree("a.tree", entries)
    await restore(snapshot.transport(), plan(tmp_path / "t", patterns=("d",)), ThreadPool())
    for number in range(3):
        assert (tmp_path / "t" / "d" / str(number)).read_bytes() == data
    assert (tmp_path / "t" / "d" / "0").stat().st_nlink == 3


async def test_kept_files_make_a_warning_and_are_untouched(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_text("mine")
    transport = small_tree().transport()
    outcome = await restore(transport, plan(tmp_path / "t"))
    assert outcome.status == "WARNING"
    assert (tmp_path / "t" / "a").read_text() == "mine"
    assert (tmp_path / "t" / "d" / "h").read_bytes() == b"a" * 100  # never a link to what was kept
    assert MARKER not in os.listdir(tmp_path / "t")


async def test_always_makes_it_equal(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_text("mine")
    await restore(small_tree().transport(), plan(tmp_path / "t", overwrite=Overwrite.ALWAYS))
    await restore(small_tree().transport(), plan(tmp_path / "u"))
    assert tree_differences(str(tmp_path / "u"), str(tmp_path / "t")) == []


def test_an_ordinary_user_gets_a_list_of_what_he_may_not(tmp_path: Path) -> None:
    rich_tree(tmp_path / "source")
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))

    def work() -> None:
        outcome = trio.run(restore, snapshot.transport(), plan(public / "t"))
        reasons = {problem["reason"] for problem in outcome.report["problems"]}
        if os.path.exists(tmp_path / "source" / "char"):
            assert outcome.status == "WARNING"
            assert {"owner-not-set", "device-not-created", "capability-not-set"} <= reasons
        assert reasons <= {"owner-not-set", "device-not-created", "capability-not-set", "special-bits-not-set"}
        assert (public / "t" / "large").stat().st_size == 5_500_000
        assert MARKER not in os.listdir(public / "t")

    with public_folder() as public:
        as_nobody(work)


# --- data that cannot be had ---


@pytest.mark.parametrize("pool", POOLS)
async def test_a_corrupt_chunk_names_chunk_file_and_snapshot(tmp_path: Path, pool: Pool) -> None:
    snapshot = small_tree()
    (bad,) = snapshot_ids(snapshot, b"b" * 100)
    snapshot.blobs[bad] = snapshot.blobs[bad][:-1] + b"?"
    transport = snapshot.transport()
    with pytest.raises(CorruptChunk) as caught:
        await restore(transport, plan(tmp_path / "t"), pool)
    error = caught.value
    for named in (bad.hex(), "needed by b of a.tree", SNAPSHOT):
        assert named in error.message
    assert error.details["file"] == "b"
    assert MARKER in error.hint
    # Everything else is there, and the target says what is missing.
    assert sorted(os.listdir(tmp_path / "t")) == [MARKER, "a", "d"]
    found = marker(tmp_path / "t")
    assert isinstance(found["missing"], list)
    assert [each["path"] for each in found["missing"]] == ["b"]
    assert found["everything_after"] == ""
    assert transport.closed is not None
    assert transport.closed[0] == "FAILED"


def snapshot_ids(snapshot: MemorySnapshot, *contents: bytes) -> list[bytes]:
    return [next(each for each, data in snapshot.plain.items() if data == content) for content in contents]


async def test_a_missing_chunk_and_a_repaired_second_run(tmp_path: Path) -> None:
    snapshot = small_tree()
    (bad,) = snapshot_ids(snapshot, b"c" * 100)
    kept = snapshot.blobs.pop(bad)
    with pytest.raises(ChunkNotFound, match=r"chunk not found: .*needed by d/c of a\.tree in host/web01") as caught:
        await restore(snapshot.transport(), plan(tmp_path / "t"))
    assert caught.value.details["chunk"] == bad.hex()
    snapshot.blobs[bad] = kept
    transport = snapshot.transport()
    outcome = await restore(transport, plan(tmp_path / "t"))
    assert outcome.status == "OK"
    await restore(small_tree().transport(), plan(tmp_path / "u"))
    assert tree_differences(str(tmp_path / "u"), str(tmp_path / "t")) == []
    assert snapshot_ids(snapshot, b"a" * 100)[0] not in transport.fetched  # what was there was not fetched again


async def test_two_losses_are_counted_and_both_listed(tmp_path: Path) -> None:
    snapshot = small_tree()
    for each in snapshot_ids(snapshot, b"b" * 100, b"c" * 100):
        snapshot.blobs[each] = b"junk"
    with pytest.raises(CorruptChunk, match="2 places in all"):
        await restore(snapshot.transport(), plan(tmp_path / "t"))
    assert [each["path"] for each in marker(tmp_path / "t")["missing"]] == ["b", "d/c"]  # type: ignore[attr-defined]


async def test_lost_metadata_says_from_where_on_all_is_missing(tmp_path: Path) -> None:
    many_files(tmp_path / "source", seed=3, count=4000, size_max=60)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    metadata = [each for each, data in snapshot.plain.items() if data[:1] == b"\x94"]
    del snapshot.blobs[metadata[-1]]
    with pytest.raises(ChunkNotFound):
        await restore(snapshot.transport(), plan(tmp_path / "t"))
    found = marker(tmp_path / "t")
    assert found["state"] == "failed"
    assert str(found["everything_after"]).startswith("d0")
    missing = {str(each["path"]) for each in found["missing"]}  # type: ignore[attr-defined]
    for path in (tmp_path / "source").rglob("f*"):
        name = str(path.relative_to(tmp_path / "source"))
        assert (tmp_path / "t" / name).exists() or name in missing or name > str(found["everything_after"])


@pytest.mark.parametrize("kind", [Kind.DIR, Kind.FILE])
async def test_a_hostile_hard_link_is_a_loss(tmp_path: Path, kind: Kind) -> None:
    snapshot = MemorySnapshot()
    entries = [folder(b""), Entry(path=b"a", kind=kind), Entry(path=b"b", kind=Kind.HARDLINK, link=b"a")]
    if kind is Kind.FILE:  # a hard link to a hard link
        entries.append(Entry(path=b"c", kind=Kind.HARDLINK, link=b"b"))
        snapshot.add_tree("a.tree", entries)
        outcome = await restore(snapshot.transport(), plan(tmp_path / "t"))
        assert outcome.report["restored"]["hard_links"] == 2
        return
    snapshot.add_tree("a.tree", entries)
    with pytest.raises(FormatError, match="needed by b"):
        await restore(snapshot.transport(), plan(tmp_path / "t"))


async def test_the_connection_breaks(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    class Breaking(MemoryTransport):
        async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
            if self.requests >= 3:
                raise ServerUnreachable("connection lost")
            return await super().fetch(ids)

    many_files(tmp_path / "source", seed=3, count=300, size_max=60_000)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    with pytest.raises(ServerUnreachable):
        await run_restore(Breaking(snapshot), plan(tmp_path / "t"), pool=InlinePool(), clock=LoopClock())
    assert marker(tmp_path / "t")["message"] == "connection lost"
    assert leftovers(tmp_path / "t") == []


# --- the target ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,nr_inodes=200", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.root
@pytest.mark.parametrize("what", ["bytes", "inodes"])
async def test_a_disk_that_fills_up(small_disk: Path, tmp_path: Path, what: str) -> None:
    count, size = (400, 100) if what == "inodes" else (120, 100_000)
    many_files(tmp_path / "source", seed=3, count=count, size_max=size)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    transport = snapshot.transport()
    target = small_disk / "t"
    # With `always` it is not known beforehand how much will be freed.
    with pytest.raises(DestinationNotWritable, match="no space left"):
        await restore(transport, plan(target, overwrite=Overwrite.ALWAYS), ThreadPool())
    found = marker(target)
    assert (found["state"], leftovers(target)) == ("failed", [])
    assert "no space left" in str(found["message"])
    missing = {str(each["path"]) for each in found["missing"]}  # type: ignore[attr-defined]
    there = 0
    for path in (tmp_path / "source").rglob("f*"):
        name = str(path.relative_to(tmp_path / "source"))
        if (target / name).exists():
            there += 1
            assert (target / name).read_bytes() == path.read_bytes()
        else:
            assert name in missing or name > str(found["everything_after"])
    assert there > 5
    # With more room the same command completes it.
    subprocess.run(["mount", "-o", "remount,size=20m,nr_inodes=2000", small_disk], check=True)
    assert (await restore(snapshot.transport(), plan(target), ThreadPool())).status == "OK"
    assert tree_differences(str(tmp_path / "source"), str(target)) == []


@pytest.mark.root
async def test_what_cannot_fit_is_refused_before_anything_is_fetched(small_disk: Path, tmp_path: Path) -> None:
    many_files(tmp_path / "source", seed=3, count=90, size_max=100_000)
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))
    transport = snapshot.transport()
    with pytest.raises(DestinationNotWritable, match="bytes are coming"):
        await restore(transport, plan(small_disk / "t"))
    assert transport.fetched == []


async def test_two_restores_do_not_share_a_target(tmp_path: Path) -> None:
    release = trio.Event()

    class Slow(MemoryTransport):
        async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
            await release.wait()
            return await super().fetch(ids)

    snapshot = small_tree()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restore, Slow(snapshot), plan(tmp_path / "t"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConflictError, match="another restore"):
            await restore(snapshot.transport(), plan(tmp_path / "t"))
        release.set()
    assert (tmp_path / "t" / "a").exists()


# --- cancellation ---


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("after", [0, 1, 2, 4])
async def test_cancelled_at_any_point_it_leaves_whole_files_and_a_mark(tmp_path: Path, pool: Pool, after: int) -> None:
    many_files(tmp_path / "source", seed=3, count=200, size_max=60_000)
    (tmp_path / "source" / "big").write_bytes(os.urandom(12 << 20))
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "source"))

    class Cancelling(MemoryTransport):
        async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
            if self.requests == after:
                scope.cancel()
            return await super().fetch(ids)

    transport = Cancelling(snapshot)
    with trio.CancelScope() as scope:
        await restore(transport, plan(tmp_path / "t"), pool)
    assert scope.cancelled_caught
    assert transport.closed == ("FAILED", 0, "cancelled")
    assert leftovers(tmp_path / "t") == []
    assert marker(tmp_path / "t")["state"] == "cancelled"
    for path in (tmp_path / "t").rglob("*"):
        if path.is_file() and path.name != MARKER:
            assert path.read_bytes() == (tmp_path / "source" / path.relative_to(tmp_path / "t")).read_bytes()
    await restore(snapshot.transport(), plan(tmp_path / "t"), pool)
    assert tree_differences(str(tmp_path / "source"), str(tmp_path / "t")) == []


@pytest.mark.parametrize("call", ["pwrite", "utime", "open", "mkdir"])
@pytest.mark.parametrize("after", [1, 30, 100])
def test_killed_at_any_point_it_leaves_whole_files_and_a_mark(tmp_path: Path, call: str, after: int) -> None:
    source, target = tmp_path / "source", tmp_path / "t"
    many_files(source, seed=3, count=400, size_max=3000)
    os.link(source / "d000" / "f00000", source / "d007" / "link")
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(source))
    child = os.fork()
    if child == 0:
        try:
            real, left = getattr(os, call), itertools.count(after if call != "mkdir" else 1 + after // 20, -1)

            def deadly(*args: object, **more: object) -> object:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            setattr(os, call, deadly)
            trio.run(restore, snapshot.transport(), plan(target), ThreadPool())
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, 1)
    for path in target.rglob("f*"):
        assert path.read_bytes() == (source / path.relative_to(target)).read_bytes()
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL and target.exists() and os.listdir(target):
        assert marker(target)["state"] == "running"
    assert trio.run(restore, snapshot.transport(), plan(target)).status == "OK"
    assert tree_differences(str(source), str(target)) == []


# --- refused before anything is written ---


async def test_an_encrypted_snapshot_without_its_key(tmp_path: Path) -> None:
    transport = small_tree(keys=KEYS).transport()
    for keys in (None, DataKeys.from_root(b"x" * 32)):
        with pytest.raises(FingerprintMismatch):
            await restore(transport, plan(tmp_path / "t", keys=keys))
    assert not (tmp_path / "t").exists()


async def test_the_server_hears_no_names_of_an_encrypted_snapshot(tmp_path: Path) -> None:
    snapshot = small_tree(keys=KEYS)
    (bad,) = snapshot_ids(snapshot, b"b" * 100)
    del snapshot.blobs[bad]
    transport = snapshot.transport()
    with pytest.raises(ChunkNotFound, match="needed by b"):
        await restore(transport, plan(tmp_path / "t", keys=KEYS))
    assert transport.closed == ("FAILED", 0, "chunk-not-found")


@pytest.mark.parametrize(
    "changes",
    [
        {"target": ""},
        {"target": "-"},
        {"archive": "a"},
        {"archive": "a.img", "patterns": ("x",)},
        {"patterns": ("../x",)},
        {"snapshot": "x"},
    ],
)
async def test_plans_that_cannot_be_meant(tmp_path: Path, changes: dict[str, object]) -> None:
    values: dict[str, object] = {"store": STORE, "snapshot": SNAPSHOT, "archive": "a.tree", "target": str(tmp_path)}
    transport = small_tree().transport()
    with pytest.raises(UsageError):
        await restore(transport, RestorePlan(**{**values, **changes}))  # type: ignore[arg-type]
    assert transport.closed is None


async def test_a_failing_close_does_not_hide_the_error(tmp_path: Path) -> None:
    class Gone(MemoryTransport):
        async def close(self, status: str = "OK", warnings: int = 0, message: str = "", stages: object = None) -> None:
            raise ServerUnreachable("gone")

    with pytest.raises(NotFoundError):
        await restore(Gone(small_tree()), plan(tmp_path / "t", patterns=("none",)))


# --- images ---


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("keys", [None, KEYS])
async def test_an_image_comes_back_sparse(tmp_path: Path, pool: Pool, keys: DataKeys | None) -> None:
    make_disk(tmp_path / "disk", seed=1)
    content = (tmp_path / "disk").read_bytes()
    snapshot = MemorySnapshot(keys=keys)
    snapshot.add_image("d.img", content)
    transport = snapshot.transport()
    outcome = await restore(transport, plan(tmp_path / "out", "d.img", keys=keys), pool)
    assert (tmp_path / "out").read_bytes() == content
    assert (tmp_path / "out").stat().st_blocks <= (tmp_path / "disk").stat().st_blocks + 64 * 6
    assert outcome.status == "OK"
    assert outcome.plain_bytes == len(content)
    assert sorted(os.listdir(tmp_path)) == ["disk", "out"]


@pytest.mark.parametrize("pool", POOLS)
async def test_an_image_as_a_stream(tmp_path: Path, pool: Pool) -> None:
    make_disk(tmp_path / "disk", seed=1)
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", (tmp_path / "disk").read_bytes())
    with (tmp_path / "out").open("wb") as out:
        await restore(snapshot.transport(), plan("-", "d.img", output_fd=out.fileno()), pool)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "disk").read_bytes()


async def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", os.urandom(20 << 20))
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(DestinationNotWritable, match="the reader of the output has gone"):
        await restore(snapshot.transport(), plan("-", "d.img", output_fd=write))
    os.close(write)


async def test_a_corrupt_chunk_of_an_image_leaves_the_rest_marked(tmp_path: Path) -> None:
    content = os.urandom(18 << 20)
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", content)
    step = limits.IMAGE_CHUNK_BYTES
    (bad,) = snapshot_ids(snapshot, content[step : 2 * step])
    snapshot.blobs[bad] = b"junk"
    with pytest.raises(CorruptChunk) as caught:
        await restore(snapshot.transport(), plan(tmp_path / "out", "d.img"), ThreadPool())
    assert f"needed by bytes {step}-{2 * step - 1} of d.img" in caught.value.message
    assert "what was restored is in" in caught.value.hint
    assert os.listdir(tmp_path) == ["out.ibs-restore-incomplete"]
    partial = (tmp_path / "out.ibs-restore-incomplete").read_bytes()
    assert partial == content[:step] + bytes(step) + content[2 * step :]


async def test_a_stream_ends_at_the_first_loss(tmp_path: Path) -> None:
    content = os.urandom(18 << 20)
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", content)
    (bad,) = snapshot_ids(snapshot, content[limits.IMAGE_CHUNK_BYTES * 2 : limits.IMAGE_CHUNK_BYTES * 3])
    del snapshot.blobs[bad]
    with (tmp_path / "out").open("wb") as out, pytest.raises(ChunkNotFound):
        await restore(snapshot.transport(), plan("-", "d.img", output_fd=out.fileno()))
    written = (tmp_path / "out").read_bytes()
    assert content.startswith(written)


async def test_an_image_index_with_broken_records_is_refused(tmp_path: Path) -> None:
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", b"x" * 100)
    raw = bytearray(snapshot.files["d.img.idx"])
    raw[-1] ^= 1
    snapshot.files["d.img.idx"] = bytes(raw)
    (archive,) = snapshot.archives
    # A manifest that vouches for it: the header still knows better.
    snapshot.archives = [msgspec.structs.replace(archive, index_digest=blake3(raw).hexdigest())]
    with pytest.raises(FormatError, match="records do not match"):
        await restore(snapshot.transport(), plan(tmp_path / "out", "d.img"))
    assert os.listdir(tmp_path) == []


async def test_an_empty_image(tmp_path: Path) -> None:
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", b"")
    await restore(snapshot.transport(), plan(tmp_path / "out", "d.img"))
    assert (tmp_path / "out").stat().st_size == 0


async def test_an_image_never_goes_over_an_existing_file_unasked(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    snapshot = MemorySnapshot()
    snapshot.add_image("d.img", b"x" * 100)
    transport = snapshot.transport()
    with pytest.raises(ConflictError):
        await restore(transport, plan(tmp_path / "out", "d.img"))
    assert transport.fetched == []
    await restore(snapshot.transport(), plan(tmp_path / "out", "d.img", overwrite=Overwrite.ALWAYS))
    assert (tmp_path / "out").read_bytes() == b"x" * 100
