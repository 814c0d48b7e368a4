"""Configured datastores: made, opened, lost, found again, removed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ibs.core.events import Event
from ibs.core.names import Namespace
from ibs.engine.datastores import Datastores, Parts
from ibs.errors import (
    BusyError,
    ConflictError,
    DatastoreOffline,
    DatastoreReadOnly,
    FailedError,
    NotFoundError,
    SessionLost,
    UsageError,
)
from ibs.ports.catalog import DatastoreRecord
from ibs.ports.pool import Pool
from ibs.runtime.clock import ManualClock
from ibs.runtime.pool import InlinePool
from ibs.storage.local import LocalStore, Options
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs_tests.support.engine import OWNER, SEED, SERVER, backup, counting_entropy, read, start


class Records:
    """DatastoreRecords in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, DatastoreRecord] = {}

    async def list(self) -> Sequence[DatastoreRecord]:
        await trio.lowlevel.checkpoint()
        return [self.rows[name] for name in sorted(self.rows)]

    async def add(self, record: DatastoreRecord) -> None:
        if record.name in self.rows:
            raise ConflictError(f"{record.name} exists")
        self.rows[record.name] = record

    async def update(self, record: DatastoreRecord) -> None:
        self.rows[record.name] = record

    async def remove(self, name: str) -> None:
        if self.rows.pop(name, None) is None:
            raise NotFoundError(name)


@dataclass
class World:
    """A server's datastores, started as often as wanted."""

    path: Path
    records: Records = field(default_factory=Records)
    events: list[Event] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    pool: Pool = field(default_factory=InlinePool)
    options: Options = field(default_factory=Options)
    server: str = SERVER
    started: list[Datastores] = field(default_factory=list)

    async def start(self) -> Datastores:
        parts = Parts(
            pool=self.pool,
            clock=self.clock,
            publish=self.events.append,
            server_uuid=self.server,
            signing_seed=SEED,
            entropy=counting_entropy() if not self.started else counting_entropy_from(1000 * len(self.started)),
            options=self.options,
        )
        datastores = Datastores(self.records, parts)
        self.started.append(datastores)
        await datastores.open_all()
        return datastores

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def counting_entropy_from(first: int):  # type: ignore[no-untyped-def]
    numbers = iter(range(first, 1 << 30))
    return lambda count: next(numbers).to_bytes(count, "big")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    for datastores in world.started:
        for datastore in datastores.opened():
            await datastore.close("the test is over", clean=False)


CONTENT = {"etc.tree": [b"data", b"meta"]}


async def test_made_used_and_found_again(world: World) -> None:
    datastores = await world.start()
    view = await datastores.create("s1", f"{world.path}/store/", comment="for tests")
    assert (view.status, view.path, view.comment, view.snapshots) == ("online", f"{world.path}/store", "for tests", 0)
    result = await backup(await datastores.get("s1"), CONTENT)
    await datastores.close()
    datastores = await world.start()
    (view,) = await datastores.list()
    assert (view.status, view.snapshots) == ("online", 1)
    assert view.bytes_total > view.bytes_free > 0
    assert await read(await datastores.get("s1"), result.snapshot, "etc.tree") == CONTENT["etc.tree"]
    assert (await datastores.get("s1")).store.recovered.clean


@pytest.mark.parametrize(
    ("name", "path"),
    [("..", "x"), ("-s", "x"), ("s2", "store"), ("s2", "store/ns"), ("s2", ""), ("s1", "x"), ("s2", "full")],
)
async def test_what_cannot_be_made_changes_nothing(world: World, name: str, path: str) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    (world.path / "full").mkdir()
    (world.path / "full" / "file").touch()
    before = sorted(str(each) for each in world.path.rglob("*") if "store" not in str(each))
    with pytest.raises((UsageError, ConflictError)):
        await datastores.create(name, f"{world.path}/{path}")
    assert list(world.records.rows) == ["s1"]
    assert sorted(str(each) for each in world.path.rglob("*") if "store" not in str(each)) == before
    assert [view.name for view in await datastores.list()] == ["s1"]


async def test_a_comment_is_bounded(world: World) -> None:
    with pytest.raises(UsageError, match="comment"):
        await (await world.start()).create("s1", f"{world.path}/store", "x" * 10_000)


async def test_warnings_about_the_place_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibs.engine.datastores.check_place", lambda *_: ["it is the root of a file system"])
    view = await (await world.start()).create("s1", f"{world.path}/store")
    assert view.warnings == ["it is the root of a file system"]
    assert "datastore.placing" in world.kinds()


async def test_unknown_names(world: World) -> None:
    datastores = await world.start()
    for call in (datastores.get, datastores.view, datastores.stats, datastores.probe, datastores.detach):
        with pytest.raises(NotFoundError):
            await call("none")


