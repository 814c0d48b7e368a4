"""Tasks, the worker's queue, verification and server-run backups."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from ibs.catalog.tasks import TaskFilter
from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import NDJSON, Call, Query, Routes, authenticated, needs
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.core.names import parse_time
from ibs.core.tasks import TaskState, TaskType
from ibs.errors import NotFoundError, UsageError
from ibs.services.mending import parse_origin
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import Damage, VerifyOutlook, VerifyReport, VerifyStart
from ibs.wire.system import BackupRun, TaskLogLine, TaskView, WorkerView

routes = Routes("tasks")
_OWN_OR_AUDIT = authenticated("Task.Audit on /system, or the caller's own tasks")
_OWN_OR_MODIFY = authenticated("System.Modify on /system, or the caller's own task; and Datastore.Backup")
_OWN_OR_STOP = authenticated("Task.Stop on /system, or the caller's own task")


def _one_of(kind: type[TaskState] | type[TaskType], text: str, what: str) -> str:
    if text and text not in {item.value for item in kind}:
        raise UsageError(
            f"{what} {text[:64]!r} is not known", hint=f"use one of {', '.join(item.value for item in kind)}"
        )
    return text


async def _task(call: Call, privilege: Privilege) -> TaskView:
    """The task, if the caller may see it; else the same answer as for one that does not exist."""
    task = await call.context.tasks.get(call.path["upid"])
    if task.auth_id != call.principal.auth_id and not call.context.access.allows(call.principal, privilege, "/system"):
        raise NotFoundError(f"no task {call.path['upid']}", hint="see: ironcore-backup task list")
    return task


@routes.route(
    "GET",
    "/tasks",
    access=_OWN_OR_AUDIT,
    answer=list[TaskView],
    query=[
        Query("state", doc="only tasks in this state; running includes Starting"),
        Query("type", doc="only tasks of this type"),
        Query("host", doc="only tasks of this host"),
        Query("user", doc="only tasks that this identity asked for; without a token, those of all its tokens too"),
        Query("job", doc="only tasks of this job"),
        Query("since", doc="only tasks that were started at this time or later, RFC 3339"),
        Query("until", doc="only tasks that were started before this time"),
        Query("limit", "integer", 50, doc="at most so many, newest first"),
    ],
)
async def task_list(call: Call) -> list[TaskView]:
    """List tasks, newest first."""
    everything = call.context.access.allows(call.principal, Privilege.TASK_AUDIT, "/system")
    query = call.query
    wanted = TaskFilter(
        host=query["host"],
        user=query["user"],
        job=query["job"],
        since_ns=_time_ns(query["since"]),
        until_ns=_time_ns(query["until"]),
    )
    return await call.context.tasks.list(
        state=_one_of(TaskState, call.query["state"], "state"),
        type=_one_of(TaskType, call.query["type"], "type"),
        auth_id="" if everything else call.principal.auth_id,
        limit=call.query["limit"],
        **({"wanted": wanted} if wanted != TaskFilter() else {}),
    )


def _time_ns(text: str) -> int:
    return int(parse_time(text).timestamp()) * 1_000_000_000 if text else 0


@routes.route("GET", "/tasks/{upid}", access=_OWN_OR_AUDIT, answer=TaskView)
async def task_show(call: Call) -> TaskView:
    """Show one task."""
    return await _task(call, Privilege.TASK_AUDIT)


@routes.route(
    "GET",
    "/tasks/{upid}/log",
    access=_OWN_OR_AUDIT,
    answer=NDJSON,
    query=[
        Query("follow", "boolean", default=False, doc="stay until the task ends"),
        Query("from", "integer", 0, maximum=10_000_000, doc="number of the first line"),
    ],
)
async def task_log(call: Call) -> AsyncIterator[TaskLogLine]:
    """Stream a task's log, one JSON object a line."""
    task = await _task(call, Privilege.TASK_AUDIT)
    return call.context.tasks.log(task.upid, first=call.query["from"], follow=call.query["follow"])


@routes.route("POST", "/tasks/{upid}/stop", access=_OWN_OR_STOP, answer=TaskView)
async def task_stop(call: Call) -> TaskView:
    """Ask a task to stop."""
    task = await _task(call, Privilege.TASK_STOP)
    await call.look()
    await call.context.tasks.stop(task.upid)
    return await call.context.tasks.get(task.upid)


