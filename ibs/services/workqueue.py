"""The worker's slots and its queue, which outlives the server: what waits is kept in the catalog.

Made once by `roster`; it outlives the actor that serves it. Invariants: never more tasks run than there are slots; a
task is in the catalog's queue before it is shown, and marked there before it begins, so that after a kill it either
waits still or is FAILED and, if its run says so, queued again under a new UPID; hosts take turns, and a host's own
tasks go by age; of one group of one host no two run at once. Everything belongs to the trio thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import trio

from ibs.catalog.queue import QueueRecord, QueueTable
from ibs.catalog.tasks import TaskRecord
from ibs.core import limits
from ibs.core.names import format_time
from ibs.core.schedule import in_window
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import BusyError, IbsError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.wire.system import BackupRun

Work = Callable[[Task, BackupRun], Awaitable[str | None]]
_NS = 1_000_000_000
_log = get_logger("worker")


@dataclass(eq=False)
class Item:
    """A task in the queue, or in a slot."""

    row: QueueRecord
    task: Task

    @property
    def place(self) -> tuple[str, str]:
        """What no two tasks may write at once."""
        return self.row.run.host, self.row.id


class WorkQueue:
    """`open` it once (again after a failure, without harm), then `serve` it."""

    def __init__(
        self,
        table: QueueTable,
        tasks: TaskRegistry,
        work: Work,
        *,
        clock: Clock,
        slots: int,
        waiting_max: int = limits.WORKER_QUEUE_MAX,
    ) -> None:
        self._table, self._tasks, self._work, self._clock = table, tasks, work, clock
        self._slots = slots
        self._waiting_max = waiting_max
        self._waiting: list[Item] = []
        self._running: list[Item] = []
        self._served: dict[str, int] = {}  # when each host had its last turn
        self._turn = 0
        self._opened = False
        self._changed = trio.Event()

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._slots

    @property
    def running(self) -> Sequence[Task]:
        """Tasks in slots, in the order they began."""
        return [item.task for item in self._running]

    @property
    def waiting(self) -> Sequence[Item]:
        """Tasks without a slot, the oldest first."""
        return list(self._waiting)

    def set_slots(self, slots: int) -> None:
        """From now on; running tasks beyond a lower number finish. Raises UsageError."""
        if not 1 <= slots <= limits.WORKER_SLOTS_MAX:
            raise UsageError(f"{slots} slots are out of range", hint=f"use 1 to {limits.WORKER_SLOTS_MAX}")
        self._slots = slots
        self._wake()

    def require_room(self, more: int = 1) -> None:
        """Raises BusyError when so many more would not fit."""
        if len(self._waiting) + more > self._waiting_max:
            raise BusyError(
                f"{len(self._waiting)} tasks wait for a worker slot already", hint="wait until some have ended"
            )

    # --- taking in ---

    def draft(self, run: BackupRun, subject: str, auth_id: str, *, attempt: int = 1, wait: float = 0.0) -> QueueRecord:
        """The row of a new task, kept nowhere yet; `wait` seconds before it may begin. Raises BusyError, UsageError."""
        drafted = self._tasks.draft(TaskType.BACKUP, subject, auth_id)
        now = self._clock.now_ns()
        return QueueRecord(
            upid=drafted.upid,
            id=subject,
            auth_id=auth_id,
            queued_ns=now,
            not_before_ns=now + int(wait * _NS) if wait else 0,
            attempt=attempt,
            run=run,
        )

    async def submit(self, run: BackupRun, subject: str, auth_id: str) -> str:
        """Queue a run; its UPID. *Durability*: kept when this returns. Raises BusyError, UsageError, NoSpace."""
        self.require_room()
        row = self.draft(run, subject, auth_id)
        await self._table.add([row])
        await self.admit([row])
        return row.upid

    async def admit(self, rows: Sequence[QueueRecord]) -> None:
        """Take in rows that are in the catalog. *Cancellation*: not taken in those are after the next start."""
        with trio.CancelScope(shield=True):
            for row in rows:
                task = await self._tasks.enter(_task_record(row))
                task.waits_for("a free worker slot")
                task.on_stop(self._wake)
                if row.attempt > 1:
                    task.log("info", f"attempt {row.attempt} of {row.run.retries + 1}")
                self._waiting.append(Item(row, task))
        self._wake()

    async def open(self) -> None:
        """Take in what a previous process left: what waited waits, what had begun is over. Raises IbsError."""
        if self._opened:
            return
        known = {item.row.upid for item in (*self._waiting, *self._running)}
        rows = [row for row in await self._table.list() if row.upid not in known]
        await self.admit([row for row in rows if not row.began])
        self._opened = True
        for row in rows:
            if row.began:
                await self._settle(row)

    # --- who is next ---

    def explain(self) -> list[str]:
        """What each waiting task waits for, in queue order."""
        holders = ", ".join(f"{item.task.type} of {item.task.id} ({item.task.state})" for item in self._running)
        busy = f"{len(self._running)} of {self._slots} busy: {holders or 'nobody'}"
        turns = {id(item): number for number, item in enumerate(self._in_turn())}
        return [
            self._held_back(item) or f"a free worker slot, {turns[id(item)]} ahead in the queue; {busy}"
            for item in self._waiting
        ]

    def _held_back(self, item: Item) -> str:
        """Why it may not begin though a slot were free; "" when it may."""
        run, now = item.row.run, self._clock.now()
        if item.row.not_before_ns > self._clock.now_ns():
            moment = datetime.fromtimestamp(item.row.not_before_ns // _NS, UTC)
            return f"attempt {item.row.attempt} of {run.retries + 1}, not before {format_time(moment)}"
        if not in_window(run.window, run.time_zone, now):
            return f"its time window {', '.join(run.window)} {run.time_zone}"
        other = next((one for one in self._running if one.place == item.place), None)
        return f"another backup of {item.row.id}, {other.task.upid}" if other is not None else ""

    def _in_turn(self) -> list[Item]:
        """Those that may begin, in the order in which they would if nothing else came."""
        left: dict[str, list[Item]] = {}
        for item in self._waiting:
            if not self._held_back(item):
                left.setdefault(item.row.run.host, []).append(item)
        served, turn, found = dict(self._served), self._turn, list[Item]()
        while left:
            host = min(left, key=lambda name: (served.get(name, 0), left[name][0].row.queued_ns))
            found.append(left[host].pop(0))
            turn += 1
            served[host] = turn
            if not left[host]:
                del left[host]
        return found

    def _next(self) -> Item | None:
        """Whose turn it is."""
        oldest: dict[str, Item] = {}
        for item in self._waiting:
            if item.row.run.host not in oldest and not self._held_back(item):
                oldest[item.row.run.host] = item
        return min(
            oldest.values(),
            key=lambda item: (self._served.get(item.row.run.host, 0), item.row.queued_ns),
            default=None,
        )

    # --- running ---

    async def serve(self, stopping: trio.Event) -> None:
        """Run what is queued until `stopping`; return when what runs has finished. The rest waits for the next start.

        *Cancellation*: running tasks end FAILED, and wait for another attempt where their run says so.
        """
        async with trio.open_nursery() as nursery:  # noqa: TID251 - the owner of the tasks in slots
            nursery.start_soon(self._wake_when, stopping)
            while not stopping.is_set():
                self._changed = trio.Event()
                await self._end_stopped()
                while len(self._running) < self._slots and (item := self._next()) is not None:
                    self._waiting.remove(item)
                    self._running.append(item)
                    self._turn += 1
                    self._served[item.row.run.host] = self._turn
                    nursery.start_soon(self._run, item)
                if stopping.is_set():
                    break
                with trio.move_on_after(self._patience()):
                    await self._changed.wait()

    def _patience(self) -> float:
        """Seconds until something may begin that nobody tells of: a retry that is due, a window that opens."""
        now = self._clock.now_ns()
        due = [(item.row.not_before_ns - now) / _NS for item in self._waiting if item.row.not_before_ns > now]
        return min([limits.WORKER_LOOK_SECONDS, *due]) if self._waiting else float("inf")

    async def _run(self, item: Item) -> None:
        task, row = item.task, item.row
        begun = False
        try:
            task.waits_for("its entry in the queue")
            task.advance(TaskState.STARTING)
            await self._table.begin(row.upid)
            begun = True
            task.waits_for("")
            await task.run(lambda task: self._work(task, row.run))
        except IbsError as error:  # the state folder is full: it did not begin, and says so
            await task.finish(TaskState.FAILED, error.message)
        finally:
            self._running.remove(item)
            with trio.move_on_after(limits.WORKER_SETTLE_SECONDS, shield=True):
                if not task.state.ended and not begun:
                    await task.finish(TaskState.FAILED, "the worker stopped before it began")
                await self._settle(row)
            self._wake()

    async def _settle(self, row: QueueRecord) -> None:
        """It is over: out of the queue, and in again as another task where it failed and may be tried again."""
        record = await self._tasks.record(row.upid)
        again = None
        failed = record is None or record.state == TaskState.FAILED.value
        try:
            if failed and row.attempt <= row.run.retries:
                pause = min(limits.JOB_RETRY_SECONDS * 2 ** (row.attempt - 1), limits.JOB_RETRY_SECONDS_MAX)
                again = self.draft(row.run, row.id, row.auth_id, attempt=row.attempt + 1, wait=pause)
            await self._table.settle(row.upid, again)
        except IbsError as error:
            _log.error("the queue cannot be written", upid=row.upid, error=error.message)
            return
        if again is not None:
            _log.info("a failed task is queued again", upid=row.upid, again=again.upid, attempt=again.attempt)
            await self.admit([again])

    async def _end_stopped(self) -> None:
        """Tasks that somebody stopped while they waited never begin."""
        for item in [item for item in self._waiting if item.task.stop_wanted]:
            self._waiting.remove(item)
            await item.task.finish(TaskState.CANCELLED, "stopped before it began")
            await self._settle(item.row)

    async def _wake_when(self, stopping: trio.Event) -> None:
        await stopping.wait()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()


def _task_record(row: QueueRecord) -> TaskRecord:
    return TaskRecord(
        row.upid,
        TaskType.BACKUP.value,
        row.id,
        row.auth_id,
        TaskState.QUEUED.value,
        row.queued_ns,
        host=row.run.host,
        job=row.run.job,
        work=msgspec.json.encode(row.run).decode(),
    )
