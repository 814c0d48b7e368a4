"""One agent's line: orders until they are followed, one instance at a time, silence noticed in time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.core import limits
from ibs.errors import ConflictError
from ibs.runtime.clock import LoopClock
from ibs.services.hosts_link import Assignment, Link
from ibs.wire.hosts import AgentEnd, AgentOrders, AgentPoll
from ibs.wire.system import BackupRun

RUN = BackupRun(store="main", sources=["etc.tree:/etc"])


class FakeTask:
    """What a link sees of a task."""

    def __init__(self, upid: str) -> None:
        self.upid = upid
        self.lines: list[str] = []

    def log(self, level: str, text: str) -> None:
        self.lines.append(f"{level}: {text}")


def given(upid: str) -> Assignment:
    task: Any = FakeTask(upid)
    return Assignment(task, RUN)


def poll(instance: str = "one", *running: str) -> AgentPoll:
    return AgentPoll(instance=instance, running=[*running])


def link() -> Link:
    return Link("web01", LoopClock(), hold=20, gap=10)


def upids(orders: AgentOrders) -> tuple[list[str], list[str]]:
    return [one.upid for one in orders.start], orders.stop


async def test_orders_come_until_they_are_followed(autojump_clock: MockClock) -> None:
    line = link()
    line.give(given("a"))
    turn, first = line.enter(poll(), "::1")
    assert (turn, first) == (1, True)
    assert upids(line.now([])) == (["a"], [])
    assert upids(line.now([])) == (["a"], [])  # the answer may have been lost
    assert upids(line.now(["a"])) == ([], [])
    line.take_back(line.given["a"])
    assert upids(line.now(["a"])) == ([], ["a"])
    assert upids(line.now([])) == ([], [])


async def test_a_poll_waits_for_orders_and_not_for_ever(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    line, never = link(), trio.Event()
    turn, _ = line.enter(poll(), "::1")
    began = trio.current_time()
    assert upids(await line.orders(turn, [], never)) == ([], [])
    assert trio.current_time() - began == 20

    async def later() -> None:
        await trio.sleep(3)
        line.give(given("a"))

    nursery.start_soon(later)
    turn, first = line.enter(poll(), "::1")
    assert not first
    assert upids(await line.orders(turn, [], never)) == (["a"], [])
    assert trio.current_time() - began == 23
    stopping = trio.Event()
    stopping.set()
    assert upids(await line.orders(turn, ["a"], stopping)) == ([], [])
    assert trio.current_time() - began == 23


async def test_a_newer_poll_ends_the_older_one(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    line, never, answers = link(), trio.Event(), []
    old, _ = line.enter(poll(), "::1")
    nursery.start_soon(lambda: _collect(line, old, never, answers))
    await trio.testing.wait_all_tasks_blocked()
    new, _ = line.enter(poll(), "::1")
    line.give(given("a"))
    await trio.testing.wait_all_tasks_blocked()
    assert [upids(one) for one in answers] == [([], [])]  # what is to be told is told to whoever listens
    line.leave(old, gone=True)
    assert line.online
    line.leave(new, gone=False)


async def _collect(line: Link, turn: int, never: trio.Event, answers: list[AgentOrders]) -> None:
    answers.append(await line.orders(turn, [], never))


async def test_silence(autojump_clock: MockClock) -> None:
    line = link()
    assert not line.online  # never heard
    turn, _ = line.enter(poll(), "::1")
    await trio.sleep(15)
    assert (line.online, line.quiet_seconds) == (True, 0)  # its poll waits
    line.leave(turn, gone=False)
    assert (line.online, line.quiet_seconds) == (False, 15)  # nobody took the answer up
    line.note()
    assert (line.online, line.quiet_seconds) == (True, 0)
    await trio.sleep(9)
    assert line.online
    await trio.sleep(1)
    assert not line.online


async def test_one_instance_speaks_for_a_host(autojump_clock: MockClock) -> None:
    line = link()
    turn, _ = line.enter(poll("one"), "10.0.0.1")
    with pytest.raises(ConflictError, match=r"another agent web01 is connected, from 10\.0\.0\.1"):
        line.enter(poll("two"), "10.0.0.2")
    line.leave(turn, gone=False)
    with pytest.raises(ConflictError):
        line.enter(poll("two"), "10.0.0.2")
    turn, _ = line.enter(poll("one"), "10.0.0.1")
    line.leave(turn, gone=True)  # its connection broke: another may take over at once
    assert line.enter(poll("two"), "10.0.0.2") == (turn + 1, True)
    line.leave(turn + 1, gone=False)
    await trio.sleep(10)
    assert line.enter(poll("three"), "10.0.0.3")[1]


async def test_what_an_agent_lost_begins_again_and_not_for_ever(autojump_clock: MockClock) -> None:
    line, one = link(), given("a")
    line.give(one)
    line.enter(poll("0", "a"), "::1")
    for number in range(1, limits.AGENT_LOSSES_MAX + 2):
        assert not one.over
        await trio.sleep(30)
        line.leave(number * 2 - 1, gone=True)
        line.enter(poll(str(number)), "::1")
        assert one.losses == number
        assert upids(line.now([]))[0] == ([] if one.over else ["a"])
        line.enter(poll(str(number), "a"), "::1")
    assert one.over
    assert "warning: the agent of web01 was started anew" in one.task.lines[0]  # type: ignore[attr-defined]


async def test_what_is_over_is_neither_begun_nor_lost(autojump_clock: MockClock) -> None:
    line, one = link(), given("a")
    line.give(one)
    line.enter(poll("one", "a"), "::1")
    one.end = AgentEnd(status="OK")
    line.enter(poll("one"), "::1")
    assert (one.losses, upids(line.now([])), upids(line.now(["a"]))) == (0, ([], []), ([], []))
