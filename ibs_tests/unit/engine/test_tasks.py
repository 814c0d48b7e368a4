"""The registry: listing, following, stopping, and what a killed or full machine leaves behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ibs.catalog.catalog import Catalog, open_catalog
from ibs.core import limits
from ibs.core.events import Event
from ibs.core.tasks import TaskState, TaskType
from ibs.core.upid import Upid
from ibs.engine import tasklog
from ibs.engine import tasks as module
from ibs.engine.task import INTERRUPTED, Task
from ibs.engine.tasks import TaskRegistry, process_start
from ibs.errors import BusyError, ConflictError, NoSpace, NotFoundError, UsageError
from ibs.runtime.clock import ManualClock
from ibs.runtime.pool import InlinePool, ThreadPool


class World:
    """A registry over a real catalog and real files, with a clock that stands still."""

    def __init__(self, catalog: Catalog, pool: InlinePool | ThreadPool) -> None:
        self.catalog, self.pool = catalog, pool
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.registry = self.make()

    def make(self) -> TaskRegistry:
        return TaskRegistry(
            self.catalog.tasks,
            self.catalog.state / "tasks",
            pool=self.pool,
            clock=self.clock,
            node="testnode",
            publish=self.events.append,
        )

    async def start(self, kind: TaskType = TaskType.BACKUP, who: str = "root@ibs") -> Task:
        return await self.registry.start(kind, "main/host/web01", who)

    async def texts(self, upid: str, **how: Any) -> list[str]:
        return [line.text async for line in self.registry.log(upid, **how)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_catalog(tmp_path / "state") as catalog:
        yield World(catalog, InlinePool())


async def ran(task: Task, state: TaskState = TaskState.OK, message: str = "") -> None:
    task.advance(TaskState.RUNNING)
    await task.finish(state, message)


async def test_a_task_from_start_to_end(world: World, nursery: trio.Nursery) -> None:
    await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
    task = await world.start()
    upid = Upid.parse(task.upid)
    assert (upid.pid, upid.process_start, upid.id) == (os.getpid(), process_start(), "main/host/web01")
    assert (await world.registry.get(task.upid)).state == "queued"
    task.advance(TaskState.STARTING)
    task.waits_for("disk slot")
    view = await world.registry.get(task.upid)
    assert (view.state, view.waits_for) == ("Starting", "disk slot")
    task.advance(TaskState.RUNNING)
    task.progress(done_bytes=5, total_bytes=9)
    task.log("info", "hello")
    await task.finish(TaskState.OK, "all good")
    view = await world.registry.get(task.upid)
    assert (view.state, view.message, view.done_bytes, view.ended) == ("OK", "all good", 5, "2026-01-01T00:00:00Z")
    assert await world.texts(task.upid) == ["hello", "TASK OK"]
    assert await world.texts(task.upid, first=1, follow=True) == ["TASK OK"]
    [event] = world.events
    assert (event.kind, event.source, event.severity) == ("task.ended", "backup", "info")
    assert event.text == "backup of main/host/web01: OK, all good"
    assert event.fields["upid"] == task.upid
    assert world.registry.open_tasks() == []


async def test_the_end_is_kept_even_when_nothing_runs_beside_it(world: World) -> None:
    task = await world.start()
    task.log("info", "a")
    await ran(task, TaskState.FAILED, "no luck")
    assert await world.texts(task.upid) == ["a", "TASK ERROR: no luck"]
    record = await world.catalog.tasks.get(task.upid)
    assert record is not None
    assert record.state == "FAILED"


async def test_filters(world: World) -> None:
    done = await world.start()
    await ran(done)
    world.clock.advance(1)
    failed = await world.start(TaskType.VERIFY, "anna@ibs!x")
    await ran(failed, TaskState.FAILED, "x")
    world.clock.advance(1)
    starting = await world.start()
    starting.advance(TaskState.STARTING)
    world.clock.advance(1)
    running = await world.start(TaskType.VERIFY)
    running.advance(TaskState.RUNNING)

    async def upids(**how: Any) -> list[str]:
        return [view.upid for view in await world.registry.list(**how)]

    assert await upids() == [running.upid, starting.upid, failed.upid, done.upid]
    assert await upids(limit=2) == [running.upid, starting.upid]
    assert await upids(state="running") == [running.upid, starting.upid]
    assert await upids(state="Starting") == [starting.upid]
    assert await upids(state="FAILED") == [failed.upid]
    assert await upids(type="verify") == [running.upid, failed.upid]
    assert await upids(auth_id="anna@ibs!x", type="verify", state="FAILED") == [failed.upid]
    assert await upids(state="CANCELLED") == []
    assert [task.upid for task in world.registry.open_tasks()] == [starting.upid, running.upid]


async def test_unknown_tasks(world: World) -> None:
    for call in (world.registry.get("UPID:x"), world.registry.stop("UPID:x")):
        with pytest.raises(NotFoundError, match="no task UPID:x"):
            await call
    assert await world.texts("UPID:x", follow=True) == []


async def test_bad_subjects_and_too_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        await world.registry.start(TaskType.GC, "x" * 2000, "root@ibs")
    monkeypatch.setattr(limits, "TASKS_OPEN_MAX", 1)
    task = await world.start()
    with pytest.raises(BusyError):
        await world.start()
    await ran(task)
    await world.start()


async def test_stop(world: World, nursery: trio.Nursery) -> None:
    task = await world.start()

    async def work(task: Task) -> None:
        await trio.sleep_forever()

    nursery.start_soon(task.run, work)
    await trio.testing.wait_all_tasks_blocked()
    await world.registry.stop(task.upid)
    assert [line async for line in follow(world, task.upid)][-1] == "TASK CANCELLED: stopped on request"
    with pytest.raises(ConflictError, match="ended already: CANCELLED"):
        await world.registry.stop(task.upid)


async def follow(world: World, upid: str) -> AsyncIterator[str]:
    async for line in world.registry.log(upid, follow=True):
        yield line.text


async def test_followers_see_each_line_once_and_then_the_end(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with open_catalog(tmp_path / "state") as catalog:
        world = World(catalog, ThreadPool())
        async with trio.open_nursery() as inner:
            await inner.start(lambda task_status: world.registry.run(task_status=task_status))
            task = await world.start()
            task.advance(TaskState.RUNNING)
            seen: list[list[str]] = [[] for _ in range(5)]

            async def follower(number: int) -> None:
                async for line in follow(world, task.upid):
                    seen[number].append(line)

            async with trio.open_nursery() as followers:
                for number in range(5):
                    followers.start_soon(follower, number)
                for number in range(200):
                    task.log("info", f"line {number}")
                    await trio.lowlevel.checkpoint()
                await task.finish(TaskState.OK)
            expected = [*(f"line {number}" for number in range(200)), "TASK OK"]
            assert seen == [expected] * 5
            inner.cancel_scope.cancel()


async def test_a_follower_waits_without_turning(world: World, nursery: trio.Nursery) -> None:
    reads = []

    class Counting(InlinePool):
        async def disk(self, work, *args):
            reads.append(work)
            return await super().disk(work, *args)

    world.pool = Counting()
    world.registry = world.make()
    task = await world.start()
    lines: list[str] = []

    async def follower() -> None:
        async for line in follow(world, task.upid):
            lines.append(line)

    nursery.start_soon(follower)
    await trio.testing.wait_all_tasks_blocked()
    assert len(reads) == 1
    await ran(task)
    await trio.testing.wait_all_tasks_blocked()
    assert lines == ["TASK OK"]


async def test_many_lines_go_in_few_writes(world: World, nursery: trio.Nursery) -> None:
    writes = []

    class Counting(InlinePool):
        async def disk(self, work, *args):
            writes.append(work)
            return await super().disk(work, *args)

    world.pool = Counting()
    world.registry = world.make()
    await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
    task = await world.start()
    for number in range(5000):
        task.log("info", f"line {number}")
    await trio.testing.wait_all_tasks_blocked()
    assert len(writes) == 1
    assert len(await world.texts(task.upid)) == 5000


async def test_figures_are_kept_once_a_second(world: World, nursery: trio.Nursery) -> None:
    await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
    task = await world.start()
    task.advance(TaskState.RUNNING)
    for number in range(100):
        task.progress(done_bytes=number)
    await trio.testing.wait_all_tasks_blocked()

    async def kept() -> int:
        record = await world.catalog.tasks.get(task.upid)
        assert record is not None
        return record.figures.done_bytes

    assert await kept() == 0
    world.clock.advance(limits.TASK_SAVE_SECONDS)
    while await kept() != 99:
        await trio.testing.wait_all_tasks_blocked()
    assert world.clock.sleepers == 0


async def test_tasks_of_a_dead_process_are_ended(
    world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.start()
    task.advance(TaskState.RUNNING)
    task.log("info", "a")
    path = tasklog.log_path(world.catalog.state / "tasks", task.upid)
    tasklog.write_lines(path, 0, [tasklog.encode_line(0, "t", "info", "a"), b'{"n":1,"ti'])
    ended = await world.start()
    await ran(ended)
    world.events.clear()

    monkeypatch.setattr(module, "process_start", lambda: process_start() + 1)
    world.registry = world.make()
    mine = await world.start()
    await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
    assert [task.upid for task in world.registry.open_tasks()] == [mine.upid]
    view = await world.registry.get(task.upid)
    assert (view.state, view.message) == ("FAILED", INTERRUPTED)
    assert view.ended
    assert await world.texts(task.upid, follow=True) == ["a", f"TASK ERROR: {INTERRUPTED}"]
    assert [event.fields["state"] for event in world.events] == ["FAILED"]
    assert (await world.registry.get(ended.upid)).state == "OK"
    assert [view.upid for view in await world.registry.list(state="FAILED")] == [task.upid]


KILLED = """
import sys, pathlib, trio
from ibs.catalog.catalog import open_catalog
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.tasks import TaskRegistry
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
async def main():
    state = pathlib.Path(sys.argv[1])
    async with open_catalog(state) as catalog, trio.open_nursery() as nursery:
        registry = TaskRegistry(catalog.tasks, state / "tasks", pool=ThreadPool(), clock=SystemClock(),
                                node="n", publish=lambda event: None)
        await nursery.start(lambda task_status: registry.run(task_status=task_status))
        task = await registry.start(TaskType.BACKUP, "main", "root@ibs", state=TaskState.RUNNING)
        print(task.upid, flush=True)
        number = 0
        while True:
            grown = task.grown
            task.log("info", f"line {number}")
            await grown.wait()
            print(number, flush=True)
            number += 1
