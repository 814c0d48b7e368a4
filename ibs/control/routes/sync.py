"""Copies between servers."""

from __future__ import annotations

from ibs.control.routing import Call, Routes, authenticated
from ibs.core.access import Privilege
from ibs.wire.common import TaskStarted
from ibs.wire.sync import PullStart

routes = Routes("sync")


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
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, f"/datastore/{call.path['store']}")
    call.context.access.require(call.principal, Privilege.REMOTE_READ, f"/remote/{request.remote}")
    return TaskStarted(upid=await call.context.copying.pull(call.principal.auth_id, call.path["store"], request))
