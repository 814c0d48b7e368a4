"""Desk for the upkeep of datastores: maintenance that waits for work to end, and repair, each shown as a task.

Made by `app`, used through `ServerContext`. The rules are the engine's; here they are told as tasks that run in the
background for as long as the server lives, outside the actors' queues: what cures a datastore must not wait behind what
its illness holds up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ibs.core import limits
from ibs.core.tasks import TaskType
from ibs.engine.datastores import Datastores
from ibs.engine.modes import Mode, Use
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import UsageError
from ibs.wire.datastore import MaintenanceRequest
from ibs.wire.session import StageFigures

Spawn = Callable[[Callable[[], Awaitable[object]]], None]
"""Run this in the background, for as long as the server lives."""

_MODES = {"off": Mode.NORMAL, "read-only": Mode.READ_ONLY, "offline": Mode.OFFLINE}


class Upkeep:
    """One a server."""

    def __init__(self, datastores: Datastores, tasks: TaskRegistry, *, spawn: Spawn) -> None:
        self._datastores = datastores
        self._tasks = tasks
        self._spawn = spawn

    async def maintain(self, store: str, auth_id: str, request: MaintenanceRequest) -> str:
        """Change the maintenance of a datastore; in force when it returns the UPID of the task that sees it through.

        Raises UsageError, NotFoundError, DatastoreOffline.
        """
        mode = _MODES.get(request.mode)
        if mode is None:
            raise UsageError(f"maintenance {request.mode[:64]!r} is not known", hint=f"use {', '.join(_MODES)}")
        seconds = limits.MODE_DRAIN_SECONDS if request.drain_seconds is None else request.drain_seconds
        if not 0 <= seconds <= limits.MODE_DRAIN_SECONDS_MAX:
            raise UsageError(f"{seconds} seconds are out of range", hint=f"use 0 to {limits.MODE_DRAIN_SECONDS_MAX}")
        view = await self._datastores.maintain(store, auth_id, mode, request.reason)

        async def work(task: Task) -> str:
            for warning in view.warnings:
                task.warn(warning)
            done = f"the maintenance of datastore {store} has ended; it is {view.status}"
            if mode is not Mode.NORMAL:
                done = await self._datastores.settle(store, seconds, lambda text: task.log("info", text))
            task.log("info", done)
            return done

        return await self._start(TaskType.MAINTENANCE, f"{store}:{request.mode}", auth_id, work)

    async def reindex(self, store: str, auth_id: str) -> str:
        """Rebuild the chunk index and the view of snapshots from the store alone; the answer is the task's UPID.

        Raises NotFoundError, DatastoreOffline, UnderMaintenance.
        """
        view = await self._datastores.view(store)
        if view.status != "offline":  # one that cannot be opened may be just what its new index cures
            (await self._datastores.get(store)).context.modes.require(Use.REPAIR)

        async def work(task: Task) -> str:
            def progress(done: int, total: int) -> None:
                task.progress(stages={"index": StageFigures(items=done, bytes=0)}, files=done)
                if done * 10 // total != (done - limits.REINDEX_PREFIXES) * 10 // total:
                    task.log("info", f"{done} of {total} chunk folders compared with the index")

            done = await self._datastores.reindex(store, lambda text: task.log("info", text), progress)
            for problem in done.damaged[: limits.VERIFY_BAD_CHUNKS_LISTED]:
                task.warn(problem)
            task.log("info", done.text)
            return done.text

        return await self._start(TaskType.REPAIR, f"{store}:reindex", auth_id, work)

    async def _start(
        self, kind: TaskType, subject: str, auth_id: str, work: Callable[[Task], Awaitable[str | None]]
    ) -> str:
        task = await self._tasks.start(kind, subject, auth_id)
        self._spawn(lambda: task.run(work))
        return task.upid
