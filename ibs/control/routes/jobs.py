"""Jobs: made, changed, run and shown. The use cases are the desk `services.jobs`'s."""

from __future__ import annotations

from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import Call, Query, Routes, needs
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.wire.jobs import CalendarRow, JobCreate, JobSpec, JobStarted, JobUpdate, JobView, SlotsSet, TaskKeeping
from ibs.wire.system import WorkerView

routes = Routes("jobs")
_SEE = needs(Privilege.SYSTEM_AUDIT, "/system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")


def _require(call: Call, spec: JobSpec) -> None:
    """Whoever makes a job needs the rights that its tasks will use."""
    path = datastore_path(spec.store, spec.namespace)
    call.context.access.require(call.principal, Privilege.DATASTORE_BACKUP, path)
    if spec.retention is not None:
        call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, path)


@routes.route("GET", "/jobs", access=_SEE, answer=list[JobView])
async def job_list(call: Call) -> list[JobView]:
    """List the jobs with their hosts, last states and next runs."""
    return list(await call.context.jobs.list())


@routes.route("POST", "/jobs", access=_CHANGE, body=JobCreate, answer=JobView)
async def job_create(call: Call) -> JobView:
    """Make a job. Needs Datastore.Backup on its namespace too, with a retention also Datastore.Modify."""
    request: JobCreate = call.body
    _require(call, request.spec)
    return await call.context.jobs.create(call.principal.auth_id, request)


@routes.route("GET", "/jobs/{name}", access=_SEE, answer=JobView)
async def job_show(call: Call) -> JobView:
    """Show one job."""
    return await call.context.jobs.show(call.path["name"])


@routes.route("POST", "/jobs/{name}", access=_CHANGE, body=JobUpdate, answer=JobView)
async def job_update(call: Call) -> JobView:
    """Change a job, or enable or disable it."""
    request: JobUpdate = call.body
    _require(call, request.spec if request.spec is not None else (await call.context.jobs.show(call.path["name"])).spec)
    return await call.context.jobs.update(call.principal.auth_id, call.path["name"], request)


@routes.route("DELETE", "/jobs/{name}", access=_CHANGE, answer=None)
async def job_remove(call: Call) -> None:
    """Remove a job; its snapshots stay."""
    await call.context.jobs.remove(call.principal.auth_id, call.path["name"])


@routes.route("POST", "/jobs/{name}/run", access=_CHANGE, answer=JobStarted)
async def job_run(call: Call) -> JobStarted:
    """Queue a job's tasks now, one a host."""
    _require(call, (await call.context.jobs.show(call.path["name"])).spec)
    return JobStarted(upids=list(await call.context.jobs.run(call.path["name"])))


@routes.route(
    "GET",
    "/calendar",
    access=_SEE,
    answer=list[CalendarRow],
    query=[Query("days", "integer", 7, maximum=limits.JOB_CALENDAR_DAYS_MAX, doc="so many back, and so many ahead")],
)
async def job_calendar(call: Call) -> list[CalendarRow]:
    """List the runs of jobs that were, and those to come."""
    return list(await call.context.jobs.calendar(call.query["days"]))


@routes.route("POST", "/worker/slots", access=_CHANGE, body=SlotsSet, answer=WorkerView)
async def worker_set(call: Call) -> WorkerView:
    """Change the number of worker slots, now and for good."""
    return await call.context.set_worker_slots(call.body.slots)


@routes.route("GET", "/worker/task-keeping", access=_SEE, answer=TaskKeeping)
async def keeping_show(call: Call) -> TaskKeeping:
    """Show how long ended tasks and their logs are kept."""
    return await call.context.task_keeping(None)


@routes.route("POST", "/worker/task-keeping", access=_CHANGE, body=TaskKeeping, answer=TaskKeeping)
async def keeping_set(call: Call) -> TaskKeeping:
    """Say how long ended tasks and their logs are kept."""
    return await call.context.task_keeping(call.body)
