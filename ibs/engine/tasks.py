"""The registry of tasks: who asked for what, how far it is, its log, its end, and how to stop it.

Made by `app`; used by every use case and service that does something a person may wait for. The running tasks live
here in memory; their rows (`catalog`) and logs (`engine.tasklog`) follow behind: lines go to disk in batches as fast as
it takes them, figures once a second, an end before `finish` returns. So logging and progress cost the caller
microseconds and never wait, and a killed process loses at most the lines logged since the batch being written began.

Invariants: a task ends exactly once, and its last log line says how; an end that could not be written (full disk)
stays in memory and is tried again; memory is bounded by `limits.TASKS_OPEN_MAX` and
`limits.TASK_LOG_WAITING_LINES_MAX`. Everything here belongs to the trio thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import trio

from ibs.catalog.tasks import TaskFilter, TaskRecord, TaskTable
from ibs.core import limits
from ibs.core.access import check_auth_id
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time
from ibs.core.tasks import ENDED_STATES, TaskState, TaskType, last_line
from ibs.core.upid import Upid
from ibs.engine import tasklog
from ibs.engine.task import INTERRUPTED, Task
from ibs.errors import BusyError, ConflictError, FailedError, NotFoundError, UnavailableError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.wire.system import BackupRun, TaskLogLine, TaskView

_FINISH_SECONDS_MAX = 10.0
_TRIM_EVERY = 256
_SEVERITIES = {
    TaskState.OK: Severity.INFO,
    TaskState.WARNING: Severity.WARNING,
    TaskState.FAILED: Severity.ERROR,
    TaskState.CANCELLED: Severity.NOTICE,
}
_SOURCES: dict[str, EventSource] = {
    **{source.value: source for source in EventSource if source.value in set(TaskType)},
    TaskType.GC.value: EventSource.DATASTORE,
    TaskType.PRUNE.value: EventSource.DATASTORE,
}
_log = get_logger("worker")


class TaskRegistry:
    """All tasks of this server. `run` must be running for lines and figures to reach the disk before a task ends."""

    def __init__(
        self,
        table: TaskTable,
        folder: Path,
        *,
        pool: Pool,
        clock: Clock,
        node: str,
        publish: Callable[[Event], None],
        waiting: Callable[[], Awaitable[Collection[str]]] | None = None,
    ) -> None:
        """`folder` holds the logs; `node` is the server's short name; `publish` puts an event on the bus.

        `waiting` tells, at the start, which tasks of a previous process wait in a queue that outlived it.
        """
        self._waiting = waiting
        self._table = table
        self._folder = folder
        self._pool = pool
        self._clock = clock
        self._node = node
        self._publish = publish
        self._pid, self._process_start = os.getpid(), process_start()
        self._own = f"UPID:{node}:{self._pid:08X}:{self._process_start:08X}:"
        self._numbers = itertools.count(1)
        self._live: dict[str, Task] = {}
        self._with_lines: dict[str, Task] = {}
        self._to_save: dict[str, Task] = {}
        self._flushing = trio.Lock()
        self._lines_wait = trio.Event()
        self._rows_wait = trio.Event()
        self._ended = 0
        self.keep_count, self.keep_days = 0, 0

    async def start(self, kind: TaskType, subject: str, auth_id: str, *, state: TaskState = TaskState.QUEUED) -> Task:
        """A new task of `kind` about `subject` (such as a datastore and group), asked for by `auth_id`.

        *Durability*: its row is kept when this returns, unless the disk is full: then the task starts all the same,
        since it may be what frees space. Raises BusyError when too many run, UsageError for a bad subject.
        """
        return await self.enter(self.draft(kind, subject, auth_id, state=state))

    def draft(self, kind: TaskType, subject: str, auth_id: str, *, state: TaskState = TaskState.QUEUED) -> TaskRecord:
        """The record of a new task, kept nowhere yet: for a queue that keeps it first, and then lets it `enter`.

        Raises BusyError when too many run, UsageError for a bad subject.
        """
        if len(self._live) >= limits.TASKS_OPEN_MAX:
            raise BusyError(f"{len(self._live)} tasks are open already", hint="wait for some to end")
        now = self._clock.now_ns()
        upid = Upid(
            node=self._node,
            pid=self._pid,
            process_start=self._process_start,
            task_number=next(self._numbers),
            started=now // 1_000_000_000,
            type=kind,
            id=subject,
            auth_id=check_auth_id(auth_id),
        )
        return TaskRecord(str(upid), kind.value, subject, auth_id, state.value, now)

    async def enter(self, record: TaskRecord) -> Task:
        """The task of a record that was drafted, by this process or (then it waited in a queue) by one before.

        *Durability*: as of `start`.
        """
        task = Task(self, record, tasklog.LogBuffer(tasklog.log_path(self._folder, record.upid)))
        if not record.upid.startswith(self._own):
            task.buffer.number, task.buffer.offset = await self._pool.disk(tasklog.recover, task.buffer.path)
        self._live[task.upid] = task
        try:
            await self._save([task])
        except BaseException:
            del self._live[task.upid]
            raise
        return task

    async def record(self, upid: str) -> TaskRecord | None:
        """What is kept of a task; None when it is not known."""
        task = self._live.get(upid)
        return task.record if task is not None else await self._table.get(upid)

    async def get(self, upid: str) -> TaskView:
        """Raises NotFoundError."""
        task = self._live.get(upid)
        record = task.record if task is not None else await self._table.get(upid)
        if record is None:
            raise NotFoundError(f"no task {upid[:200]}", hint="see: ironcore-backup task list")
        return _view(record)

    async def list(
        self,
        *,
        state: str = "",
        type: str = "",  # noqa: A002
        auth_id: str = "",
        limit: int = 50,
        wanted: TaskFilter | None = None,
    ) -> list[TaskView]:
        """The newest first; empty filters pass everything; `running` includes Starting. `wanted` says more."""
        limit = min(limit, limits.LIST_ROWS_MAX)
        states = {state, TaskState.STARTING.value} if state == TaskState.RUNNING.value else {state} - {""}
        wanted = replace(wanted or TaskFilter(), states=frozenset(states), kind=type, auth_id=auth_id)
        found = {task.upid: task.record for task in self._live.values() if wanted.passes(task.record)}
        ended = frozenset(name.value for name in ENDED_STATES if not states or name.value in states)
        if ended:
            for record in await self._table.list(replace(wanted, states=ended), limit=limit):
                found.setdefault(record.upid, record)
        newest = sorted(found.values(), key=lambda record: (record.started_ns, record.upid), reverse=True)
        return [_view(record) for record in newest[:limit]]

    def open_tasks(self) -> Sequence[Task]:
        """Those that have not ended, oldest first."""
        return [task for task in self._live.values() if not task.state.ended]

    async def log(self, upid: str, *, first: int = 0, follow: bool = False) -> AsyncIterator[TaskLogLine]:
        """The log's lines from number `first` on; with `follow`, to the last line of a task that still runs.

        A slow reader costs nothing: each gets what it asks for from the file. *Cancellation*: at any line.
        """
        path, offset = tasklog.log_path(self._folder, upid), 0
        while True:
            task = self._live.get(upid)
            whole = task is None or (task.state.ended and not task.buffer.waiting)
            grown = None if task is None or whole else task.grown
            lines, end = await self._pool.disk(tasklog.read_lines, path, offset, first)
            for line in lines:
                yield line
            if end == offset:
                if not follow or grown is None:
                    return
                await grown.wait()
            offset = end

    async def stop(self, upid: str) -> None:
        """Ask the task to stop; it ends CANCELLED soon. Raises NotFoundError, ConflictError when it has ended."""
        task = self._live.get(upid)
        if task is None or task.state.ended:
            view = await self.get(upid)
            raise ConflictError(f"task {upid[:200]} has ended already: {view.state}")
        task.ask_stop()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Close the tasks of a previous process, then bring lines and figures to disk until cancelled.

        *Cancellation*: what waits is written first.
        """
        await self._recover()
        await self.trim()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - owns its two writers, which end with it
                nursery.start_soon(self._keep_lines)
                nursery.start_soon(self._keep_rows)
        finally:
            with trio.move_on_after(_FINISH_SECONDS_MAX, shield=True):
                await self._flush_all()
                await self._save([*self._to_save.values()])

    def line(self, task: Task, level: str, text: str, *, last: bool = False) -> None:
        """For `Task` only."""
        task.buffer.add(format_time(self._clock.now()), level, text, last=last)
        self._with_lines[task.upid] = task
        self._lines_wait.set()

    def changed(self, task: Task) -> None:
        """For `Task` only."""
        self._to_save[task.upid] = task
        self._rows_wait.set()

    async def finished(self, task: Task) -> None:
        """For `Task` only."""
        task.record = replace(task.record, ended_ns=self._clock.now_ns())
        self.changed(task)
        self._publish(_event(self._clock.now(), task.record))
        with trio.move_on_after(_FINISH_SECONDS_MAX, shield=True):
            await self._flush(task)
            await self._save([task])
        self._ended += 1
        if self._ended % _TRIM_EVERY == 0:
            await self.trim()

    async def _keep_lines(self) -> None:
        while True:
            await self._lines_wait.wait()
            self._lines_wait = trio.Event()
            if not await self._flush_all():
                self._lines_wait.set()
                await self._clock.sleep(limits.TASK_SAVE_SECONDS)

    async def _keep_rows(self) -> None:
        while True:
            await self._rows_wait.wait()
            await self._clock.sleep(limits.TASK_SAVE_SECONDS)
            self._rows_wait = trio.Event()
            await self._save([*self._to_save.values()])

    async def _flush_all(self) -> bool:
        """True when every line has reached its file."""
        results = [await self._flush(task) for task in [*self._with_lines.values()]]
        return all(results)

    async def _flush(self, task: Task) -> bool:
        async with self._flushing:
            if not task.buffer.waiting:
                return True
            try:
                await task.buffer.flush(self._pool)
            except OSError as error:
                _log.error("a task log cannot be written", upid=task.upid, error=str(error))
                return False
            if not task.buffer.waiting:
                self._with_lines.pop(task.upid, None)
            # No await up to here since the write: a follower sees either the old event unset or the new lines.
            grown, task.grown = task.grown, trio.Event()
            grown.set()
            self._let_go(task)
            return True

    async def _save(self, tasks: Sequence[Task]) -> None:
        """Write the rows as they are now; on a full disk they wait for the next turn."""
        records = {task.upid: task.record for task in tasks}
        if not records:
            return
        try:
            await self._table.save(records.values())
        except (FailedError, UnavailableError) as error:
            _log.error("task rows cannot be written", tasks=len(records), error=error.message)
            for task in tasks:
                self.changed(task)
            return
        for task in tasks:
            if task.record is records[task.upid]:
                self._to_save.pop(task.upid, None)
            self._let_go(task)

    def _let_go(self, task: Task) -> None:
        """Forget an ended task once its row and its log are on disk; whoever follows it then reads the rest."""
        waits = task.upid in self._to_save or task.buffer.waiting
        if task.state.ended and not waits and self._live.pop(task.upid, None) is not None:
            task.grown.set()

    async def _recover(self) -> None:
        """Tasks that had not ended belong to a process that is gone: end them, but for those that wait in a queue."""
        waiting = await self._waiting() if self._waiting is not None else ()
        for record in await self._table.unfinished():
            if record.upid.startswith(self._own) or record.upid in waiting:
                continue
            closed = replace(record, state=TaskState.FAILED.value, message=INTERRUPTED, ended_ns=self._clock.now_ns())
            task = Task(self, closed, tasklog.LogBuffer(tasklog.log_path(self._folder, record.upid)))
            self._live[task.upid] = task
            self.changed(task)
            try:
                task.buffer.number, task.buffer.offset = await self._pool.disk(tasklog.recover, task.buffer.path)
                self.line(task, "error", last_line(TaskState.FAILED, record.warnings, INTERRUPTED), last=True)
            except OSError as error:
                _log.error("the log of an interrupted task cannot be read", upid=record.upid, error=str(error))
            _log.warning("a task of the previous run was interrupted", upid=record.upid)
            self._publish(_event(self._clock.now(), closed))
        await self._flush_all()
        await self._save([*self._to_save.values()])

    async def trim(self) -> None:
        """Forget ended tasks beyond `keep_count` (0: the limit) or `keep_days` (0: no matter), with their logs."""
        try:
            before = self._clock.now_ns() - self.keep_days * 86_400 * 1_000_000_000 if self.keep_days else 0
            forgotten = await self._table.trim(self.keep_count or limits.TASKS_KEPT_MAX, before)
            if forgotten:
                await self._pool.disk(tasklog.remove_logs, self._folder, forgotten)
        except (FailedError, UnavailableError, OSError) as error:
            _log.error("old tasks cannot be forgotten", error=str(error))


