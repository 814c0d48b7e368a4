"""A server-run backup goes through the client's own pipeline and ends as its task tells."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from ibs.core.names import Group, Namespace
from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.ports.clock import Clock
from ibs.services.backupjob import backup_job
from ibs.services.worker import RunBackup, checked
from ibs.wire.system import BackupRun
from ibs_tests.support.backups import LaterClock
from ibs_tests.unit.services.conftest import House


def make(house: House, made: list[tuple[str, str]], clock: Clock | None = None) -> RunBackup:
    return backup_job(
        house.datastores,
        pool=house.pool,
        clock=clock or house.clock,
        node="node1",
        note_commit=lambda uuid, snapshot: made.append((uuid, snapshot)),
    )


async def run(house: House, work: RunBackup, request: BackupRun) -> Task:
    task = await house.tasks.start(TaskType.BACKUP, "s1:host/node1", "root@ibs")
    await task.run(lambda task: work(task, checked(request, "node1")))
    return task


async def test_a_tree_becomes_a_snapshot(house: House, autojump_clock: MockClock, tmp_path: Path) -> None:
    store, made = await house.make_store(), list[tuple[str, str]]()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content")
    (tmp_path / "tree" / "left-out").write_text("x")
    request = BackupRun(store="s1", sources=[f"etc.tree:{tmp_path / 'tree'}"], exclude=["left-out"])
    task = await run(house, make(house, made), request)
    assert str(task.state) == "OK", task.record.message
    [name] = await store.snapshots.every()
    assert made == [(store.uuid, str(name))]
    assert str(name.group) == "host/node1"
    assert task.record.message.startswith(f"snapshot {name}: 1 files, 7 B")
    view = await store.snapshots.snapshot_view(name)
    assert (view.owner, [archive.name for archive in view.archives]) == ("root@ibs", ["etc.tree"])


async def test_everything_is_read_again_when_asked_for_or_due(
    house: House, autojump_clock: MockClock, tmp_path: Path
) -> None:
    store = await house.make_store()
    (tmp_path / "tree").mkdir()
    for number in range(5):
        (tmp_path / "tree" / str(number)).write_text("content")
    work = make(house, [], LaterClock())  # what was just made counts as settled
    read = []
    for more in ({}, {}, {"reread": True}, {"reread_every": 1}, {"reread_every": 0}, {"reread_every": 2}):
        task = await run(house, work, BackupRun(store="s1", sources=[f"a.tree:{tmp_path / 'tree'}"], **more))
        assert str(task.state) == "OK", task.record.message
        newest = await store.snapshots.newest(Namespace(), Group("host", "node1"))
        assert newest is not None
        manifest = (await store.snapshots.load(newest)).manifest
        read.append((manifest.stats["files_read"], manifest.run))
    assert read == [(5, 0), (0, 1), (5, 0), (5, 0), (0, 1), (5, 0)]


async def test_what_goes_wrong_is_the_end_of_the_task(house: House, autojump_clock: MockClock, tmp_path: Path) -> None:
    store, made = await house.make_store(), list[tuple[str, str]]()
    missing = await run(house, make(house, made), BackupRun(store="s1", sources=[f"a.tree:{tmp_path / 'none'}"]))
    assert str(missing.state) == "FAILED"
    assert "cannot be read" in missing.record.message
    gone = await run(house, make(house, made), BackupRun(store="s2", sources=["a.tree:/"]))
    assert gone.record.message.startswith("datastore 's2' not found")
    assert await store.snapshots.every() == []
    assert made == []


async def test_stopping_the_task_interrupts_its_session(
    house: House, autojump_clock: MockClock, tmp_path: Path, nursery: trio.Nursery
) -> None:
    store = await house.make_store()
    (tmp_path / "tree").mkdir()
    task = await house.tasks.start(TaskType.BACKUP, "s1:host/node1", "root@ibs")
    work = make(house, [])
    request = checked(BackupRun(store="s1", sources=[f"a.tree:{tmp_path / 'tree'}"]), "node1")
    task.ask_stop()
    await task.run(lambda task: work(task, request))
    assert str(task.state) == "CANCELLED"
    assert store.sessions.open_sessions == []
    assert await store.snapshots.every() == []
