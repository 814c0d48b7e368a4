"""Jobs are told when they are due; missed ones once after a downtime; a set clock stops nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.errors import NoSpace, UsageError
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.clock import START, LoopClock, ManualClock
from ibs.runtime.mailbox import Mailbox, Message
from ibs.services.scheduler import Job, Scheduler, Timetable, next_run
from ibs_tests.unit.services.conftest import House


@dataclass(frozen=True)
class Tick(Message[None]):
    name: str


@dataclass(frozen=True)
class Row:
    job: str
    last_run_ns: int | None
    next_run_ns: int | None


class Memory:
    def __init__(self, *rows: Row) -> None:
        self.rows = {row.job: row for row in rows}
        self.broken = False

    async def load(self) -> list[Row]:
        return list(self.rows.values())

    async def save(self, job: str, last_run_ns: int | None, next_run_ns: int | None) -> None:
        if self.broken:
            raise NoSpace("the state folder", "bytes")
        self.rows[job] = Row(job, last_run_ns, next_run_ns)


class Owner(Actor):
    role: ClassVar[str] = "gc"
    duty: ClassVar[str] = "is told"
    ticks: ClassVar[list[tuple[str, float]]] = []

    async def handle(self, message: Message[Any]) -> None:
        assert isinstance(message, Tick)
        self.ticks.append((message.name, trio.current_time()))


def furnish(house: House, memory: Memory, *jobs: tuple[str, str, bool]) -> Any:
    Owner.ticks.clear()
    owner = house.add("gc", Owner)
    plan = [Job(name, when, owner, Tick(name), catch_up) for name, when, catch_up in jobs]
    return house.add("scheduler", lambda seat: Scheduler(seat, plan, memory, house.clock))


async def test_jobs_are_told_by_the_calendar(house: House, autojump_clock: MockClock) -> None:
    furnish(house, Memory(), ("expire", "*:*:0/15", False), ("daily", "*-*-* 03:30:00", True))
    async with house.running():
        await trio.sleep(60.5)
        assert [round(at) for name, at in Owner.ticks if name == "expire"] == [15, 30, 45, 60]
        await trio.sleep(24 * 3600)
        assert [round(at) for name, at in Owner.ticks if name == "daily"] == [int(3.5 * 3600)]


async def test_the_timetable_shows_last_and_next_runs(house: House, autojump_clock: MockClock) -> None:
    handle = furnish(house, Memory(), ("expire", "*:*:0/15", False))
    async with house.running():
        await trio.sleep(20)
        [run] = await handle.ask(Timetable())
        assert (run.name, run.owner, run.when) == ("expire", "gc", "*:*:0/15")
        assert run.last == START + timedelta(seconds=15)
        assert run.next == START + timedelta(seconds=30)


async def test_a_run_missed_while_the_server_was_down_is_made_up_for_once(
    house: House, autojump_clock: MockClock
) -> None:
    missed = int((START - timedelta(hours=5)).timestamp()) * 10**9
    memory = Memory(Row("daily", missed - 10**9, missed), Row("never", missed, missed))
    furnish(house, memory, ("daily", "*-*-* 03:30:00", True), ("never", "*-*-* 03:30:00", False))
    async with house.running():
        await trio.sleep(1)
        assert [name for name, _ in Owner.ticks] == ["daily"]
        due = memory.rows["daily"].next_run_ns
        assert due is not None
        assert datetime.fromtimestamp(due // 10**9, UTC) == datetime(2026, 1, 1, 3, 30, tzinfo=UTC)


async def test_a_restart_neither_repeats_nor_forgets(house: House, autojump_clock: MockClock) -> None:
    memory = Memory()
    furnish(house, memory, ("daily", "*-*-* 03:30:00", True))
    async with house.running():
        await trio.sleep(3.5 * 3600 + 1)
        assert len(Owner.ticks) == 1
        await house.kill("scheduler")
        await trio.sleep(3600)
        assert len(Owner.ticks) == 1
        await trio.sleep(24 * 3600)
        assert len(Owner.ticks) == 2


async def test_a_timetable_that_cannot_be_kept_and_a_full_mailbox_stop_nothing(
    house: House, autojump_clock: MockClock
) -> None:
    memory = Memory()
    memory.broken = True
    full = Mailbox("gc", slots=0)
    owner = house.add("gc", Owner)
    Owner.ticks.clear()
    jobs = [
        Job("a", "*:*:0/15", type(owner)(full), Tick("a"), True),
        Job("b", "*:*:0/15", owner, Tick("b"), True),
    ]
    house.add("scheduler", lambda seat: Scheduler(seat, jobs, memory, house.clock))
    async with house.running():
        await trio.sleep(31)
        assert [name for name, _ in Owner.ticks] == ["b", "b"]
        assert house.state("scheduler").restarts == 0


async def test_a_clock_set_back_brings_the_next_run_forward() -> None:
    clock, told = ManualClock(datetime(2026, 6, 1, 12, 0, tzinfo=UTC)), Mailbox("gc")
    job = Job("hourly", "*:00:00", _handle(told), Tick("h"))
    seat = Seat("scheduler", Mailbox("scheduler"), trio.Event())
    async with trio.open_nursery() as nursery:
        scheduler = Scheduler(seat, [job], Memory(), clock)
        nursery.start_soon(scheduler.run)
        await trio.testing.wait_all_tasks_blocked()
        clock._start_ns -= 2 * 3600 * 10**9  # somebody sets the wall clock back by two hours
        clock.advance(60)
        await trio.testing.wait_all_tasks_blocked()
        assert scheduler._next["hourly"] == datetime(2026, 6, 1, 11, 0, tzinfo=UTC)
        seat.mailbox.close("test")


def _handle(mailbox: Mailbox) -> Any:
    from ibs.runtime.mailbox import Handle  # noqa: PLC0415 - only here

    return Handle(mailbox)


def test_calendar_expressions() -> None:
    now = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
    assert next_run("Sun 04:30", now) == datetime(2026, 11, 29, 4, 30, tzinfo=UTC)
    assert next_run("daily", now) == datetime(2026, 11, 23, tzinfo=UTC)
    assert next_run("mon..fri 02:00", now) == datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    with pytest.raises(UsageError, match="'whenever' is not valid"):
        next_run("whenever", now)
    assert LoopClock().__class__ is LoopClock
