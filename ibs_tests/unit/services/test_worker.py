"""Backups of the server's own files: accepted, queued, run in slots, and still there after the actor died."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.engine.task import Task
from ibs.errors import DatastoreOffline, NotFoundError, UsageError
from ibs.runtime.mailbox import Handle
from ibs.services.worker import KeepTasks, Retry, SetSlots, Submit, Worker, WorkerStatus, checked
from ibs.services.workqueue import WorkQueue
from ibs.wire.jobs import TaskKeeping
from ibs.wire.system import BackupRun
from ibs_tests.unit.services.conftest import House

RUN = BackupRun(store="main", sources=["etc.tree:/etc"])
OTHER = BackupRun(store="main", sources=["etc.tree:/etc"], backup_id="other")


class Bench:
    """A worker whose backups wait for a gate."""

    def __init__(self, house: House, slots: int = 1) -> None:
        self.house, self.gate, self.seen = house, trio.Event(), list[BackupRun]()
        self.queue = WorkQueue(house.catalog.queue, house.tasks, self.back_up, clock=house.clock, slots=slots)
        self.handle: Handle = house.add(
            "worker",
            lambda seat: Worker(
                seat, self.queue, house.tasks, node="node1", check_store=self.check, memory=house.catalog.settings
            ),
        )

    async def check(self, store: str) -> None:
        if store != "main":
            raise DatastoreOffline(store, "gone")

    async def back_up(self, _task: Task, run: BackupRun) -> str | None:
        self.seen.append(run)
        await self.gate.wait()
        return "snapshot made"


async def test_a_backup_is_queued_run_and_seen(house: House, autojump_clock: MockClock) -> None:
    bench = Bench(house)
    async with house.running():
        first = await bench.handle.ask(Submit("root@ibs", RUN))
        second = await bench.handle.ask(Submit("root@ibs", OTHER))
        await trio.testing.wait_all_tasks_blocked()
        view = await bench.handle.ask(WorkerStatus())
        assert view.slots == 1
        assert [(task.upid, task.state) for task in view.running] == [(first, "running")]
        assert [(task.upid, task.state) for task in view.queued] == [(second, "queued")]
        assert view.queued[0].waits_for.startswith("a free worker slot, 0 ahead in the queue; 1 of 1 busy: backup of")
        view = await bench.handle.ask(SetSlots(2))
        await trio.testing.wait_all_tasks_blocked()
        assert len((await bench.handle.ask(WorkerStatus())).running) == 2
        bench.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        done = await house.tasks.get(first)
        assert (done.state, done.message, done.id) == ("OK", "snapshot made", "main:host/node1")
    assert bench.seen[0].backup_id == "node1"


async def test_requests_that_make_no_sense_start_nothing(house: House, autojump_clock: MockClock) -> None:
    bench = Bench(house)
    async with house.running():
        with pytest.raises(DatastoreOffline):
            await bench.handle.ask(Submit("root@ibs", BackupRun(store="other", sources=["a.tree:/a"])))
        with pytest.raises(UsageError, match="no source"):
            await bench.handle.ask(Submit("root@ibs", BackupRun(store="main", sources=[])))
    assert await house.tasks.list() == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (BackupRun(store="main", sources=["a.tree:/a", "a.tree:/b"]), "same archive name"),
        (BackupRun(store="main", sources=["a.tree:relative"]), "not an absolute path"),
        (BackupRun(store="main", sources=["nonsense"]), "not valid"),
        (BackupRun(store="main", sources=["a.tree:/a"], namespace="a//b"), "namespace"),
        (BackupRun(store="main", sources=["a.tree:/a"], backup_type="tape"), "backup type"),
        (BackupRun(store="main", sources=["a.tree:/a"], backup_id="../x"), "backup id"),
    ],
)
def test_bad_requests_are_refused_in_words(run: BackupRun, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked(run, "node1")


async def test_killing_the_worker_fails_what_ran_and_keeps_what_waited(house: House, autojump_clock: MockClock) -> None:
    bench = Bench(house)
    async with house.running():
        first = await bench.handle.ask(Submit("root@ibs", RUN))
        second = await bench.handle.ask(Submit("root@ibs", OTHER))
        await trio.testing.wait_all_tasks_blocked()
        house.supervisor.inject_fault("worker")
        await trio.testing.wait_all_tasks_blocked()
        bench.gate.set()
        await trio.sleep(1)
        assert (await house.tasks.get(first)).state == "FAILED"
        assert (await house.tasks.get(second)).state == "OK"
        assert (await bench.handle.ask(WorkerStatus())).running == []


async def test_slots_are_remembered_and_a_task_is_done_again(house: House, autojump_clock: MockClock) -> None:
    bench = Bench(house)
    bench.gate.set()
    async with house.running():
        first = await bench.handle.ask(Submit("root@ibs", RUN))
        await trio.testing.wait_all_tasks_blocked()
        again = await bench.handle.ask(Retry("op@ibs", first))
        await trio.testing.wait_all_tasks_blocked()
        done = await house.tasks.get(again)
        assert (again != first, done.state, done.auth_id) == (True, "OK", "op@ibs")
        assert bench.seen[0] == bench.seen[1]
        with pytest.raises(NotFoundError):
            await bench.handle.ask(Retry("op@ibs", "UPID:none"))
        await bench.handle.ask(SetSlots(7))
        bench.queue.set_slots(1)
        await house.kill("worker")
        assert (await bench.handle.ask(WorkerStatus())).slots == 7


async def test_how_long_tasks_are_kept_is_remembered(house: House, autojump_clock: MockClock) -> None:
    bench = Bench(house)
    bench.gate.set()
    async with house.running():
        assert await bench.handle.ask(KeepTasks(None)) == TaskKeeping()
        for number in range(3):
            await bench.handle.ask(Submit("root@ibs", msgspec.structs.replace(RUN, backup_id=str(number))))
            await trio.testing.wait_all_tasks_blocked()
        await bench.handle.ask(KeepTasks(TaskKeeping(count=2, days=9)))
        assert [task.id for task in await house.tasks.list()] == ["main:host/2", "main:host/1"]
        house.tasks.keep_count = house.tasks.keep_days = 0
        await house.kill("worker")
        assert (house.tasks.keep_count, house.tasks.keep_days) == (2, 9)
        await trio.sleep(10 * 86_400)
        await house.tasks.trim()
        assert await house.tasks.list() == []
