"""When datastores are verified, pruned and collected by themselves. The use cases are the desk `plans`'s."""

from __future__ import annotations

from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import Call, Query, Routes, authenticated
from ibs.core.access import Privilege
from ibs.wire.schedule import ScheduleSet, ScheduleView

routes = Routes("schedules")
_KIND = Query("kind", doc="verify, gc or prune; empty for all")


@routes.route(
    "GET",
    "/schedules/datastores",
    access=authenticated("those of datastores where the caller has Datastore.Audit"),
    answer=list[ScheduleView],
    query=[Query("store", doc="only this datastore"), _KIND],
)
async def schedule_list(call: Call) -> list[ScheduleView]:
    """List the schedules of datastores, the defaults included, with last and next runs."""
    access, store = call.context.access, call.query["store"]
    if store:
        access.require(call.principal, Privilege.DATASTORE_AUDIT, datastore_path(store, ""))

    def sees(name: str) -> bool:
        return access.allows(call.principal, Privilege.DATASTORE_AUDIT, datastore_path(name, ""))

    return list(await call.context.plans.list(sees, store, call.query["kind"]))


@routes.route(
    "POST",
    "/datastores/{store}/schedules",
    access=authenticated("Datastore.Modify on the namespace"),
    body=ScheduleSet,
    answer=ScheduleView,
)
async def schedule_set(call: Call) -> ScheduleView:
    """Set when a datastore, or a namespace of it, is verified, pruned or collected by itself."""
    request: ScheduleSet = call.body
    store = call.path["store"]
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, request.namespace))
    await call.look()
    return await call.context.plans.set(store, call.principal.auth_id, request)


@routes.route(
    "DELETE",
    "/datastores/{store}/schedules",
    access=authenticated("Datastore.Modify on the namespace"),
    answer=None,
    query=[_KIND, Query("namespace", doc="such as a/b; empty for the datastore")],
)
async def schedule_unset(call: Call) -> None:
    """Take a schedule away; the default counts again, where there is one."""
    store, namespace = call.path["store"], call.query["namespace"]
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, namespace))
    await call.look()
    await call.context.plans.unset(store, call.principal.auth_id, call.query["kind"], namespace)