@routes.route("POST", "/tasks/{upid}/retry", access=_OWN_OR_MODIFY, answer=TaskStarted)
async def task_retry(call: Call) -> TaskStarted:
    """Queue again what an ended task was to do, as a task of its own."""
    await _task(call, Privilege.SYSTEM_MODIFY)
    record = await call.context.tasks.record(call.path["upid"])
    by = call.principal.auth_id
    if record is not None and record.work:
        run = msgspec.json.decode(record.work, type=BackupRun)
        path = datastore_path(run.store, run.namespace)
        call.context.access.require(call.principal, Privilege.DATASTORE_BACKUP, path)
        by = record.auth_id  # it writes the same group as before
    return TaskStarted(upid=await call.context.retry_task(by, call.path["upid"]))


@routes.route("GET", "/worker/status", access=needs(Privilege.SYSTEM_AUDIT, "/system"), answer=WorkerView)
async def worker_status(call: Call) -> WorkerView:
    """Show the worker's slots and queue."""
    return await call.context.worker_status()


@routes.route("POST", "/backups", access=needs(Privilege.SYSTEM_MODIFY, "/system"), body=BackupRun, answer=TaskStarted)
async def backup_run(call: Call) -> TaskStarted:
    """Back up files of the server itself or of a host, in a worker slot."""
    request: BackupRun = call.body
    path = datastore_path(request.store, request.namespace)
    call.context.access.require(call.principal, Privilege.DATASTORE_BACKUP, path)
    if request.host:
        call.context.hosts.get(request.host)
    return TaskStarted(upid=await call.context.start_backup(call.principal.auth_id, request))


@routes.route(
    "POST",
    "/datastores/{store}/verify",
    access=needs(Privilege.DATASTORE_VERIFY, "/datastore/{store}"),
    body=VerifyStart,
    answer=TaskStarted,
)
async def verify_start(call: Call) -> TaskStarted:
    """Verify a datastore's snapshots. To mend from a remote needs Datastore.Modify, and Remote.Read on it, too."""
    request: VerifyStart = call.body
    if request.repair_from:
        remote, _ = parse_origin(request.repair_from)
        call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, f"/datastore/{call.path['store']}")
        call.context.access.require(call.principal, Privilege.REMOTE_READ, f"/remote/{remote}")
    return TaskStarted(upid=await call.context.start_verify(call.principal.auth_id, call.path["store"], request))


@routes.route(
    "POST",
    "/datastores/{store}/cleanup",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    answer=TaskStarted,
)
async def cleanup_start(call: Call) -> TaskStarted:
    """Discard what interrupted sessions left behind, now instead of after their day of grace."""
    return TaskStarted(upid=await call.context.start_cleanup(call.principal.auth_id, call.path["store"]))


_WINDOW = Query(
    "window_days",
    kind="integer",
    default=limits.VERIFY_WINDOW_DAYS,
    maximum=limits.VERIFY_WINDOW_DAYS_MAX,
    doc="a check that is older is STALE",
)


@routes.route(
    "GET",
    "/verify/status",
    access=needs(Privilege.SYSTEM_AUDIT, "/system"),
    answer=list[VerifyReport],
    query=[_WINDOW],
)
async def verify_status(call: Call) -> list[VerifyReport]:
    """Show the last verification of each snapshot, and what is STALE for which reason."""
    return await call.context.verify_status(call.query["window_days"])


@routes.route(
    "GET",
    "/verify/outlook",
    access=needs(Privilege.SYSTEM_AUDIT, "/system"),
    answer=list[VerifyOutlook],
    query=[_WINDOW],
)
async def verify_outlook(call: Call) -> list[VerifyOutlook]:
    """Show how verification of each datastore stands, and whether it fits its window at the measured rate."""
    return await call.context.verify_outlook(call.query["window_days"])


@routes.route(
    "GET",
    "/datastores/{store}/damage",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=Damage,
)
async def datastore_damage(call: Call) -> Damage:
    """Show all chunks known to be damaged or missing, and every snapshot that refers to one."""
    return await call.context.damage(call.path["store"])
