"""Clean-up: silent sessions end, old leftovers go, and whatever goes is a task."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.errors import FailedError, NotFoundError
from ibs.runtime.mailbox import Handle
from ibs.services.gc import Cleanup, Expire, Gc, Housekeep
from ibs.services.taskqueue import TaskQueue
from ibs_tests.support.engine import start
from ibs_tests.unit.services.conftest import House


class Chores:
    def __init__(self) -> None:
        self.done: list[str] = []

    async def broken(self) -> None:
        raise FailedError("no disk")

    async def fine(self) -> None:
        self.done.append("fine")


def furnish(house: House, chores: Chores | None = None) -> Handle:
    queue, daily = TaskQueue("clean-up slot", slots=1), [chores.broken, chores.fine] if chores else []
    return house.add("gc", lambda seat: Gc(seat, queue, house.tasks, house.datastores, clock=house.clock, chores=daily))


async def leave_one(store: Datastore) -> None:
    """An interrupted session with a chunk of its own."""
    writer = await start(store)
    await writer.send(b"left behind")
    await writer.session.interrupt("the client died")


async def settled(house: House) -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_silent_sessions_end_and_old_leftovers_are_discarded_as_a_task(
    house: House, autojump_clock: MockClock
) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        writer = await start(store)
        await writer.send(b"left behind")
        await trio.sleep(limits.SESSION_IDLE_SECONDS_MAX + 1)
        handle.tell(Expire())
        await settled(house)
        assert store.sessions.open_sessions == []
        assert len(store.sessions.interrupted_sessions) == 1
        assert await house.tasks.list(type="gc") == []
        await trio.sleep(limits.INTERRUPTED_SESSION_KEEP_SECONDS + 1)
        handle.tell(Expire())
        await settled(house)
        assert store.sessions.interrupted_sessions == {}
        [task] = await house.tasks.list(type="gc")
        assert (task.state, task.id, task.auth_id) == ("OK", "s1:expired", "root@ibs")
        assert task.message.startswith("1 interrupted sessions discarded, 1 chunks")
        handle.tell(Expire())
        await settled(house)
        assert len(await house.tasks.list(type="gc")) == 1


async def test_nothing_is_discarded_while_the_datastore_is_quarantined(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        writer = await start(store)
        await writer.send(b"left behind")
        await house.datastores.quarantine("s1", "root@ibs")
        await trio.sleep(limits.INTERRUPTED_SESSION_KEEP_SECONDS + 1)
        handle.tell(Expire())
        await settled(house)
        assert len(store.sessions.interrupted_sessions) == 1
        assert await house.tasks.list(type="gc") == []
        await house.datastores.release("s1", "root@ibs", "a false alarm")
        handle.tell(Expire())
        await settled(house)
        assert store.sessions.interrupted_sessions == {}


async def test_a_clean_up_on_request_does_not_wait_for_the_day_of_grace(
    house: House, autojump_clock: MockClock
) -> None:
    store, handle = await house.make_store(), furnish(house)
    await leave_one(store)
    async with house.running():
        upid = await handle.ask(Cleanup("admin@ibs", "s1"))
        await settled(house)
        task = await house.tasks.get(upid)
        assert (task.state, task.auth_id, task.id) == ("OK", "admin@ibs", "s1:cleanup")
        assert task.done_bytes > 0
        assert store.sessions.interrupted_sessions == {}
        with pytest.raises(NotFoundError):
            await handle.ask(Cleanup("admin@ibs", "nowhere"))


async def test_a_failing_chore_keeps_no_other_back(house: House, autojump_clock: MockClock) -> None:
    chores = Chores()
    handle = furnish(house, chores)
    async with house.running():
        await handle.ask(Housekeep())
        assert chores.done == ["fine"]
        assert house.state("gc").restarts == 0


async def test_killed_it_comes_back_and_expires_again(house: House, autojump_clock: MockClock) -> None:
    store, handle = await house.make_store(), furnish(house)
    async with house.running():
        await house.kill("gc")
        await start(store)
        await trio.sleep(limits.SESSION_IDLE_SECONDS_MAX + 1)
        handle.tell(Expire())
        await settled(house)
        assert store.sessions.open_sessions == []
