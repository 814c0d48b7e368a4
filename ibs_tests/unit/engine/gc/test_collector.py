"""Garbage collection of a real datastore: what goes, what stays, what brakes, and what comes back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from ibs.core import limits
from ibs.core.keys import DataKeys
from ibs.core.modes import ModeRecord, Quarantine
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.gc import record as records
from ibs.engine.gc import run as module
from ibs.engine.gc.plan import Options
from ibs.engine.gc.record import GcRecord, RunRecord
from ibs.errors import (
    BusyError,
    ChunkNotFound,
    ConflictError,
    CorruptChunk,
    DatastoreOffline,
    FormatError,
    NotFoundError,
    Quarantined,
    UsageError,
)
from ibs.ports.chunkstore import Space
from ibs.storage.local.layout import snapshot_folder
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import OWNER, Box, address_of, backup, key_registry, read, snapshot_of, start

ALL = Options(share_percent=100)
KEYS = DataKeys.from_root(b"\7" * 32)


async def forget(datastore: Datastore, name: SnapshotName) -> None:
    """Gone for good: through the bin and out of it."""
    entry = await datastore.bin.put(name, "root@ibs")
    await datastore.bin.purge(entry.entry)


async def made(datastore: Datastore, *chunks: bytes, group: str = "host/web01", **options: object) -> SnapshotName:
    return snapshot_of(await backup(datastore, {"etc.tree": chunks}, group=group, **options))


def states(datastore: Datastore, *chunks: bytes) -> list[str]:
    return [info.state.value for info in datastore.store.info([address_of(data) for data in chunks])]


async def two_snapshots(datastore: Datastore) -> tuple[SnapshotName, SnapshotName]:
    """The first has `old` to itself and shares `both` with the second."""
    return await made(datastore, b"old", b"both", b"m1"), await made(datastore, b"new", b"both", b"m2", group="host/b")


async def test_what_nothing_refers_to_waits_in_trash_and_then_goes(box: Box, datastore: Datastore) -> None:
    first, second = await two_snapshots(datastore)
    await forget(datastore, first)
    outcome = await datastore.gc.run(ALL)
    assert (outcome.plan.chunks, outcome.plan.total_chunks, outcome.retired.chunks) == (2, 5, 2)
    assert states(datastore, b"old", b"m1", b"both", b"new", b"m2") == ["retired"] * 2 + ["durable"] * 3
    assert [(trash.chunks, trash.since) for trash in outcome.trash] == [(2, datastore.context.time.now())]
    box.clock.advance(limits.GC_TRASH_GRACE_SECONDS - 1)
    await datastore.expire()
    assert states(datastore, b"old") == ["retired"]
    box.clock.advance(1)
    await datastore.expire()
    assert states(datastore, b"old", b"m1", b"both") == ["absent", "absent", "durable"]
    assert await read(datastore, str(second), "etc.tree") == [b"new", b"both", b"m2"]
    record = await datastore.gc.record()
    assert record.running is None
    assert record.last is not None
    assert (record.last.result, record.last.retired_chunks, record.last.references) == ("OK", 2, 3)


async def test_a_store_without_garbage_loses_nothing(datastore: Datastore) -> None:
    first, second = await two_snapshots(datastore)
    outcome = await datastore.gc.run(Options())
    assert (outcome.plan.chunks, outcome.plan.snapshots, outcome.retired.chunks) == (0, 2, 0)
    for name in (first, second):
        assert await read(datastore, str(name), "etc.tree")


async def test_a_dry_run_says_what_would_go_and_changes_nothing(datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    epoch, lines = datastore.store.epoch, []
    outcome = await datastore.gc.run(Options(dry_run=True), lambda level, text: lines.append((level, text)))
    assert (outcome.dry_run, outcome.plan.chunks) == (True, 2)
    assert outcome.plan.bytes > 0
    assert states(datastore, b"old") == ["durable"]
    assert datastore.store.epoch == epoch
    assert any("2 of 5 chunks" in text for _, text in lines)
    assert any(level == "warning" and "would be refused" in text for level, text in lines)
    assert (await datastore.gc.record()).last is None


async def test_an_encrypted_chunk_does_not_live_by_a_plain_one_that_is_used(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    plain = await made(datastore, b"same", b"meta")
    sealed = await made(datastore, b"same", b"meta", group="host/sealed", keys=KEYS)
    assert datastore.store.counts().chunks == 4
    await forget(datastore, sealed)
    assert (await datastore.gc.run(ALL)).retired.chunks == 2
    assert await read(datastore, str(plain), "etc.tree") == [b"same", b"meta"]


async def test_the_bin_keeps_chunks_until_it_is_emptied(datastore: Datastore) -> None:
    name = await made(datastore, b"a", b"meta")
    await made(datastore, b"b", b"meta2", group="host/b")
    await datastore.bin.put(name, "root@ibs")
    assert (await datastore.gc.run(ALL)).plan.chunks == 0
    await datastore.bin.undo(str(name))
    assert await read(datastore, str(name), "etc.tree") == [b"a", b"meta"]
    await datastore.bin.put(name, "root@ibs")
    outcome = await datastore.gc.run(Options(share_percent=100, empty_bin=True))
    assert outcome.retired.chunks == 2
    assert list(await datastore.bin.entries()) == []


async def test_reclaim_now_skips_the_trash_and_empties_it(datastore: Datastore) -> None:
    first, second = await two_snapshots(datastore)
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    await forget(datastore, second)
    outcome = await datastore.gc.run(Options(share_percent=100, reclaim_now=True))
    assert (outcome.retired.chunks, outcome.freed_chunks, outcome.kept_trash) == (0, 5, False)
    assert outcome.freed_bytes > 0
    assert outcome.trash == ()
    assert list(datastore.store.iterate()) == []


async def test_short_of_space_the_trash_is_skipped_and_emptied(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two_snapshots(datastore)
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    await forget(datastore, second)
    monkeypatch.setattr(datastore.store, "space", lambda: Space(1 << 40, 1 << 20, 1000, 1000))
    outcome = await datastore.gc.run(ALL)
    assert (outcome.freed_chunks, outcome.kept_trash, outcome.why_not) == (5, False, "the disk is short of space")


async def test_sessions_keep_what_they_delivered_open_or_interrupted(datastore: Datastore) -> None:
    await made(datastore, b"x", b"mx")
    open_one = await start(datastore, group="host/open")
    await open_one.send(b"sent")
    gone = await start(datastore, group="host/gone")
    await gone.send(b"kept")
    await gone.session.abort("power")
    datastore.store.barrier()
    assert (await datastore.gc.run(ALL)).plan.chunks == 0
    await open_one.archive("etc.tree", [b"sent", b"root"])
    assert await read(datastore, (await open_one.commit()).snapshot, "etc.tree") == [b"sent", b"root"]


async def test_chunks_that_no_journal_and_no_snapshot_names_are_collected(datastore: Datastore) -> None:
    await made(datastore, b"x", b"mx")
    session = await start(datastore, group="host/gone")
    await session.send(b"lost")
    datastore.store.barrier()
    (Path(datastore.store.path) / "staging" / session.session.session_id / "pins.journal").unlink()
    outcome = await datastore.gc.run(ALL)
    assert outcome.retired.chunks == 1
    assert states(datastore, b"lost", b"x") == ["retired", "durable"]


async def test_a_reader_keeps_its_snapshots_chunks_though_it_is_forgotten(datastore: Datastore) -> None:
    name = await made(datastore, b"a", b"meta")
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=str(name)), everything=True)
    await forget(datastore, name)
    assert (await datastore.gc.run(ALL)).plan.chunks == 0
    await datastore.readers.close("test")
    assert (await datastore.gc.run(ALL)).plan.chunks == 2
    assert reader.reader_id


async def test_undo_brings_back_the_last_run_or_all(datastore: Datastore) -> None:
    first, second = await two_snapshots(datastore)
    with pytest.raises(NotFoundError):
        await datastore.gc.undo()
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    await forget(datastore, second)
    await datastore.gc.run(ALL)
    assert len(await datastore.gc.trash.list()) == 2
    assert (await datastore.gc.undo()).chunks == 3
    assert states(datastore, b"new", b"both", b"old") == ["durable", "durable", "retired"]
    assert (await datastore.gc.undo(everything=True)).chunks == 2
    assert states(datastore, b"old", b"m1") == ["durable", "durable"]
    assert (await datastore.gc.run(ALL)).retired.chunks == 5, "undone garbage is garbage again"


async def test_a_backup_of_what_is_in_trash_takes_it_back(datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    name = await made(datastore, b"old", b"other")
    assert states(datastore, b"old", b"m1") == ["durable", "retired"]
    assert await read(datastore, str(name), "etc.tree") == [b"old", b"other"]


async def test_a_snapshot_put_back_by_hand_takes_its_chunks_out_of_the_trash(
    box: Box, datastore: Datastore, tmp_path: Path
) -> None:
    first, _ = await two_snapshots(datastore)
    folder = Path(box.path) / "ns" / snapshot_folder(first)
    copy = tmp_path / "copy"
    folder_copy(folder, copy)
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    folder_copy(copy, folder)
    outcome = await datastore.gc.run(ALL)
    assert (outcome.taken_back, outcome.plan.wanted_again, outcome.trash) == (2, 2, ())
    assert "gc.taken-back" in box.kinds()
    assert await read(datastore, str(first), "etc.tree") == [b"old", b"both", b"m1"]


def folder_copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


# --- brakes ---


async def test_a_plan_that_takes_more_than_its_share_is_refused(datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    with pytest.raises(ConflictError, match=r"2 of 5 chunks \(40%") as caught:
        await datastore.gc.run(Options())
    assert "--allow-share 41" in caught.value.hint
    assert states(datastore, b"old") == ["durable"]
    last = (await datastore.gc.record()).last
    assert last is not None
    assert last.result == "refused"
    assert (await datastore.gc.run(Options(share_percent=41))).retired.chunks == 2


async def test_newly_missing_chunks_refuse_known_ones_are_passed_and_told(datastore: Datastore, box: Box) -> None:
    first, second = await two_snapshots(datastore)
    await forget(datastore, first)
    box.chunk_path(address_of(b"new")).unlink()
    datastore.store._db.remove([address_of(b"new")])  # as if the row had gone too
    with pytest.raises(ConflictError, match=f"1 chunks .* missing.*{address_of(b'new').id.hex()} of {second}"):
        await datastore.gc.run(ALL)
    assert states(datastore, b"old") == ["durable"]
    with pytest.raises(ChunkNotFound):
        datastore.store.get(address_of(b"new"))  # found out by verification, or by a restore
    lines: list[tuple[str, str]] = []
    outcome = await datastore.gc.run(ALL, lambda level, text: lines.append((level, text)))
    assert (outcome.plan.missing_known, outcome.retired.chunks) == (1, 2)
    assert ("warning", "1 chunks are known to be missing; passed over") in lines


async def test_missing_chunks_can_be_accepted_in_so_many_words(datastore: Datastore, box: Box) -> None:
    await two_snapshots(datastore)
    box.chunk_path(address_of(b"new")).unlink()
    datastore.store._db.remove([address_of(b"new")])
    await datastore.gc.run(Options(accept_missing=True))
    assert datastore.store.unavailable() == {address_of(b"new")}
    assert (await datastore.gc.run(Options())).plan.missing_known == 1


async def test_a_chunk_that_only_the_index_lost_and_that_is_corrupt_does_not_stop_a_run(
    datastore: Datastore, box: Box
) -> None:
    await two_snapshots(datastore)
    box.spoil(b"new")
    datastore.store._db.remove([address_of(b"new")])
    await datastore.gc.run(Options(accept_missing=True))
    assert datastore.store.unavailable() == {address_of(b"new")}
    assert box.chunk_path(address_of(b"new")).with_name(f"{address_of(b'new').id.hex()}.bad").exists()


async def test_marks_of_missing_chunks_that_nobody_wants_any_more_go(datastore: Datastore, box: Box) -> None:
    first, _ = await two_snapshots(datastore)
    box.chunk_path(address_of(b"old")).unlink()
    with pytest.raises(ChunkNotFound):
        datastore.store.get(address_of(b"old"))
    await datastore.gc.run(ALL)
    assert datastore.store.unavailable() == {address_of(b"old")}
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    assert datastore.store.unavailable() == frozenset()


async def test_a_bad_chunk_is_kept_while_something_refers_to_it_and_freed_at_once_then(
    datastore: Datastore, box: Box
) -> None:
    first, _ = await two_snapshots(datastore)
    box.spoil(b"old")
    with pytest.raises(CorruptChunk):
        datastore.store.get(address_of(b"old"))
    bad = Path(f"{box.chunk_path(address_of(b'old'))}.bad")
    await datastore.gc.run(ALL)
    assert bad.exists()
    await forget(datastore, first)
    outcome = await datastore.gc.run(ALL)
    assert (outcome.retired.chunks, outcome.freed_chunks) == (1, 1)
    assert not bad.exists()


@pytest.mark.parametrize("what", ["index", "manifest", "base"])
async def test_what_cannot_be_read_ends_the_run_with_its_name(datastore: Datastore, box: Box, what: str) -> None:
    first, second = await two_snapshots(datastore)
    await forget(datastore, first)
    folder = Path(box.path) / "ns" / snapshot_folder(second)
    if what == "base":
        session = await start(datastore, group="host/b")
        victim = Path(box.path) / "staging" / session.session.session_id / "base-etc.tree.idx"
        victim.unlink()
        victim.write_bytes(b"torn")
    else:
        victim = folder / ("etc.tree.idx" if what == "index" else "manifest.json")
        victim.write_bytes(b"torn")
    with pytest.raises(FormatError, match="base-etc.tree.idx" if what == "base" else "etc.tree|host/b"):
        await datastore.gc.run(ALL)
    assert states(datastore, b"old") == ["durable"]
    last = (await datastore.gc.record()).last
    assert last is not None
    assert last.result == "failed"


# --- who may, and when ---


async def test_a_quarantined_datastore_is_not_collected_and_its_trash_does_not_expire(
    box: Box, datastore: Datastore
) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    datastore.context.modes.set(ModeRecord(quarantine=Quarantine(reason="rot", since="now", by="root@ibs")))
    with pytest.raises(Quarantined):
        await datastore.gc.run(ALL)
    box.clock.advance(limits.GC_TRASH_GRACE_SECONDS)
    assert (await datastore.gc.expire()).freed_chunks == 0
    assert (await datastore.gc.undo()).chunks == 2, "what helps is allowed"


async def test_trash_does_not_expire_while_the_clock_is_not_believed(box: Box, datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    await datastore.gc.run(ALL)
    datastore.context.time._record = msgspec.structs.replace(datastore.context.time.record, frozen="it jumped")
    box.clock.advance(limits.GC_TRASH_GRACE_SECONDS * 2)
    assert (await datastore.gc.expire()).freed_chunks == 0
    assert (await datastore.gc.run(ALL)).emptied.freed_chunks == 0


async def test_trash_whose_time_is_lost_gets_its_grace_anew(box: Box, datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    epoch = (await datastore.gc.run(ALL)).trash[0].epoch
    (Path(box.path) / "chunks" / "trash" / str(epoch) / "about.json").unlink()
    datastore = await box.kill(datastore)
    assert [trash.since for trash in await datastore.gc.trash.list()] == [None]
    await datastore.gc.expire()
    assert [trash.since for trash in await datastore.gc.trash.list()] == [datastore.context.time.now()]
    box.clock.advance(limits.GC_TRASH_GRACE_SECONDS)
    assert (await datastore.gc.expire()).freed_chunks == 2


async def test_one_run_at_a_time(datastore: Datastore) -> None:
    await two_snapshots(datastore)

    async def second() -> None:
        with pytest.raises(BusyError, match="garbage collection of s1 is under way"):
            await datastore.gc.run(ALL)
        with pytest.raises(BusyError):
            await datastore.gc.undo()
        assert (await datastore.gc.expire()).freed_chunks == 0
        datastore.gc.resume()

    datastore_paused(datastore)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(datastore.gc.run, ALL)
        await trio.testing.wait_all_tasks_blocked()
        await second()


def datastore_paused(datastore: Datastore) -> None:
    """The next run pauses itself at its first step."""
    made_run = module.GcRun.__init__

    def held(self: module.GcRun, *args: object, **kwargs: object) -> None:
        made_run(self, *args, **kwargs)  # type: ignore[arg-type]
        self.pause.set()
        module.GcRun.__init__ = made_run  # type: ignore[method-assign]

    module.GcRun.__init__ = held  # type: ignore[method-assign]


async def test_a_paused_run_waits_shows_it_and_goes_on(datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    for steer in (datastore.gc.pause, datastore.gc.resume):
        with pytest.raises(NotFoundError, match="no garbage collection"):
            steer()
    datastore_paused(datastore)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(datastore.gc.run, ALL)
        await trio.testing.wait_all_tasks_blocked()
        progress = datastore.gc.progress
        assert progress is not None
        assert progress.paused
        running = (await datastore.gc.record()).running
        assert running is not None
        assert states(datastore, b"old") == ["durable"]
        datastore.gc.resume()
    assert states(datastore, b"old") == ["retired"]
    assert datastore.gc.progress is None


async def test_a_stopped_run_says_so_and_another_does_the_work(datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    datastore_paused(datastore)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(datastore.gc.run, ALL)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    record = await datastore.gc.record()
    assert (record.running, record.last.result if record.last else "") == (None, "stopped")
    assert not datastore.context.gate.busy
    assert (await datastore.gc.run(ALL)).retired.chunks == 2


async def test_a_run_is_slowed_to_its_limit(box: Box, datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)

    async def work() -> None:
        await datastore.gc.run(Options(share_percent=100, io_limit=1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
        assert box.clock.sleepers == 1
        while box.clock.sleepers:
            box.clock.advance(30)
            await trio.testing.wait_all_tasks_blocked()


async def test_options_out_of_range_are_refused(datastore: Datastore) -> None:
    for options in (Options(share_percent=0), Options(share_percent=101), Options(io_limit=-1)):
        with pytest.raises(UsageError):
            await datastore.gc.run(options)


async def test_a_store_that_another_server_took_over_is_not_collected(box: Box, datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    owner = Path(box.path) / ".ibs" / "owner"
    owner.write_text(owner.read_text().replace('"fence":', '"fence":9'))
    with pytest.raises(DatastoreOffline, match="owner elsewhere"):
        await datastore.gc.run(ALL)
    assert (Path(box.path) / "chunks" / "trash").exists() is False


async def test_a_run_that_was_killed_is_told_by_the_next(box: Box, datastore: Datastore) -> None:
    first, _ = await two_snapshots(datastore)
    await forget(datastore, first)
    datastore.store.raise_epoch()
    running = RunRecord(epoch=datastore.store.epoch, started="2026-11-23T01:00:00Z", phase="sweeping")
    records.write(datastore.context, GcRecord(running=running))
    datastore = await box.kill(datastore)
    assert (await datastore.gc.record()).running == running
    lines: list[str] = []
    outcome = await datastore.gc.run(ALL, lambda _, text: lines.append(text))
    assert lines[0].startswith("the run that began 2026-11-23T01:00:00Z was cut off while sweeping")
    assert outcome.retired.chunks == 2
    assert (await datastore.gc.record()).running is None


async def test_what_could_be_freed_is_known_by_kind_and_dated(box: Box, datastore: Datastore) -> None:
    async def figures() -> tuple[object, ...]:
        now = await datastore.stats()
        return now.trash_chunks, now.trash_due_chunks, now.unreferenced_chunks, now.unreferenced_as_of[:10]

    first, _ = await two_snapshots(datastore)
    assert await figures() == (0, 0, None, "")
    await forget(datastore, first)
    await datastore.gc.run(Options(share_percent=100, dry_run=True))
    assert await figures() == (0, 0, 2, "2026-01-01")
    with pytest.raises(ConflictError):
        await datastore.gc.run(Options(share_percent=1))
    assert await figures() == (0, 0, 2, "2026-01-01")
    before = await datastore.stats()
    assert before.reclaimable_bytes == before.unreferenced_bytes != 0
    await datastore.gc.run(ALL)
    assert await figures() == (2, 0, 0, "2026-01-01")
    after = await datastore.stats()
    assert (after.reclaimable_bytes, after.unreferenced_bytes) == (before.reclaimable_bytes, 0)
    await datastore.gc.undo()
    assert await figures() == (0, 0, 2, "2026-01-01")
    assert (await datastore.stats()).reclaimable_bytes == before.reclaimable_bytes
    await datastore.gc.run(ALL)
    box.clock.advance(limits.GC_TRASH_GRACE_SECONDS)
    assert await figures() == (2, 2, 0, "2026-01-01")
    await datastore.expire()
    assert await figures() == (0, 0, 0, "2026-01-01")


async def test_a_dry_run_keeps_the_note_of_one_that_was_cut_off(datastore: Datastore) -> None:
    cut = RunRecord(epoch=3, started="2026-11-23T01:00:00Z", phase="sweeping")
    records.write(datastore.context, GcRecord(running=cut))
    await datastore.gc.run(Options(dry_run=True))
    assert (await datastore.gc.record()).running == cut
