"""Whole backups against a strict server in memory: everything that goes in comes out, and nothing is done twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from ibs.client.backup.run import find_sources, run_backup
from ibs.core import index, limits
from ibs.core.blob import BlobDecoder
from ibs.core.ids import Address
from ibs.core.keys import DataKeys
from ibs.core.manifest import Signature, public_key, verify
from ibs.core.tree import Kind
from ibs.errors import FailedError, NoSpace, SessionLost, SourceUnreadable, UsageError
from ibs.runtime.clock import LoopClock, ManualClock
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs_tests.support.backups import CountingFiles, LaterClock, MemoryServer, back_up, differences, plan
from ibs_tests.support.trees import many_files, rich_tree

KEYS = DataKeys.from_root(bytes(range(32)))
needs_tools = pytest.mark.skipif(
    shutil.which("setfacl") is None or shutil.which("setcap") is None, reason="needs acl, libcap2-bin"
)


@needs_tools
@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
@pytest.mark.parametrize("pool", [ThreadPool(), InlinePool()], ids=["threads", "inline"])
async def test_a_rich_tree_is_kept_in_every_detail(
    tmp_path: Path, keys: DataKeys | None, pool: ThreadPool | InlinePool
) -> None:
    rich_tree(tmp_path / "tree")
    server = MemoryServer()
    outcome, _ = await back_up(server, tmp_path / "tree", keys=keys, pool=pool)
    assert outcome.lines == ("dangling: symlink target is unreachable",)
    assert differences(server, tmp_path / "tree", keys=keys) == []
    again, transport = await back_up(server, tmp_path / "tree", keys=keys, pool=pool)
    assert differences(server, tmp_path / "tree", keys=keys) == []
    assert transport.sent == []
    assert again.files_read == 0
    assert server.snapshots[0].indexes == server.snapshots[1].indexes


async def test_the_same_tree_gives_the_same_archive_whatever_the_timing(tmp_path: Path) -> None:
    many_files(tmp_path / "tree", seed=12, count=900)
    for number in range(5):
        (tmp_path / "tree" / f"large{number}").write_bytes(os.urandom(5_000_000 * number))
    indexes = []
    for pool in (ThreadPool(), InlinePool(), ThreadPool(cpu_threads=1)):
        server = MemoryServer()
        await back_up(server, tmp_path / "tree", pool=pool)
        indexes.append(server.snapshots[0].indexes)
    assert indexes[0] == indexes[1] == indexes[2]


async def test_nothing_is_opened_when_nothing_changed(tmp_path: Path) -> None:
    many_files(tmp_path / "tree", seed=1, count=300)
    server = MemoryServer()
    first = CountingFiles()
    await back_up(server, tmp_path / "tree", files=first)
    assert len(first.opened) == 300
    second = CountingFiles()
    outcome, transport = await back_up(server, tmp_path / "tree", files=second)
    assert second.opened == []
    assert (outcome.files, outcome.files_reused, outcome.bytes_read) == (300, 300, 0)
    assert transport.bodies == 0
    assert server.snapshots[1].manifest.run == 1
    assert differences(server, tmp_path / "tree") == []


async def test_only_what_changed_is_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=2, count=400)
    server = MemoryServer()
    await back_up(server, tree)
    (tree / "d003" / "f00170").write_text("new content")
    (tree / "d001" / "f00070").unlink()
    (tree / "d002" / "between").mkdir()
    (tree / "d002" / "between" / "x").write_text("x")
    (tree / "added").write_bytes(os.urandom(3_000_000))
    os.rename(tree / "d004", tree / "e004")
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    moved = {os.fsencode(path.name) for path in (tree / "e004").iterdir() if path.stat().st_size}
    assert set(files.opened) == {b"f00170", b"x", b"added"} | moved
    assert outcome.files_reused == outcome.files - len(files.opened) - sum(
        1 for path in (tree / "e004").iterdir() if not path.stat().st_size
    )
    assert differences(server, tree) == []
    assert differences(server, tree, snapshot=0) != []
    assert len(transport.sent) < 12


async def test_racy_files_are_read_again_and_then_settle(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=3, count=20)
    server = MemoryServer()
    await back_up(server, tree, clock=LaterClock(0))
    assert {entry.racy for entry in server.entries("data.tree")} == {True}
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    assert len(files.opened) == 20
    assert {entry.racy for entry in server.entries("data.tree")} == {False}
    assert outcome.files_reused == 0
    assert all(one not in server.snapshots[0].indexes for one in transport.sent)
    files = CountingFiles()
    await back_up(server, tree, files=files)
    assert files.opened == []


async def test_reread_and_every_thirtieth_run_read_all_and_send_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=4, count=40)
    server = MemoryServer()
    await back_up(server, tree)
    files = CountingFiles()
    _, transport = await back_up(server, tree, files=files, reread=True)
    assert len(files.opened) == 40
    assert transport.sent == []
    assert server.snapshots[-1].manifest.run == 0
    server.run = limits.FULL_REREAD_EVERY_RUNS - 2
    await back_up(server, tree)
    assert server.snapshots[-1].manifest.run == limits.FULL_REREAD_EVERY_RUNS - 1
    files = CountingFiles()
    await back_up(server, tree, files=files)
    assert len(files.opened) == 40
    assert server.snapshots[-1].manifest.run == 0


async def test_lost_chunks_are_healed_by_reading_what_used_them(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=5, count=30)
    (tree / "large").write_bytes(os.urandom(6_000_000))
    server = MemoryServer()
    await back_up(server, tree)
    large = next(entry for entry in server.entries("data.tree") if entry.path == b"large")
    lost = large.extents[0].id
    server.unavailable.add(lost)
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    assert files.opened == [b"large"]
    assert outcome.files_healed == 1
    assert lost in transport.sent
    assert not server.unavailable
    assert any("large" in line.text and "lost a chunk" in line.text for line in transport.lines)
    assert differences(server, tree) == []
    assert outcome.status == "OK"


async def test_lost_metadata_only_costs_reading(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=6, count=30)
    server = MemoryServer()
    await back_up(server, tree)
    root = _root_of(server)
    server.unavailable.add(root)
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    assert len(files.opened) == 30
    assert root in transport.sent
    assert outcome.status == "OK"
    assert differences(server, tree) == []


def _root_of(server: MemoryServer) -> bytes:
    return index.parse_header(server.snapshots[-1].indexes["data.tree"]).root


async def test_a_key_hides_names_and_signs(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "secret-name").symlink_to("/no/such/place")
    server = MemoryServer()
    outcome, transport = await back_up(server, tree, keys=KEYS, excludes=("*.nowhere",))
    assert outcome.status == "WARNING"
    told = " ".join(line.text for line in transport.lines)
    assert "matched nothing" in told
    assert "nowhere" not in told
    assert "secret-name" not in told
    assert any("*.nowhere" in line for line in outcome.lines)
    (snapshot,) = server.snapshots
    blob = snapshot.blobs["client.log"]
    address = Address(KEYS.fingerprint, blob[48:80])
    assert b"*.nowhere" in BlobDecoder(keys=KEYS).decode(blob, want=address)
    signer = public_key(KEYS.signing_seed)
    verify(snapshot.raw, Signature(signer=signer.hex(), by="client", signature=snapshot.signature), signer=signer)
    assert snapshot.manifest.mode == "encrypted"
    assert snapshot.manifest.archives[0].key_fingerprint == KEYS.fingerprint.hex(":")


async def test_warnings_reach_log_outcome_and_manifest(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept").write_text("kept")
    server = MemoryServer()
    outcome, transport = await back_up(server, tree, excludes=("*.nowhere", "/kept/"))
    assert (outcome.status, outcome.warnings, len(outcome.lines)) == ("WARNING", 2, 2)
    assert [line.level for line in transport.lines] == ["warning", "warning"]
    assert "*.nowhere" in transport.lines[0].text
    (snapshot,) = server.snapshots
    assert snapshot.manifest.warnings == 2
    assert b"*.nowhere" in snapshot.blobs["client.log"]
    assert differences(server, tree) == []


async def test_what_an_interrupted_session_delivered_is_not_sent_again(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(6):
        (tree / f"f{number}").write_bytes(os.urandom(2_500_000))
    server = MemoryServer()

    def full(*_: object) -> None:
        if sum(transport.bodies for transport in (broken,)) >= 3:
            raise NoSpace("datastore main", "inodes")

    broken = server.transport(send=full)
    with pytest.raises(NoSpace, match="no free inodes"):
        await back_up(server, tree, transport=broken)
    assert broken.aborted == "no space: datastore main has no free inodes"
    assert server.snapshots == []
    delivered = set(broken.sent)
    assert delivered
    _, transport = await back_up(server, tree)
    assert not delivered & set(transport.sent)
    assert differences(server, tree) == []


@pytest.mark.parametrize("failure", [NoSpace("datastore main", "space"), FailedError("another reason")], ids=str)
@pytest.mark.parametrize("wanted", [True, False])
async def test_a_full_datastore_is_given_its_room_back_when_asked_for(
    tmp_path: Path, failure: FailedError, wanted: bool
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(30_000_000))
    server = MemoryServer()
    discarded: list[str] = []

    def full(*_: object) -> None:
        if broken.bodies >= 2:
            raise failure

    broken = server.transport(send=full, discard=discarded.append)
    with pytest.raises(FailedError):
        await back_up(server, tmp_path, transport=broken, discard_if_full=wanted)
    assert broken.aborted
    assert bool(discarded) == (wanted and isinstance(failure, NoSpace))
    assert bool(server.resumable) != bool(discarded)


@pytest.mark.parametrize("call", ["open", "send", "append", "close_archive", "report", "commit", "base_index"])
async def test_the_first_failure_is_told_and_nothing_is_left(tmp_path: Path, call: str) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=7, count=50)
    server = MemoryServer()
    await back_up(server, tree)
    (tree / "more").write_bytes(os.urandom(40_000_000))

    def fail(*_: object) -> None:
        raise FailedError(f"{call} failed")

    before = len(os.listdir("/proc/self/fd"))
    transport = server.transport(**{call: fail})
    with pytest.raises(FailedError, match=f"{call} failed"):
        await back_up(server, tree, transport=transport)
    assert transport.aborted == ("" if call == "open" else f"{call} failed")
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(server.snapshots) == 1


async def test_no_more_is_sent_a_second_than_allowed(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(8 << 20))
    clock = LoopClock()
    began = trio.current_time()
    await back_up(MemoryServer(), tmp_path, pool=InlinePool(), clock=clock)
    assert trio.current_time() - began < 1
    began = trio.current_time()
    outcome, _ = await back_up(MemoryServer(), tmp_path, pool=InlinePool(), clock=clock, bandwidth=1 << 20)
    passed = trio.current_time() - began
    assert outcome.bytes_sent >= 8 << 20
    assert 6.9 <= passed <= 8.5  # the first second's worth may pass at once


async def test_a_lost_session_is_not_aborted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    server = MemoryServer()

    def lost(*_: object) -> None:
        raise SessionLost("expired")

    transport = server.transport(close_archive=lost)
    with pytest.raises(SessionLost):
        await back_up(server, tmp_path, transport=transport)
    assert transport.aborted == ""


@pytest.mark.parametrize("call", ["send", "append", "close_archive", "commit", "base_chunk"])
async def test_cancelling_aborts_the_session_and_closes_everything(tmp_path: Path, call: str) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=8, count=50)
    server = MemoryServer()
    await back_up(server, tree)
    (tree / "more").write_bytes(os.urandom(60_000_000))
    reached = trio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await trio.sleep_forever()

    before = len(os.listdir("/proc/self/fd"))
    transport = server.transport(**{call: hang})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: back_up(server, tree, transport=transport))
        await reached.wait()
        nursery.cancel_scope.cancel()
    assert transport.aborted == "cancelled"
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(server.snapshots) == 1


async def test_the_lease_is_kept_and_progress_told_through_quiet_phases(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    clock = ManualClock()
    server = MemoryServer()
    hanging, go_on = trio.Event(), trio.Event()

    async def slow(*_: object) -> None:
        hanging.set()
        await go_on.wait()

    transport = server.transport(send=slow)
    seen = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: run_backup(transport, plan(tmp_path), pool=InlinePool(), clock=clock, progress=seen.append)
        )
        await hanging.wait()
        while len(transport.reports) < 3:
            await trio.testing.wait_all_tasks_blocked()
            clock.advance(limits.BACKUP_PROGRESS_SECONDS)
        go_on.set()
    assert transport.committed
    assert {"read", "chunk", "hash", "compress", "encrypt", "send", "wait"} <= transport.reports[-1].stages.keys()
    assert transport.reports[-1].done_bytes == 100_000
    assert len(seen) >= 3 * limits.BACKUP_REPORT_SECONDS / limits.BACKUP_PROGRESS_SECONDS
    assert seen[-1].bytes_seen == 100_000
    assert seen[-1].archive == "data.tree"


async def test_several_sources_make_one_snapshot(tmp_path: Path) -> None:
    for name in ("a", "b"):
        many_files(tmp_path / name, seed=9, count=10)
    (tmp_path / "disk").write_bytes(os.urandom(5_000_000))
    sources = (("a.tree", str(tmp_path / "a")), ("b.tree", str(tmp_path / "b")), ("d.img", str(tmp_path / "disk")))
    server = MemoryServer()
    outcome, transport = await back_up(server, tmp_path, sources=sources)
    assert [archive.name for archive in outcome.archives] == ["a.tree", "b.tree", "d.img"]
    assert differences(server, tmp_path / "a", "a.tree") == []
    assert differences(server, tmp_path / "b", "b.tree") == []
    assert b"".join(server.image("d.img")) == (tmp_path / "disk").read_bytes()
    # The second tree holds the same files as the first: its data is known by then.
    assert len(transport.sent) <= 6
    assert server.snapshots[0].manifest.stats["files"] == 20


async def test_sources_are_looked_at_before_the_server(tmp_path: Path) -> None:
    server = MemoryServer()
    transport = server.transport()
    with pytest.raises(SourceUnreadable, match="No such file"):
        await back_up(server, tmp_path / "none", transport=transport)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="not a folder"):
        await back_up(server, tmp_path / "file", transport=transport)
    with pytest.raises(SourceUnreadable, match="none"):
        await back_up(server, tmp_path / "none", "disk.img", transport=transport)
    assert transport.request is None


def test_opened_images_are_closed_when_a_later_source_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    sources = (("d.img", str(tmp_path / "disk")), ("a.tree", str(tmp_path / "none")))
    with pytest.raises(SourceUnreadable):
        find_sources(plan(tmp_path, sources=sources))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_unsound_previous_index_is_left_alone(tmp_path: Path) -> None:
    many_files(tmp_path / "tree", seed=11, count=10)
    server = MemoryServer()
    await back_up(server, tmp_path / "tree")
    content = bytearray(server.snapshots[0].indexes["data.tree"])
    content[300] ^= 1
    server.snapshots[0].indexes["data.tree"] = bytes(content)
    server.strict = False  # the client cannot know what it may not send
    outcome, transport = await back_up(server, tmp_path / "tree")
    assert outcome.files_read == 10
    assert any("is not used" in line.text for line in transport.lines)


async def test_another_index_than_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    server = MemoryServer()
    transport = server.transport()
    honest = transport.close_archive

    async def lie(archive: str, close: object) -> object:
        closed = await honest(archive, close)  # type: ignore[arg-type]
        return type(closed)(archive=archive, index_bytes=closed.index_bytes, index_digest="00" * 32)

    monkeypatch.setattr(transport, "close_archive", lie)
    with pytest.raises(FailedError, match="not the one that was sent"):
        await back_up(server, tmp_path, transport=transport)
    assert transport.aborted


async def test_kinds_without_content_cost_no_chunk(tmp_path: Path) -> None:
    for number in range(20):
        os.mkfifo(tmp_path / f"fifo{number}")
        (tmp_path / f"empty{number}").touch()
    server = MemoryServer()
    outcome, transport = await back_up(server, tmp_path)
    assert len(transport.sent) == 1
    assert outcome.files == 20
    assert {entry.kind for entry in server.entries("data.tree")} == {Kind.DIR, Kind.FIFO, Kind.FILE}
