"""The gc actor owns cleaning up: garbage, sessions and readers that fell silent, what interrupted backups left behind.

Regular work comes as messages of the scheduler; each deletes only what nothing refers to any more, by the engine's
rules, and whatever is deleted is told as a task of type gc.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import trio

from ibs.core import limits
from ibs.core.access import ROOT
from ibs.core.tasks import TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.modes import Use
from ibs.engine.session.discard import Discarded
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import IbsError, NotFoundError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Message
from ibs.services.collecting import StartGc, UndoGc, collect, undo
from ibs.services.plans import RunPlans, StorePlans
from ibs.services.taskqueue import TaskQueue
from ibs.units import format_bytes
from ibs.wire.gc import GcStart

_log = get_logger("gc")


@dataclass(frozen=True, slots=True)
class Expire(Message[None]):
    """End what fell silent, discard what was kept long enough. A second one while the first is at work is dropped."""


@dataclass(frozen=True, slots=True)
class Housekeep(Message[None]):
    """Do the daily chores that `app` handed in."""


@dataclass(frozen=True, slots=True)
class Cleanup(Message[str]):
    """Discard now what interrupted sessions left; the answer is the task's UPID."""

    auth_id: str
    store: str


class Gc(Actor):
    """Cleans up. `chores` are run daily; one that fails is logged and does not keep the others back."""

    role: ClassVar[str] = "gc"
    duty: ClassVar[str] = "collects garbage, ends silent sessions, discards what interrupted backups left behind"

    def __init__(
        self,
        seat: Seat,
        queue: TaskQueue,
        tasks: TaskRegistry,
        datastores: Datastores,
        *,
        clock: Clock,
        chores: Sequence[Callable[[], Awaitable[object]]] = (),
        plans: StorePlans | None = None,
    ) -> None:
        super().__init__(seat)
        self._queue = queue
        self._tasks = tasks
        self._datastores = datastores
        self._clock = clock
        self._chores = chores
        self._plans = plans
        self._expiring = False
        self._planning = False
        self._background: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of queue, mailbox and expiry
            self._background = nursery
            nursery.start_soon(self._queue.serve, self.seat.stopping)
            task_status.started()
            await self.serve()

    async def handle(self, message: Message[Any]) -> Any:
        if isinstance(message, Cleanup):
            return await self._cleanup(message)
        if isinstance(message, StartGc):
            return await self._start(message)
        if isinstance(message, UndoGc):
            return await self._undo(message)
        if isinstance(message, RunPlans):
            # In the background: what is due is asked of this very actor, among others.
            if self._plans is not None and not self._planning and self._background is not None:
                self._planning = True
                self._background.start_soon(self._run_plans, self._plans)
            return None
        if isinstance(message, Expire):
            # In the background: discarding may read every index of a datastore, and messages must not wait for that.
            if not self._expiring and self._background is not None:
                self._expiring = True
                self._background.start_soon(self._expire)
            return None
        if isinstance(message, Housekeep):
            for chore in self._chores:
                try:
                    await chore()
                except IbsError as error:
                    _log.error("a daily chore failed", error=error.message)
            return None
        raise NotImplementedError(type(message).__name__)

    async def _cleanup(self, message: Cleanup) -> str:
        self._queue.require_room()
        datastore = await self._datastores.get(message.store)

        async def work(task: Task) -> str:
            gone = await datastore.cleanup()
            return _told(task, gone)

        task = await self._tasks.start(TaskType.GC, f"{message.store}:cleanup", message.auth_id)
        self._queue.submit(task, work)
        return task.upid

    async def _start(self, message: StartGc) -> str:
        self._queue.require_room()
        datastore = await self._datastores.get(message.store)
        datastore.context.modes.require(Use.GC)
        subject = f"{message.store}:dry-run" if message.request.dry_run else message.store
        task = await self._tasks.start(TaskType.GC, subject, message.auth_id)
        self._queue.submit(task, lambda task: self._collect(task, message.store, message.request))
        return task.upid

    async def _collect(self, task: Task, store: str, request: GcStart) -> str:
        return await collect(task, await self._datastores.get(store), request)

    async def _undo(self, message: UndoGc) -> str:
        self._queue.require_room()
        datastore = await self._datastores.get(message.store)
        datastore.context.modes.require(Use.REPAIR)
        await datastore.gc.trash.require_some()
        task = await self._tasks.start(TaskType.GC, f"{message.store}:undo", message.auth_id)
        self._queue.submit(task, lambda task: undo(task, datastore, message.request))
        return task.upid

    async def _run_plans(self, plans: StorePlans) -> None:
        try:
            await plans.run_due()
        finally:
            self._planning = False

    async def _expire(self) -> None:
        try:
            for datastore in self._datastores.opened():
                try:
                    await self._expire_in(datastore)
                except IbsError as error:
                    _log.error("cleaning up failed", datastore=datastore.name, error=error.message)
        finally:
            self._expiring = False

    async def _expire_in(self, datastore: Datastore) -> None:
        due = [
            session_id
            for session_id, one in datastore.sessions.interrupted_sessions.items()
            if self._clock.monotonic() - one.since > limits.INTERRUPTED_SESSION_KEEP_SECONDS
        ]
        if due and datastore.context.modes.allows(Use.PRUNE):  # else they wait, and nobody is told each minute
            task = await self._tasks.start(TaskType.GC, f"{datastore.name}:expired", str(ROOT))
            await task.run(lambda task: _discard(task, datastore, due))
        await datastore.expire()


async def _discard(task: Task, datastore: Datastore, session_ids: Sequence[str]) -> str:
    gone = Discarded()
    for session_id in session_ids:
        try:
            gone += await datastore.sessions.discard(session_id)
        except NotFoundError:
            task.log("info", f"session {session_id} is in use again")
    return _told(task, gone)


def _told(task: Task, gone: Discarded) -> str:
    text = f"{gone.sessions} interrupted sessions discarded, {gone.chunks} chunks, {format_bytes(gone.bytes)} freed"
    task.log("info", text)
    task.progress(done_bytes=gone.bytes)
    return text
