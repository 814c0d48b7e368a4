"""Datastores, their groups and snapshots. The use cases are in `engine.datastores` and `engine.snapshots`."""

from __future__ import annotations

from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import Call, Query, Routes, authenticated, needs
from ibs.core.access import Privilege, owns
from ibs.core.names import Group, Namespace, SnapshotName, check_name
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import (
    DatastoreAdopt,
    DatastoreCreate,
    DatastoreStats,
    DatastoreView,
    GroupView,
    MaintenanceRequest,
    ProbeResult,
    QuarantineRequest,
    ReleaseRequest,
    SnapshotView,
    UsageRow,
)

routes = Routes("datastores")
_VISIBLE = authenticated("all with Datastore.Audit or Datastore.Reader on the namespace, else the caller's own groups")
_NAMESPACE = Query("namespace", doc="such as a/b; empty for the root")


@routes.route("GET", "/datastores", access=authenticated("those with Datastore.Audit"), answer=list[DatastoreView])
async def datastore_list(call: Call) -> list[DatastoreView]:
    """List the datastores that the caller may audit."""
    access = call.context.access
    views = await call.context.datastores.list()
    return [
        view for view in views if access.allows(call.principal, Privilege.DATASTORE_AUDIT, f"/datastore/{view.name}")
    ]


@routes.route(
    "POST",
    "/datastores",
    access=needs(Privilege.DATASTORE_ALLOCATE, "/datastore"),
    body=DatastoreCreate,
    answer=DatastoreView,
    status=201,
)
async def datastore_create(call: Call) -> DatastoreView:
    """Make a datastore in an empty folder."""
    request: DatastoreCreate = call.body
    return await call.context.datastores.create(check_name(request.name, "datastore"), request.path, request.comment)


@routes.route(
    "POST",
    "/datastores/adopt",
    access=needs(Privilege.DATASTORE_ALLOCATE, "/datastore"),
    body=DatastoreAdopt,
    answer=DatastoreView,
    status=201,
)
async def datastore_adopt(call: Call) -> DatastoreView:
    """Attach an existing datastore, perhaps taking it over from another server."""
    request: DatastoreAdopt = call.body
    name = check_name(request.name, "datastore")
    adopt = call.context.datastores.adopt
    return await adopt(name, request.path, request.comment, takeover=request.takeover)


@routes.route(
    "GET",
    "/datastores/{store}",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=DatastoreView,
)
async def datastore_show(call: Call) -> DatastoreView:
    """Show one datastore."""
    return await call.context.datastores.view(call.path["store"])


@routes.route(
    "DELETE", "/datastores/{store}", access=needs(Privilege.DATASTORE_ALLOCATE, "/datastore/{store}"), answer=None
)
async def datastore_remove(call: Call) -> None:
    """Forget a datastore; its data stays."""
    await call.context.datastores.detach(call.path["store"])


@routes.route(
    "GET",
    "/datastores/{store}/stats",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=DatastoreStats,
)
async def datastore_stats(call: Call) -> DatastoreStats:
    """Show space, inodes, chunks and savings."""
    return await call.context.datastores.stats(call.path["store"])


@routes.route(
    "GET",
    "/datastores/{store}/usage",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=list[UsageRow],
    query=[Query("by", default="group", doc="group or namespace")],
)
async def datastore_usage(call: Call) -> list[UsageRow]:
    """Show what each group or namespace takes, alone and together with others. Reads every index."""
    return await call.context.datastores.usage(call.path["store"], call.query["by"])


@routes.route(
    "POST",
    "/datastores/{store}/probe",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=ProbeResult,
)
async def datastore_probe(call: Call) -> ProbeResult:
    """Look at a datastore again, and bring it back when its trouble is over."""
    return await call.context.datastores.probe(call.path["store"])


@routes.route(
    "POST",
    "/datastores/{store}/quarantine",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    body=QuarantineRequest,
    answer=DatastoreView,
)
async def datastore_quarantine(call: Call) -> DatastoreView:
    """Stop new backups, pruning and garbage collection; reading, verifying and repairing go on."""
    store, request = call.path["store"], call.body
    return await call.context.datastores.quarantine(store, call.principal.auth_id, request.reason)


@routes.route(
    "POST",
    "/datastores/{store}/release",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    body=ReleaseRequest,
    answer=DatastoreView,
)
async def datastore_release(call: Call) -> DatastoreView:
    """End a quarantine, saying what its cause was."""
    return await call.context.datastores.release(call.path["store"], call.principal.auth_id, call.body.cause)


@routes.route(
    "POST",
    "/datastores/{store}/maintenance",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    body=MaintenanceRequest,
    answer=TaskStarted,
)
async def datastore_maintenance(call: Call) -> TaskStarted:
    """Make a datastore read-only or offline for maintenance, or end that; the task waits for what is under way."""
    upid = await call.context.upkeep.maintain(call.path["store"], call.principal.auth_id, call.body)
    return TaskStarted(upid=upid)


@routes.route(
    "POST",
    "/datastores/{store}/reindex",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    answer=TaskStarted,
)
async def datastore_reindex(call: Call) -> TaskStarted:
    """Rebuild the chunk index and the view of snapshots from the store alone."""
    return TaskStarted(upid=await call.context.upkeep.reindex(call.path["store"], call.principal.auth_id))


def _sees_all(call: Call, namespace: str) -> bool:
    path = datastore_path(call.path["store"], namespace)
    access = call.context.access
    if access.allows(call.principal, Privilege.DATASTORE_AUDIT, path):
        return True
    if access.allows(call.principal, Privilege.DATASTORE_READ, path):
        return True
    access.require(call.principal, Privilege.DATASTORE_BACKUP, path)
    return False


@routes.route("GET", "/datastores/{store}/groups", access=_VISIBLE, answer=list[GroupView], query=[_NAMESPACE])
async def group_list(call: Call) -> list[GroupView]:
    """List the groups of a namespace."""
    everything = _sees_all(call, call.query["namespace"])
    store = await call.context.datastores.get(call.path["store"])
    groups = await store.snapshots.group_views(Namespace.parse(call.query["namespace"]))
    return [group for group in groups if everything or owns(call.principal.auth_id, group.owner)]


@routes.route(
    "GET",
    "/datastores/{store}/snapshots",
    access=_VISIBLE,
    answer=list[SnapshotView],
    query=[_NAMESPACE, Query("group", doc="such as host/web01; empty for all")],
)
async def snapshot_list(call: Call) -> list[SnapshotView]:
    """List the snapshots of a namespace or group, oldest first."""
    everything = _sees_all(call, call.query["namespace"])
    group = Group.parse(call.query["group"]) if call.query["group"] else None
    store = await call.context.datastores.get(call.path["store"])
    views = await store.snapshots.snapshot_views(Namespace.parse(call.query["namespace"]), group)
    return [view for view in views if everything or owns(call.principal.auth_id, view.owner)]


@routes.route(
    "GET",
    "/datastores/{store}/snapshot",
    access=_VISIBLE,
    answer=SnapshotView,
    query=[Query("name", doc="such as host/web01/2026-11-22T19:00:00Z"), _NAMESPACE],
)
async def snapshot_show(call: Call) -> SnapshotView:
    """Show one snapshot."""
    name = SnapshotName.parse(call.query["name"], Namespace.parse(call.query["namespace"]))
    everything = _sees_all(call, str(name.namespace))
    store = await call.context.datastores.get(call.path["store"])
    owner = None if everything else call.principal.auth_id
    return await store.snapshots.snapshot_view(name, owner=owner)
