"""Slots bound what runs, order is kept, and every accepted task reaches an end."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.errors import BusyError, UsageError
from ibs.services.taskqueue import NOT_BEGUN, TaskQueue
from ibs_tests.unit.services.conftest import House


class Gate:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.open = trio.Event()

    async def work(self, task: Task) -> str | None:
        self.began.append(task.id)
        await self.open.wait()
        return "done"


async def task(house: House, name: str) -> Task:
    return await house.tasks.start(TaskType.BACKUP, name, "root@ibs")


async def test_tasks_run_in_order_and_never_more_than_slots(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    queue, gate, stopping = TaskQueue("worker slot", slots=2), Gate(), trio.Event()
    tasks = [await task(house, str(number)) for number in range(5)]
    nursery.start_soon(queue.serve, stopping)
    for each in tasks:
        queue.submit(each, gate.work)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(gate.began) == ["0", "1"]
    assert [each.id for each in queue.waiting] == ["2", "3", "4"]
    assert tasks[4].record.figures.waits_for == "a free worker slot"
    assert queue.explain()[2] == (
        "a free worker slot, 2 ahead in the queue; 2 of 2 busy: backup of 0 (running), backup of 1 (running)"
    )
    queue.set_slots(3)
    await trio.testing.wait_all_tasks_blocked()
    assert gate.began[2:] == ["2"]
    gate.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(gate.began) == ["0", "1", "2", "3", "4"]
    assert {str(each.state) for each in tasks} == {"OK"}
    assert tasks[0].record.message == "done"


async def test_the_queue_is_bounded_and_slots_are_checked(house: House, autojump_clock: MockClock) -> None:
    queue = TaskQueue("worker slot", slots=1, waiting_max=1)
    queue.submit(await task(house, "a"), Gate().work)
    with pytest.raises(BusyError, match="1 tasks wait for a worker slot already"):
        queue.submit(await task(house, "b"), Gate().work)
    with pytest.raises(UsageError, match="0 slots"):
        queue.set_slots(0)
    assert queue.slots == 1


async def test_a_waiting_task_that_is_stopped_never_begins(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    queue, gate = TaskQueue("worker slot", slots=1), Gate()
    first, second = await task(house, "1"), await task(house, "2")
    nursery.start_soon(queue.serve, trio.Event())
    queue.submit(first, gate.work)
    queue.submit(second, gate.work)
    await trio.testing.wait_all_tasks_blocked()
    await house.tasks.stop(second.upid)
    await house.tasks.stop(first.upid)
    await trio.testing.wait_all_tasks_blocked()
    assert (str(first.state), str(second.state)) == ("CANCELLED", "CANCELLED")
    assert second.record.message == "stopped before it began"
    assert gate.began == ["1"]
    assert queue.running == []


async def test_what_waits_survives_a_crash_of_whoever_serves(house: House, autojump_clock: MockClock) -> None:
    queue, gate = TaskQueue("worker slot", slots=1), Gate()
    first, second = await task(house, "1"), await task(house, "2")
    queue.submit(first, gate.work)
    queue.submit(second, gate.work)
    with trio.move_on_after(1):
        await queue.serve(trio.Event())
    assert (str(first.state), str(second.state)) == ("FAILED", "queued")
    gate.open.set()
    with trio.move_on_after(1):
        await queue.serve(trio.Event())
    assert str(second.state) == "OK"


async def test_a_stop_finishes_what_runs_and_ends_what_waits(house: House, autojump_clock: MockClock) -> None:
    queue, gate, stopping = TaskQueue("worker slot", slots=1), Gate(), trio.Event()
    first, second = await task(house, "1"), await task(house, "2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.serve, stopping)
        queue.submit(first, gate.work)
        queue.submit(second, gate.work)
        await trio.testing.wait_all_tasks_blocked()
        stopping.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (str(first.state), str(second.state)) == ("running", "CANCELLED")
        assert second.record.message == NOT_BEGUN
        gate.open.set()
    assert str(first.state) == "OK"


async def test_a_failing_task_frees_its_slot(house: House, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    queue = TaskQueue("worker slot", slots=1)
    first, second = await task(house, "1"), await task(house, "2")
    nursery.start_soon(queue.serve, trio.Event())

    async def fail(_task: Task) -> str | None:
        raise ZeroDivisionError("bug")

    async def succeed(_task: Task) -> str | None:
        return None

    queue.submit(first, fail)
    queue.submit(second, succeed)
    await trio.testing.wait_all_tasks_blocked()
    assert (str(first.state), str(second.state)) == ("FAILED", "OK")
