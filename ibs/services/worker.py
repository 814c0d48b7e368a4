"""The worker: slots and a queue for what the server runs itself (backups of its own files for now).

`status` answers who runs, who waits, and for what. The backup itself is handed in by `app`; the queue outlives the
actor, so accepted tasks survive its restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import trio

from ibs.core.names import Group, Namespace, SnapshotName, parse_source
from ibs.core.tasks import TaskType
from ibs.errors import UsageError
from ibs.log import get_logger
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Message
from ibs.services.taskqueue import TaskQueue
from ibs.wire.system import BackupRun, TaskView, WorkerView

if TYPE_CHECKING:
    from ibs.engine.task import Task
    from ibs.engine.tasks import TaskRegistry

_log = get_logger("worker")
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
class SetSlots(Message[WorkerView]):
    """Change the number of slots while tasks run."""

    slots: int


class Worker(Actor):
    """Runs queued tasks in its slots."""

    role: ClassVar[str] = "worker"
    duty: ClassVar[str] = "runs queued backups of the server's own files in its slots"

    def __init__(
        self,
        seat: Seat,
        queue: TaskQueue,
        tasks: TaskRegistry,
        *,
        node: str,
        check_store: CheckStore,
        run_backup: RunBackup,
    ) -> None:
        super().__init__(seat)
        self._queue = queue
        self._tasks = tasks
        self._node = node
        self._check_store = check_store
        self._run_backup = run_backup

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of queue and mailbox
            nursery.start_soon(self._queue.serve, self.seat.stopping)
            task_status.started()
            await self.serve()

    async def handle(self, message: Message[Any]) -> Any:
        if isinstance(message, Submit):
            return await self._submit(message)
        if isinstance(message, SetSlots):
            self._queue.set_slots(message.slots)
            _log.info("worker slots changed", slots=message.slots)
        elif not isinstance(message, WorkerStatus):
            raise NotImplementedError(type(message).__name__)
        return await self._view()

    async def _submit(self, message: Submit) -> str:
        run = checked(message.run, self._node)
        self._queue.require_room()
        await self._check_store(run.store)
        name = SnapshotName(Namespace.parse(run.namespace), Group(run.backup_type, run.backup_id))
        task = await self._tasks.start(TaskType.BACKUP, f"{run.store}:{name}", message.auth_id)
        self._queue.submit(task, lambda task: self._run_backup(task, run))
        return task.upid

    async def _view(self) -> WorkerView:
        # Taken together before the first await, because the queue goes on meanwhile.
        in_slots, in_queue, waits = self._queue.running, self._queue.waiting, self._queue.explain()
        running = [await self._tasks.get(task.upid) for task in in_slots]
        queued = [_waiting(await self._tasks.get(task.upid), why) for task, why in zip(in_queue, waits, strict=True)]
        return WorkerView(slots=self._queue.slots, running=running, queued=queued)


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
    run = msgspec.structs.replace(run, backup_id=run.backup_id or run.host or node)
    Group(run.backup_type, run.backup_id)
    return run


def _waiting(view: TaskView, why: str) -> TaskView:
    return msgspec.structs.replace(view, waits_for=why)