def process_start() -> int:
    """When this process started, in clock ticks since boot (field 22 of proc_pid_stat(5))."""
    content = Path("/proc/self/stat").read_text("ascii", "replace")
    return int(content.rpartition(")")[2].split()[19])


def _view(record: TaskRecord) -> TaskView:
    figures = record.figures
    return TaskView(
        upid=record.upid,
        type=record.type,
        id=record.id,
        auth_id=record.auth_id,
        state=record.state,
        started=_time(record.started_ns),
        ended=_time(record.ended_ns) if record.ended_ns is not None else "",
        message=record.message,
        warnings=record.warnings,
        done_bytes=figures.done_bytes,
        total_bytes=figures.total_bytes,
        files=figures.files,
        waits_for=figures.waits_for,
        stages=figures.stages,
        host=record.host,
        job=record.job,
    )


def _time(time_ns: int) -> str:
    return format_time(datetime.fromtimestamp(time_ns // 1_000_000_000, UTC))


def _event(now: datetime, record: TaskRecord) -> Event:
    state = TaskState(record.state)
    text = f"{record.type} of {record.id or record.auth_id}: {state}" + (
        f", {record.message}" if record.message else ""
    )
    more = _told_of(record)
    return Event(
        time=now,
        source=_SOURCES.get(record.type, EventSource.SYSTEM),  # a newer program may have known more types
        severity=_SEVERITIES[state],
        kind="task.ended",
        text=text[: limits.EVENT_TEXT_CHARS_MAX],
        fields={
            "upid": record.upid,
            "type": record.type,
            "id": record.id,
            "auth_id": record.auth_id,
            "state": record.state,
            "message": record.message,
            "warnings": record.warnings,
            "done_bytes": record.figures.done_bytes,
            **more,
        },
    )


def _told_of(record: TaskRecord) -> dict[str, str]:
    """What rules of notification may choose by besides."""
    try:
        run = msgspec.json.decode(record.work, type=BackupRun) if record.work else None
    except msgspec.MsgspecError:
        run = None
    found = {"host": record.host, "job": record.job}
    if run is not None:
        group = run.notification_group
        found |= {"notification_group": group, "datastore": run.store, "namespace": run.namespace}
    return {name: value for name, value in found.items() if value}