trio.run(main)
"""


async def test_kill_9_loses_at_most_the_last_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(state)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        upid = child.stdout.readline().strip()
        for _ in range(300):
            child.stdout.readline()
        child.kill()
        said = [int(text) for text in child.stdout.read().split("\n")[:-1] if text] or [299]
    async with open_catalog(state) as catalog:
        world = World(catalog, InlinePool())
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
            lines = await world.texts(upid, follow=True)
            nursery.cancel_scope.cancel()
    kept = len(lines) - 1
    assert lines == [*(f"line {number}" for number in range(kept)), f"TASK ERROR: {INTERRUPTED}"]
    assert kept >= said[-1] + 1, "a line that its writer was told of is gone"


async def test_a_full_disk_stops_no_task(world: World, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
    await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
    real_save, full = world.catalog.tasks.save, True

    async def save(records: Any) -> None:
        if full:
            raise NoSpace("/var/lib", "bytes")
        await real_save(records)

    def no_write(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(world.catalog.tasks), "save", lambda _self, records: save(records))
    with monkeypatch.context() as patch:
        patch.setattr(tasklog, "write_lines", no_write)
        task = await world.start(TaskType.GC)
        task.log("info", "freeing")
        await ran(task)
        assert (await world.registry.get(task.upid)).state == "OK"
        assert [view.upid for view in await world.registry.list(state="OK")] == [task.upid]
    full = False
    while await world.catalog.tasks.get(task.upid) is None or len(await world.texts(task.upid)) < 2:
        await trio.testing.wait_all_tasks_blocked()
        world.clock.advance(limits.TASK_SAVE_SECONDS)
    assert await world.texts(task.upid, follow=True) == ["freeing", "TASK OK"]


async def test_an_ended_task_is_known_before_its_row_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def save(records: Any) -> None:
        raise NoSpace("/var/lib", "bytes")

    monkeypatch.setattr(type(world.catalog.tasks), "save", lambda _self, records: save(records))
    task = await world.start()
    await ran(task)
    assert (await world.registry.get(task.upid)).state == "OK"
    assert await world.texts(task.upid, follow=True) == ["TASK OK"]


async def test_old_tasks_are_forgotten_with_their_logs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TASKS_KEPT_MAX", 2)
    tasks = []
    for _ in range(4):
        world.clock.advance(1)
        tasks.append(await world.start())
        await ran(tasks[-1])
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
        nursery.cancel_scope.cancel()
    kept = [view.upid for view in await world.registry.list()]
    assert kept == [tasks[3].upid, tasks[2].upid]
    assert await world.texts(tasks[0].upid) == []
    assert len(list((world.catalog.state / "tasks").glob("*/*.log"))) == 2


async def test_stopping_the_registry_writes_what_waits(world: World) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: world.registry.run(task_status=task_status))
        task = await world.start()
        task.advance(TaskState.RUNNING)
        task.progress(files=7)
        task.log("info", "last words")
        nursery.cancel_scope.cancel()
    record = await world.catalog.tasks.get(task.upid)
    assert record is not None
    assert (record.state, record.figures.files) == ("running", 7)
    assert await world.texts(task.upid) == ["last words"]


async def test_a_cancelled_finish_is_whole(world: World) -> None:
    task = await world.start()
    with trio.CancelScope() as scope:
        scope.cancel()
        await ran(task)
    record = await world.catalog.tasks.get(task.upid)
    assert record is not None
    assert record.state == "OK"
    assert await world.texts(task.upid) == ["TASK OK"]


async def test_the_row_shows_an_end_before_finish_returns(world: World) -> None:
    order: list[str] = []
    task = await world.start()
    task.advance(TaskState.RUNNING)

    async def ending() -> None:
        await task.finish(TaskState.OK)
        order.append("finished")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ending)
    record = await world.catalog.tasks.get(task.upid)
    assert record == replace(task.record)
    assert order == ["finished"]
