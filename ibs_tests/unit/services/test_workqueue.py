"""Hosts take turns; what waits outlives the process, what ran is FAILED and tried again; windows and pauses hold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.catalog.catalog import open_catalog
from ibs.catalog.queue import QueueRecord
from ibs.catalog.tasks import TaskRecord
from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.errors import BusyError, FailedError, UsageError
from ibs.runtime.clock import LoopClock
from ibs.services.workqueue import WorkQueue
from ibs.wire.system import BackupRun
from ibs_tests.unit.services.conftest import House


class Shop:
    """A queue whose work waits for a gate."""

    def __init__(self, house: House, slots: int = 1, **more: int) -> None:
        self.house, self.gate, self.began, self.fail = house, trio.Event(), list[str](), 0
        self.most = self.now = 0
        self.queue = WorkQueue(house.catalog.queue, house.tasks, self.work, clock=house.clock, slots=slots, **more)

    async def work(self, task: Task, run: BackupRun) -> str | None:
        self.began.append(f"{run.host}{run.backup_id}")
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1
        if self.fail:
            self.fail -= 1
            raise FailedError("not this time")
        return None

    async def put(self, host: str, number: int = 0, **more: object) -> str:
        run = BackupRun(store="s", sources=["a.tree:/a"], host=host, backup_id=str(number), **more)  # type: ignore[arg-type]
        return await self.queue.submit(run, f"s:host/{host}{number}", "root@ibs")


async def test_hosts_take_turns_and_their_own_go_by_age(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    shop = Shop(house)
    for host in ("a", "a", "a", "b", "c", "b"):
        await shop.put(host, len(shop.queue.waiting))
    assert "5 ahead" in shop.queue.explain()[2], "the third of the same host"
    nursery.start_soon(shop.queue.serve, trio.Event())
    shop.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert shop.began == ["a0", "b3", "c4", "a1", "b5", "a2"]
    assert shop.most == 1
    assert list(await house.catalog.queue.list()) == []


async def test_two_hundred_at_once_on_four_slots(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    shop = Shop(house, slots=4)
    for number in range(200):
        await shop.put(f"h{number % 10}-" if number < 50 else "big-", number)
    nursery.start_soon(shop.queue.serve, trio.Event())
    await trio.testing.wait_all_tasks_blocked()
    shop.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(shop.began) == len(set(shop.began)) == 200
    assert shop.most == 4
    first = Counter(name.partition("-")[0] for name in shop.began[:60])
    assert sum(count for host, count in first.items() if host != "big") == 50, "who has 150 keeps nobody waiting"


async def test_the_queue_is_bounded_and_slots_are_checked(house: House, autojump_clock: MockClock) -> None:
    shop = Shop(house, waiting_max=1)
    await shop.put("a")
    with pytest.raises(BusyError, match="1 tasks wait for a worker slot already"):
        await shop.put("b")
    with pytest.raises(UsageError, match="0 slots"):
        shop.queue.set_slots(0)


async def test_one_group_is_written_by_one_task_at_a_time(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    shop = Shop(house, slots=3)
    first = await shop.put("a")
    second = await shop.put("a")
    nursery.start_soon(shop.queue.serve, trio.Event())
    await trio.testing.wait_all_tasks_blocked()
    assert len(shop.queue.running) == 1
    assert shop.queue.explain() == [f"another backup of s:host/a0, {first}"]
    await house.tasks.stop(second)
    await trio.testing.wait_all_tasks_blocked()
    assert (await house.tasks.get(second)).message == "stopped before it began"
    shop.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert list(await house.catalog.queue.list()) == []


async def test_what_failed_is_tried_again_later_and_not_for_ever(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    shop = Shop(house)
    shop.gate.set()
    shop.fail = 9
    nursery.start_soon(shop.queue.serve, trio.Event())
    upid = await shop.put("a", retries=2)
    await trio.testing.wait_all_tasks_blocked()
    assert (await house.tasks.get(upid)).state == "FAILED"
    assert shop.queue.explain()[0].startswith("attempt 2 of 3, not before 2026-")
    await trio.sleep(600)
    states = [(task.state, task.message) for task in await house.tasks.list()]
    assert states == [("FAILED", "not this time")] * 3
    assert list(await house.catalog.queue.list()) == []


async def test_a_window_keeps_tasks_until_it_opens(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    shop = Shop(house)
    shop.gate.set()
    hour = house.clock.now().astimezone(UTC).hour
    window = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
    await shop.put("a", window=[window])
    nursery.start_soon(shop.queue.serve, trio.Event())
    await trio.testing.wait_all_tasks_blocked()
    assert shop.queue.explain() == [f"its time window {window} UTC"]
    await trio.sleep(2 * 3600 + 60)
    assert shop.began == ["a0"]


async def test_a_stop_leaves_what_waits_for_the_next_start(house: House, autojump_clock: MockClock) -> None:
    shop, stopping = Shop(house), trio.Event()
    first, second = await shop.put("a"), await shop.put("b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.queue.serve, stopping)
        await trio.testing.wait_all_tasks_blocked()
        stopping.set()
        await trio.testing.wait_all_tasks_blocked()
        shop.gate.set()
    assert [(await house.tasks.get(upid)).state for upid in (first, second)] == ["OK", "queued"]
    assert await house.catalog.queue.waiting() == {second}


def left(upid: str, number: int, *, began: bool, retries: int = 0) -> QueueRecord:
    run = BackupRun(store="s", sources=["a.tree:/a"], host="a", backup_id=str(number), retries=retries)
    return QueueRecord(upid=upid, id=f"s:host/{number}", auth_id="root@ibs", queued_ns=number, run=run, began=began)


async def test_what_a_killed_server_left_waits_or_is_told_and_tried_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def upid(number: int) -> str:
        return f"UPID:old:00000001:00000001:{number:08X}:6955B902:backup:s:root@ibs:"

    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        house = House(catalog, LoopClock())
        house.tasks._waiting = catalog.queue.waiting
        rows = [left(upid(1), 1, began=False), left(upid(2), 2, began=True, retries=1), left(upid(3), 3, began=True)]
        rows.append(left(upid(4), 4, began=True, retries=1))
        await catalog.queue.add(rows)
        states = ["queued", "running", "running", "OK"]
        for row, state in zip(rows, states, strict=True):
            ended = 2 if state == "OK" else None
            made = TaskRecord(row.upid, str(TaskType.BACKUP), row.id, row.auth_id, state, 1, ended_ns=ended)
            await catalog.tasks.save([made])
        async with trio.open_nursery() as nursery:
            await nursery.start(house.tasks.run)
            shop = Shop(house)
            shop.gate.set()
            await shop.queue.open()
            await shop.queue.open()
            nursery.start_soon(shop.queue.serve, trio.Event())
            await trio.sleep(300)
            assert shop.began == ["a1", "a2"], "what waited, and what was cut off and may be tried again"
            over = {row.upid: (row.state, row.message) for row in await house.tasks.list()}
            assert over[upid(1)][0] == "OK"
            assert over[upid(2)] == over[upid(3)] == ("FAILED", "the server stopped while it ran")
            assert over[upid(4)][0] == "OK"
            assert len(over) == 5
            assert list(await catalog.queue.list()) == []
            nursery.cancel_scope.cancel()
