"""A run beside everything else that happens: at each point of it backups, readers, forgetting and undoing go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ibs.core import limits
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.gc import run as module
from ibs.engine.gc.plan import Options, Plan
from ibs.engine.gc.run import Outcome, plan_text
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import OWNER, Writer, address_of, backup, read, snapshot_of, start

ALL = Options(share_percent=100)
Act = Callable[[Datastore], Awaitable[None]]


class Beside:
    """Does something before the nth step of a run, counted over all its phases; then checks what must hold after."""

    def __init__(self, datastore: Datastore, at: int, act: Act) -> None:
        self.datastore = datastore
        self.at = at
        self.act = act
        self.steps = 0

    async def run(self, monkeypatch: pytest.MonkeyPatch) -> Outcome:
        real = module.GcRun._step

        async def step(run: module.GcRun, work: Callable[[], object]) -> object:
            self.steps += 1
            if self.steps == self.at:
                await self.act(self.datastore)
            return await real(run, work)

        monkeypatch.setattr(module.GcRun, "_step", step)
        return await self.datastore.gc.run(ALL)


async def made(datastore: Datastore, *chunks: bytes, group: str = "host/web01") -> SnapshotName:
    return snapshot_of(await backup(datastore, {"etc.tree": chunks}, group=group))


async def forget(datastore: Datastore, name: SnapshotName) -> None:
    await datastore.bin.purge((await datastore.bin.put(name, "root@ibs")).entry)


def kept(datastore: Datastore, *chunks: bytes) -> None:
    """They were never in trash: being brought back when somebody asks is the second line, not the first."""
    infos = datastore.store.info([address_of(data) for data in chunks])
    assert {info.state.value for info in infos} <= {"durable", "received"}


STEPS = range(1, 17)
"""Of the table, of marking after each index, its result, of the sweep; the last are not reached."""


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GC_STEP_INDEXES", 1)


@pytest.fixture
async def first(datastore: Datastore) -> SnapshotName:
    """Two snapshots; the first is gone for good and left garbage."""
    name = await made(datastore, b"old", b"both", b"m1")
    await made(datastore, b"new", b"both", b"m2", group="host/b")
    await forget(datastore, name)
    return name


@pytest.mark.parametrize("at", STEPS)
async def test_a_backup_that_uploads_what_is_garbage_keeps_it(
    datastore: Datastore, first: SnapshotName, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[Writer] = []

    async def act(datastore: Datastore) -> None:
        writer = await start(datastore, group="host/c")
        await writer.send(b"old", b"m1", b"own")
        beside.append(writer)

    await Beside(datastore, at, act).run(monkeypatch)
    if beside:
        kept(datastore, b"old", b"m1", b"own")
        await beside[0].archive("etc.tree", [b"old", b"m1", b"own"], send=False)
        result = await beside[0].commit()
        assert await read(datastore, result.snapshot, "etc.tree") == [b"old", b"m1", b"own"]


@pytest.mark.parametrize("at", STEPS)
async def test_a_session_that_sent_before_commits_at_any_step(
    datastore: Datastore, first: SnapshotName, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await start(datastore, group="host/c")
    await writer.send(b"old", b"own")
    datastore.store.barrier()
    results = []

    async def act(datastore: Datastore) -> None:
        await writer.archive("etc.tree", [b"old", b"own"], send=False)
        results.append(await writer.commit())

    await Beside(datastore, at, act).run(monkeypatch)
    kept(datastore, b"old", b"own")
    if not results:
        await act(datastore)
    assert await read(datastore, results[0].snapshot, "etc.tree") == [b"old", b"own"]


@pytest.mark.parametrize("at", STEPS)
async def test_a_session_is_resumed_at_any_step(
    datastore: Datastore, first: SnapshotName, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await start(datastore, group="host/c")
    await lost.send(b"old", b"own")
    datastore.store.barrier()
    await lost.session.abort("gone")
    heirs: list[Writer] = []

    async def act(datastore: Datastore) -> None:
        heir = await start(datastore, group="host/c")
        assert heir.session.opened.resumed_chunks == 2
        heirs.append(heir)

    await Beside(datastore, at, act).run(monkeypatch)
    kept(datastore, b"old", b"own")
    if not heirs:
        await act(datastore)
    await heirs[0].archive("etc.tree", [b"old", b"own"], send=False)
    result = await heirs[0].commit()
    assert await read(datastore, result.snapshot, "etc.tree") == [b"old", b"own"]


@pytest.mark.parametrize("at", STEPS)
async def test_a_snapshot_forgotten_and_undone_at_any_step_is_whole(
    datastore: Datastore, first: SnapshotName, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await made(datastore, b"mine", b"m3", group="host/c")

    async def act(datastore: Datastore) -> None:
        await datastore.bin.put(name, "root@ibs")
        await datastore.bin.undo(str(name))

    await Beside(datastore, at, act).run(monkeypatch)
    kept(datastore, b"mine", b"m3")
    assert await read(datastore, str(name), "etc.tree") == [b"mine", b"m3"]


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("undone", [True, False])
async def test_a_snapshot_in_the_bin_undone_at_any_step_is_whole(
    datastore: Datastore, first: SnapshotName, at: int, undone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await made(datastore, b"mine", b"m3", group="host/c")
    if undone:
        await datastore.bin.put(name, "root@ibs")

    async def act(datastore: Datastore) -> None:
        if undone:
            await datastore.bin.undo(str(name))
        else:
            await datastore.bin.put(name, "root@ibs")

    await Beside(datastore, at, act).run(monkeypatch)
    kept(datastore, b"mine", b"m3")
    if name in [entry.snapshot for entry in await datastore.bin.entries()]:
        await datastore.bin.undo(str(name))
    assert await read(datastore, str(name), "etc.tree") == [b"mine", b"m3"]


@pytest.mark.parametrize("at", STEPS)
async def test_a_base_pinned_at_any_step_keeps_its_chunks_though_its_snapshot_goes(
    datastore: Datastore, first: SnapshotName, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await made(datastore, b"mine", b"m3", group="host/c")
    writers: list[Writer] = []

    async def act(datastore: Datastore) -> None:
        writers.append(await start(datastore, group="host/c"))
        await forget(datastore, name)

    await Beside(datastore, at, act).run(monkeypatch)
    kept(datastore, b"mine", b"m3")
    for writer in writers:
        await writer.archive("etc.tree", [b"mine", b"m3"], send=False)
        result = await writer.commit()
        assert await read(datastore, result.snapshot, "etc.tree") == [b"mine", b"m3"]


@pytest.mark.parametrize("at", STEPS)
async def test_a_reader_opened_at_any_step_reads_to_its_end_though_its_snapshot_goes(
    datastore: Datastore, first: SnapshotName, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await made(datastore, b"mine", b"m3", group="host/c")
    readers = []

    async def act(datastore: Datastore) -> None:
        readers.append(await datastore.readers.open(OWNER, ReaderOpen(snapshot=str(name)), everything=True))
        await forget(datastore, name)

    await Beside(datastore, at, act).run(monkeypatch)
    await datastore.gc.run(ALL)
    if readers:
        kept(datastore, b"mine", b"m3")
    for reader in readers:
        index = await reader.file("etc.tree.idx")
        ids = [index[start : start + 32] for start in range(256, len(index), 40)]
        assert len(await reader.fetch(ids)) == 2


async def test_a_step_is_taken_at_each_of_the_points_above(
    datastore: Datastore, first: SnapshotName, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Datastore) -> None:
        pass

    beside = Beside(datastore, 0, nothing)
    outcome = await beside.run(monkeypatch)
    assert outcome.retired.chunks == 2
    assert 6 <= beside.steps < max(STEPS)


async def test_phases_are_shown_in_their_order(datastore: Datastore) -> None:
    name = await made(datastore, b"a", b"b", b"m")
    await forget(datastore, name)
    shown: list[tuple[str, int]] = []
    outcome = await datastore.gc.run(ALL, show=lambda progress: shown.append((progress.phase, progress.done)))
    assert [phase for phase, _ in shown] == ["preparing", "marking", "emptying trash", "sweeping"]
    assert outcome.retired.chunks == 3


def test_a_plan_is_told_in_one_line() -> None:
    assert plan_text(Plan(total_chunks=1000, chunks=10, bytes=2048, references=12345, snapshots=3)) == (
        "12,345 references of 3 snapshots read; 10 of 1,000 chunks (1.0%, 2.0 KiB) are referred to by nothing"
    )
