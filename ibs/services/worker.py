"""The worker: slots and a durable queue for the backups that the server makes, of itself and of hosts.

`status` answers who runs, who waits, and for what. The queue outlives the actor, and what waits in it outlives the
server. Jobs that are due come as a message from the scheduler, and their tasks go into the same queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec
import trio

from ibs.core.names import Group, Namespace, SnapshotName, parse_source
from ibs.core.retention import zone_of
from ibs.core.schedule import check_windows
from ibs.core.tasks import TaskState
from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Message
from ibs.services.workqueue import WorkQueue
from ibs.wire.jobs import TaskKeeping
from ibs.wire.system import BackupRun, TaskView, WorkerView

if TYPE_CHECKING:
    from ibs.engine.task import Task
    from ibs.engine.tasks import TaskRegistry

_log = get_logger("worker")
SLOTS = "worker-slots"
"""Setting that remembers the number of slots."""
KEEPING = "task-keeping"
"""Setting that remembers how long ended tasks are kept."""
RunBackup = Callable[["Task", BackupRun], Awaitable[str | None]]
"""Back up in a slot as that task; the answer is its closing message."""
CheckStore = Callable[[str], Awaitable[object]]
"""Raises NotFoundError or DatastoreOffline when that datastore cannot be used."""


@dataclass(frozen=True, slots=True)
class Submit(Message[str]):
    """Queue a backup of the server's own files; the answer is its UPID."""

    auth_id: str
    run: BackupRun


@dataclass(frozen=True, slots=True)
class WorkerStatus(Message[WorkerView]):
    """Ask for slots and queue."""


@dataclass(frozen=True, slots=True)
class Retry(Message[str]):
    """Queue again what a task that has ended was to do; the answer is the UPID of the new one."""

    auth_id: str
    upid: str


@dataclass(frozen=True, slots=True)
class KeepTasks(Message[TaskKeeping]):
    """Ask how long ended tasks are kept, or change it."""

    change: TaskKeeping | None


class RunJobs(Message[None]):
    """Queue what the jobs say is due."""


class Jobs(Protocol):
    """Jobs with their times. Implemented by `services.jobs`."""

    async def run_due(self) -> None:
        """Queue the tasks of every job that is due."""
        ...


class SlotMemory(Protocol):
    """Where the number of slots is remembered. Implemented by the catalog's settings."""

    async def get(self, name: str) -> str | None: ...

    async def set(self, name: str, value: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SetSlots(Message[WorkerView]):
    """Change the number of slots while tasks run."""

    slots: int


class Worker(Actor):
    """Runs queued tasks in its slots."""

    role: ClassVar[str] = "worker"
    duty: ClassVar[str] = "runs queued backups of the server and of hosts in its slots"

    def __init__(
        self,
        seat: Seat,
        queue: WorkQueue,
        tasks: TaskRegistry,
        *,
        node: str,
        check_store: CheckStore,
        memory: SlotMemory,
        jobs: Jobs | None = None,
    ) -> None:
        super().__init__(seat)
        self._queue = queue
        self._tasks = tasks
        self._node = node
        self._check_store = check_store
        self._memory = memory
        self._jobs = jobs

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        kept = await self._memory.get(SLOTS)
        if kept is not None and kept.isdigit():
            self._queue.set_slots(int(kept))
        if await self._memory.get(KEEPING) is not None:
            await self._keep(None)
        await self._queue.open()
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of queue and mailbox
            nursery.start_soon(self._queue.serve, self.seat.stopping)
            task_status.started()
            await self.serve()

    async def handle(self, message: Message[Any]) -> Any:
        if isinstance(message, Submit):
            return await self._submit(message.run, message.auth_id)
        if isinstance(message, Retry):
            return await self._submit(await self._work_of(message.upid), message.auth_id)
        if isinstance(message, RunJobs):
            return await self._jobs.run_due() if self._jobs is not None else None
        if isinstance(message, KeepTasks):
            return await self._keep(message.change)
        if isinstance(message, SetSlots):
            self._queue.set_slots(message.slots)
            await self._memory.set(SLOTS, str(message.slots))
            _log.info("worker slots changed", slots=message.slots)
        elif not isinstance(message, WorkerStatus):
            raise NotImplementedError(type(message).__name__)
        return await self._view()

    async def _keep(self, change: TaskKeeping | None) -> TaskKeeping:
        """What is in force, from now on the change; what is older goes at once."""
        if change is not None:
            await self._memory.set(KEEPING, msgspec.json.encode(change).decode())
        kept = await self._memory.get(KEEPING)
        keeping = msgspec.json.decode(kept, type=TaskKeeping) if kept is not None else TaskKeeping()
        self._tasks.keep_count, self._tasks.keep_days = keeping.count, keeping.days
        if change is not None:
            await self._tasks.trim()
        return keeping

    async def _submit(self, run: BackupRun, auth_id: str) -> str:
        run = checked(run, self._node)
        self._queue.require_room()
        await self._check_store(run.store)
        return await self._queue.submit(run, subject_of(run), auth_id)

    async def _work_of(self, upid: str) -> BackupRun:
        """What that task was to do. Raises NotFoundError, UsageError, ConflictError."""
        record = await self._tasks.record(upid)
        if record is None:
            raise NotFoundError(f"no task {upid[:200]}", hint="see: ironcore-backup task list")
        if not record.work:
            raise UsageError(
                f"a {record.type} task like this cannot be repeated from here",
                hint="only backups that the server made can be; start it again with the command that started it",
            )
        if not TaskState(record.state).ended:
            raise ConflictError(f"task {upid[:200]} has not ended: it is {record.state}", hint="stop it, or wait")
        return msgspec.json.decode(record.work, type=BackupRun)

    async def _view(self) -> WorkerView:
        # Taken together before the first await, because the queue goes on meanwhile.
        in_slots, in_queue, waits = self._queue.running, self._queue.waiting, self._queue.explain()
        running = [await self._tasks.get(task.upid) for task in in_slots]
        queued = [_waiting(await self._tasks.get(one.task.upid), why) for one, why in zip(in_queue, waits, strict=True)]
        return WorkerView(slots=self._queue.slots, running=running, queued=queued)


def subject_of(run: BackupRun) -> str:
    """What the task of a checked run is about."""
    return f"{run.store}:{SnapshotName(Namespace.parse(run.namespace), Group(run.backup_type, run.backup_id))}"


def checked(run: BackupRun, node: str) -> BackupRun:
    """The request with its defaults, if it makes sense. Raises UsageError."""
    if not run.sources:
        raise UsageError("no source given", hint="name at least one, such as etc.tree:/etc")
    archives = [parse_source(source)[0] for source in run.sources]
    if len(set(archives)) != len(archives):
        raise UsageError("two sources have the same archive name", hint="give each its own: etc.tree:/etc")
    for source in run.sources:
        if not parse_source(source)[1].startswith("/"):
            raise UsageError(f"source {source!r} is not an absolute path", hint="write it like etc.tree:/etc")
    Namespace.parse(run.namespace)
    check_windows(run.window)
    zone_of(run.time_zone)
    host = "" if run.host == node else run.host
    run = msgspec.structs.replace(run, host=host, backup_id=run.backup_id or host or node)
    Group(run.backup_type, run.backup_id)
    return run


def _waiting(view: TaskView, why: str) -> TaskView:
    return msgspec.structs.replace(view, waits_for=why)
