"""Locks that nobody can take away: on single snapshots, and compliance mode of namespaces (`engine.retained`)."""

from __future__ import annotations

from ibs.control.routing import Call, Routes, authenticated, needs
from ibs.core.access import Privilege, datastore_path
from ibs.core.names import Namespace, SnapshotName
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import ComplianceSet, ComplianceView, SnapshotLock

routes = Routes("lifecycle")
# Not for owners: whoever fills a store with snapshots that cannot be removed has stopped it.
_LOCKERS = authenticated("Datastore.Modify on the namespace")


@routes.route("POST", "/datastores/{store}/snapshot/lock", access=_LOCKERS, body=SnapshotLock, answer=SnapshotView)
async def snapshot_lock(call: Call) -> SnapshotView:
    """Lock a snapshot: until then nobody can remove it."""
    request: SnapshotLock = call.body
    path = datastore_path(call.path["store"], SnapshotName.parse(request.snapshot).namespace)
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, path)
    await call.look()
    return await call.context.lifecycle.lock(call.path["store"], call.principal.auth_id, request)


@routes.route(
    "GET",
    "/datastores/{store}/compliance",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=list[ComplianceView],
)
async def compliance_list(call: Call) -> list[ComplianceView]:
    """List the namespaces whose snapshots are locked for a time after they were made."""
    return await call.context.lifecycle.compliance(call.path["store"])


@routes.route("POST", "/datastores/{store}/compliance", access=_LOCKERS, body=ComplianceSet, answer=ComplianceView)
async def compliance_set(call: Call) -> ComplianceView:
    """Lock every snapshot of a namespace for a time after it was made."""
    request: ComplianceSet = call.body
    path = datastore_path(call.path["store"], Namespace.parse(request.namespace))
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, path)
    await call.look()
    return await call.context.lifecycle.set_compliance(call.path["store"], call.principal.auth_id, request)
