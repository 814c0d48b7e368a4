"""The scheduler: the server's own timetable. It only sends messages; whoever owns the work does it.

Times are systemd calendar expressions (systemd.time(7)) in UTC, read by `oncalendar`. Invariants: a job's times are
taken from the wall clock anew at least once a minute, so a clock that was set does not stop it; runs missed while the
server was down are caught up with once, for jobs that ask for it; nothing here waits for a job to end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import trio
from oncalendar import OnCalendar, OnCalendarError

from ibs.core import limits
from ibs.errors import IbsError, UnavailableError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Handle, Message

_NS = 1_000_000_000
_log = get_logger("scheduler")


@dataclass(frozen=True, slots=True)
class Job:
    """`when` is a calendar expression. `catch_up`: its runs are remembered, and one missed is made up for."""

    name: str
    when: str
    owner: Handle
    message: Message[Any]
    catch_up: bool = False


@dataclass(frozen=True, slots=True)
class NextRun:
    """A job as the timetable shows it; `last` None: not since it is known."""

    name: str
    when: str
    owner: str
    last: datetime | None
    next: datetime


@dataclass(frozen=True, slots=True)
class Timetable(Message[list[NextRun]]):
    """Ask for all jobs with their last and next runs."""


class Remembered(Protocol):
    """A row of the kept timetable."""

    @property
    def job(self) -> str: ...

    @property
    def last_run_ns(self) -> int | None: ...

    @property
    def next_run_ns(self) -> int | None: ...


class Memory(Protocol):
    """Where runs are remembered. The catalog's timetable, reduced to what is needed here."""

    async def load(self) -> Sequence[Remembered]: ...

    async def save(self, job: str, last_run_ns: int | None, next_run_ns: int | None) -> None: ...


def next_run(when: str, after: datetime) -> datetime:
    """The first time of the calendar expression `when` after `after`. Raises UsageError."""
    try:
        return next(OnCalendar(when, after))
    except (OnCalendarError, StopIteration) as error:
        raise UsageError(
            f"calendar expression {when!r} is not valid or never comes", hint="write it like daily or Sun 04:30"
        ) from error


class Scheduler(Actor):
    """Sends each job's message to its owner when it is due."""

    role: ClassVar[str] = "scheduler"
    duty: ClassVar[str] = "sends the server's own jobs to their owners when they are due"

    def __init__(self, seat: Seat, jobs: Iterable[Job], memory: Memory, clock: Clock) -> None:
        super().__init__(seat)
        self._jobs = {job.name: job for job in jobs}
        self._memory = memory
        self._clock = clock
        self._last: dict[str, datetime] = {}
        self._next: dict[str, datetime] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self._plan()
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the timer
            nursery.start_soon(self._keep_time)
            task_status.started()
            await self.serve()
            nursery.cancel_scope.cancel()

    async def handle(self, message: Message[Any]) -> Any:
        if not isinstance(message, Timetable):
            raise NotImplementedError(type(message).__name__)
        return [
            NextRun(job.name, job.when, job.owner.role, self._last.get(job.name), self._next[job.name])
            for job in self._jobs.values()
        ]

    async def _plan(self) -> None:
        """First runs: at once for a missed one, else by the calendar."""
        now = self._clock.now()
        remembered = {row.job: row for row in await self._memory.load()}
        for job in self._jobs.values():
            row = remembered.get(job.name)
            if row is not None and row.last_run_ns is not None:
                self._last[job.name] = _moment(row.last_run_ns)
            missed = job.catch_up and row is not None and row.next_run_ns is not None
            if missed and row is not None and row.next_run_ns is not None and _moment(row.next_run_ns) <= now:
                _log.info("a run was missed and is made up for", job=job.name, due=_moment(row.next_run_ns))
                self._next[job.name] = now
            else:
                self._next[job.name] = next_run(job.when, now)
                await self._remember(job)

    async def _keep_time(self) -> None:
        while True:
            now = self._clock.now()
            for name, due in list(self._next.items()):
                job = self._jobs[name]
                if due <= now:
                    await self._come_to(job, now)
                else:  # earlier than planned when the clock was set back
                    self._next[name] = min(due, next_run(job.when, now))
            wait = min((due - self._clock.now()).total_seconds() for due in self._next.values())
            await self._clock.sleep(min(max(wait, 0.0), limits.SCHEDULE_LOOK_SECONDS_MAX))

    async def _come_to(self, job: Job, now: datetime) -> None:
        try:
            job.owner.tell(job.message)
        except UnavailableError as error:
            _log.warning("a job was left out", job=job.name, reason=error.message)
        self._last[job.name] = now
        self._next[job.name] = next_run(job.when, now)
        await self._remember(job)

    async def _remember(self, job: Job) -> None:
        if not job.catch_up:
            return
        last = self._last.get(job.name)
        try:
            await self._memory.save(job.name, _ns(last) if last else None, _ns(self._next[job.name]))
        except IbsError as error:
            _log.error("the timetable cannot be kept", job=job.name, error=error.message)


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // _NS, UTC)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * _NS
