"""Copies between servers: one by hand, and jobs that come back."""

from __future__ import annotations

from ibs.control.routing import Call, Routes, authenticated, needs
from ibs.core.access import Privilege
from ibs.wire.common import TaskStarted
from ibs.wire.sync import PullStart, SyncCreate, SyncJobView, SyncRun, SyncStatus, SyncUpdate

routes = Routes("sync")
_SEE = needs(Privilege.SYSTEM_AUDIT, "/system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")


def _require(call: Call, store: str, request: PullStart) -> None:
    """Whoever lets something be copied needs the rights that the copy uses, on both sides."""
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, f"/datastore/{store}")
    call.context.access.require(call.principal, Privilege.REMOTE_READ, f"/remote/{request.remote}")


@routes.route(
    "POST",
    "/datastores/{store}/pull",
    access=authenticated("Datastore.Modify on the datastore here, and Remote.Read on the remote"),
    body=PullStart,
    answer=TaskStarted,
)
async def sync_pull(call: Call) -> TaskStarted:
    """Bring snapshots of a remote's datastore that are not here yet."""
    request: PullStart = call.body
    _require(call, call.path["store"], request)
    return TaskStarted(upid=await call.context.copying.pull(call.principal.auth_id, call.path["store"], request))


@routes.route("GET", "/sync-jobs", access=_SEE, answer=list[SyncJobView])
async def sync_job_list(call: Call) -> list[SyncJobView]:
    """List the sync jobs with their last states and next runs."""
    return list(await call.context.sync_jobs.list())


@routes.route("POST", "/sync-jobs", access=_CHANGE, body=SyncCreate, answer=SyncJobView)
async def sync_job_create(call: Call) -> SyncJobView:
    """Make a sync job. Needs Datastore.Modify on the datastore and Remote.Read on the remote too."""
    request: SyncCreate = call.body
    _require(call, request.spec.store, request.spec)
    return await call.context.sync_jobs.create(call.principal.auth_id, request)


@routes.route("GET", "/sync-jobs/{name}", access=_SEE, answer=SyncJobView)
async def sync_job_show(call: Call) -> SyncJobView:
    """Show one sync job."""
    return await call.context.sync_jobs.show(call.path["name"])


@routes.route("POST", "/sync-jobs/{name}", access=_CHANGE, body=SyncUpdate, answer=SyncJobView)
async def sync_job_update(call: Call) -> SyncJobView:
    """Change a sync job, or enable or disable it."""
    request: SyncUpdate = call.body
    before = await call.context.sync_jobs.show(call.path["name"])
    spec = request.spec if request.spec is not None else before.spec
    _require(call, spec.store, spec)
    return await call.context.sync_jobs.update(call.principal.auth_id, call.path["name"], request)


@routes.route("DELETE", "/sync-jobs/{name}", access=_CHANGE, answer=None)
async def sync_job_remove(call: Call) -> None:
    """Remove a sync job; what it brought stays."""
    await call.context.sync_jobs.remove(call.principal.auth_id, call.path["name"])


@routes.route("POST", "/sync-jobs/{name}/run", access=_CHANGE, body=SyncRun, answer=TaskStarted)
async def sync_job_run(call: Call) -> TaskStarted:
    """Run a sync job now."""
    spec = (await call.context.sync_jobs.show(call.path["name"])).spec
    _require(call, spec.store, spec)
    accept = call.body.accept_vanished
    return TaskStarted(upid=await call.context.sync_jobs.start(call.path["name"], accept_vanished=accept))


@routes.route("POST", "/sync-jobs/{name}/repair", access=_CHANGE, answer=TaskStarted)
async def sync_job_repair(call: Call) -> TaskStarted:
    """Compare both sides of a sync job completely, and fetch what is damaged or missing here."""
    spec = (await call.context.sync_jobs.show(call.path["name"])).spec
    _require(call, spec.store, spec)
    return TaskStarted(upid=await call.context.sync_jobs.repair(call.principal.auth_id, call.path["name"]))


@routes.route("GET", "/sync-jobs/{name}/status", access=_SEE, answer=SyncStatus)
async def sync_job_status(call: Call) -> SyncStatus:
    """Show how its run goes: bytes, rate, the space on both sides, the last error."""
    return await call.context.sync_jobs.status(call.path["name"])
