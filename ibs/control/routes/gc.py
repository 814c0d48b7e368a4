"""Garbage collection: start, look, undo, hold and go on. The rules are in `engine.gc`."""

from __future__ import annotations

from ibs.control.routing import Call, Query, Routes, authenticated, needs
from ibs.core.access import Privilege
from ibs.wire.common import TaskStarted
from ibs.wire.gc import GcStart, GcStatus, GcUndo

routes = Routes("gc")
_RUN = needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}")


@routes.route("POST", "/datastores/{store}/gc", access=_RUN, body=GcStart, answer=TaskStarted)
async def gc_start(call: Call) -> TaskStarted:
    """Collect the garbage of a datastore: chunks that no snapshot, session or reader refers to."""
    upid = await call.context.start_gc(call.principal.auth_id, call.path["store"], call.body)
    return TaskStarted(upid=upid)


@routes.route("POST", "/datastores/{store}/gc/undo", access=_RUN, body=GcUndo, answer=TaskStarted)
async def gc_undo(call: Call) -> TaskStarted:
    """Take the chunks of the last garbage collection back out of the trash."""
    upid = await call.context.undo_gc(call.principal.auth_id, call.path["store"], call.body)
    return TaskStarted(upid=upid)


@routes.route("POST", "/datastores/{store}/gc/pause", access=_RUN, answer=GcStatus)
async def gc_pause(call: Call) -> GcStatus:
    """Hold the garbage collection under way before its next step."""
    status: GcStatus = await call.context.steer_gc(call.path["store"], pause=True)
    return status


@routes.route("POST", "/datastores/{store}/gc/resume", access=_RUN, answer=GcStatus)
async def gc_resume(call: Call) -> GcStatus:
    """Let a paused garbage collection go on."""
    status: GcStatus = await call.context.steer_gc(call.path["store"], pause=False)
    return status


@routes.route(
    "GET",
    "/gc/status",
    access=authenticated("datastores with Datastore.Audit"),
    answer=list[GcStatus],
    query=[Query("store", doc="only this datastore")],
)
async def gc_status(call: Call) -> list[GcStatus]:
    """Show what garbage collection does and did, and what waits in trash."""
    access, store = call.context.access, call.query["store"]
    if store:
        access.require(call.principal, Privilege.DATASTORE_AUDIT, f"/datastore/{store}")
    found = await call.context.gc_status(store)
    return [one for one in found if access.allows(call.principal, Privilege.DATASTORE_AUDIT, f"/datastore/{one.store}")]