# --- S1: offline and back ---


async def test_a_missing_store_never_fails_the_start(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.create("s2", f"{world.path}/other")
    await datastores.close()
    shutil.move(world.path / "store", world.path / "away")
    datastores = await world.start()
    gone, fine = await datastores.list()
    assert (gone.status, fine.status) == ("offline", "online")
    assert gone.reason == f"path does not exist: {world.path}/store"
    for call in (datastores.get, datastores.stats):
        with pytest.raises(DatastoreOffline, match="path does not exist"):
            await call("s1")
    assert "datastore.offline" in world.kinds()
    shutil.move(world.path / "away", world.path / "store")
    probed = await datastores.probe("s1")
    assert (probed.status, probed.reason) == ("online", "")
    assert all(check.ok for check in probed.checks)
    await backup(await datastores.get("s1"), CONTENT)


async def test_even_the_unexpected_never_fails_the_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.create("s2", f"{world.path}/other")
    await datastores.close()
    real = LocalStore.open

    def broken(path: str, *args: Any, **options: Any) -> LocalStore:
        if path.endswith("store"):
            raise RuntimeError("a bug")
        return real(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "open", broken)
        datastores = await world.start()
    broken_view, fine = await datastores.list()
    assert (broken_view.status, fine.status) == ("offline", "online")
    assert "a bug" in broken_view.reason
    assert (await datastores.probe("s1")).status == "online"


async def test_a_store_that_goes_away_takes_its_sessions_with_it_and_writes_nothing(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    datastore = await datastores.get("s1")
    result = await backup(datastore, CONTENT)
    writer = await start(datastore)
    await writer.send(b"kept")
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    shutil.move(world.path / "store", world.path / "away")  # as if it were unmounted
    (world.path / "store").mkdir()  # the bare mount point
    probed = await datastores.probe("s1")
    assert probed.status == "offline"
    assert "not mounted" in probed.reason
    assert not all(check.ok for check in probed.checks)
    assert list((world.path / "store").iterdir()) == []
    for use in (writer.send(b"x"), reader.file("etc.tree.idx")):
        with pytest.raises(SessionLost, match="offline"):
            await use
    with pytest.raises(DatastoreOffline):
        await datastores.get("s1")
    assert (await datastores.probe("s1")).status == "offline"
    assert list((world.path / "store").iterdir()) == []
    (world.path / "store").rmdir()
    shutil.move(world.path / "away", world.path / "store")
    (again,) = await datastores.probe_all()
    assert again.status == "online"
    writer = await start(await datastores.get("s1"))
    assert writer.session.opened.resumed_chunks == 1
    assert world.kinds().count("datastore.offline") == 1
    assert world.kinds()[-1] == "datastore.online"


async def test_another_store_in_its_place_is_not_taken(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.create("s2", f"{world.path}/other")
    await datastores.close()
    shutil.move(world.path / "store", world.path / "tmp")
    shutil.move(world.path / "other", world.path / "store")
    datastores = await world.start()
    views = await datastores.list()
    assert "wrong uuid" in views[0].reason
    assert "does not exist" in views[1].reason


async def test_a_store_of_another_server_is_not_taken(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.close()
    world.server = "99999999-2222-4333-8444-555555555555"
    (view,) = await (await world.start()).list()
    assert view.status == "offline"
    assert "owner elsewhere" in view.reason


async def test_two_servers_on_one_host_do_not_share(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    (view,) = await (await world.start()).list()
    assert (view.status, "in use by another server" in view.reason) == ("offline", True)
    assert (await datastores.view("s1")).status == "online"


async def test_a_failing_disk_makes_it_read_only_and_a_probe_opens_it_anew(world: World) -> None:
    broken = False

    def hook(point: str) -> None:
        if broken and point == "barrier.sync":
            raise OSError(5, "Input/output error")

    world.options = Options(hook=hook)
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    datastore = await datastores.get("s1")
    first = await backup(datastore, CONTENT)
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"new", b"meta"])
    broken = True
    with pytest.raises(DatastoreReadOnly):
        await writer.commit()
    assert (await datastores.view("s1")).status == "read-only"
    assert await datastores.get("s1") is datastore  # reading goes on
    assert await read_without_lease(datastore, first.snapshot)
    broken = False
    assert (await datastores.probe("s1")).status == "read-only"  # a session is open
    await writer.session.interrupt("the disk failed")
    assert (await datastores.probe("s1")).status == "online"
    await backup(await datastores.get("s1"), CONTENT)


async def read_without_lease(datastore, snapshot: str) -> bool:  # type: ignore[no-untyped-def]
    return bool(await datastore.snapshots.snapshot_views(Namespace()))


async def test_a_reason_is_told_once(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.close()
    shutil.move(world.path / "store", world.path / "away")
    datastores = await world.start()
    for _ in range(3):
        await datastores.probe("s1")
    assert world.kinds().count("datastore.offline") == 1


# --- figures ---


async def test_stats_count_and_compare(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    datastore = await datastores.get("s1")
    empty = await datastores.stats("s1")
    assert (empty.chunks, empty.dedup_ratio, empty.snapshots) == (0, 0.0, 0)
    content = {"disk.img": [b"A" * 5000, b"", b"B" * 5000]}
    await backup(datastore, content)
    await backup(datastore, content)
    await backup(datastore, content, group="vm/1", namespace="a")
    await (await start(datastore, group="host/x")).send(b"received")
    await (await start(datastore, group="host/y")).session.abort("x")
    stats = await datastores.stats("s1")
    assert (stats.groups, stats.snapshots, stats.chunks, stats.received_chunks) == (2, 3, 3, 1)
    assert stats.plain_bytes == 3 * 3 * 4 * 1024 * 1024
    assert stats.dedup_ratio == round(stats.plain_bytes / stats.chunk_bytes, 3)
    assert (stats.open_sessions, stats.interrupted_sessions) == (1, 1)
    assert stats.inodes_total >= stats.inodes_free > 0


# --- the end ---


async def test_detached_stores_keep_their_data(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    datastore = await datastores.get("s1")
    result = await backup(datastore, CONTENT)
    writer = await start(datastore)
    with pytest.raises(BusyError, match="in use"):
        await datastores.detach("s1")
    await writer.session.abort("x")
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    with pytest.raises(BusyError, match="in use"):
        await datastores.detach("s1")
    await datastore.readers.close_reader(reader.reader_id, OWNER, ReaderClose())
    await datastores.detach("s1")
    assert world.records.rows == {}
    assert await datastores.list() == []
    assert (world.path / "store" / "ns" / result.snapshot / "manifest.json").exists()


async def test_an_offline_store_can_be_detached(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.close()
    shutil.rmtree(world.path / "store")
    datastores = await world.start()
    await datastores.detach("s1")
    assert world.records.rows == {}


async def test_closing_tells_what_fails_and_goes_on(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    await datastores.create("s2", f"{world.path}/other")
    (world.path / "store" / ".ibs" / "owner").write_text('{"server": "x", "fence": 9}')
    await datastores.close()
    assert "datastore.unclean-stop" in world.kinds()
    views = await (await world.start()).list()
    assert [view.status for view in views] == ["offline", "online"]


async def test_a_creation_that_fails_takes_its_record_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    datastores = await world.start()
    (world.path / "file").touch()
    with pytest.raises(FailedError):
        await datastores.create("s1", f"{world.path}/file/store")
    assert world.records.rows == {}
    await datastores.create("s1", f"{world.path}/store")


async def test_expiry_reaches_every_store(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", f"{world.path}/store")
    writer = await start(await datastores.get("s1"))
    world.clock.advance(1000)
    await datastores.expire()
    with pytest.raises(SessionLost):
        await writer.send(b"x")


class GatedPool(InlinePool):
    """Lets no store be opened before `may_open`."""

    def __init__(self) -> None:
        self.opening, self.may_open = trio.Event(), trio.Event()

    async def disk(self, work: Callable[..., Any], *args: object) -> Any:
        if getattr(work, "__name__", "") == "_open_store":
            self.opening.set()
            await self.may_open.wait()
        return await super().disk(work, *args)


async def test_a_datastore_that_is_being_opened_is_waited_for(world: World, nursery: trio.Nursery) -> None:
    """After a restart clients come back before their datastore is open: they wait a moment instead of failing."""
    first = await world.start()
    await first.create("s1", f"{world.path}/store")
    await first.close()
    gated = GatedPool()
    world.pool = gated
    nursery.start_soon(world.start)
    await gated.opening.wait()
    found: list[str] = []

    async def ask() -> None:
        found.append((await world.started[-1].get("s1")).name)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert found == []
    gated.may_open.set()
    with trio.fail_after(5):
        while not found:
            await trio.testing.wait_all_tasks_blocked()
    assert found == ["s1"]


async def test_waiting_for_an_opening_ends(world: World, nursery: trio.Nursery, autojump_clock: object) -> None:
    first = await world.start()
    await first.create("s1", f"{world.path}/store")
    await first.close()
    gated = GatedPool()
    world.pool = gated
    nursery.start_soon(world.start)
    await gated.opening.wait()
    with pytest.raises(DatastoreOffline, match="being opened"):
        await world.started[-1].get("s1")
    gated.may_open.set()
