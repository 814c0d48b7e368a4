"""The watch over backups: how each group stands, and what is expected of it."""

from __future__ import annotations

from ibs.control.routing import Call, Query, Routes, needs
from ibs.core.access import Privilege
from ibs.wire.sla import SlaSet, SlaView

routes = Routes("sla")
_STORE = Query("store", doc="only of this datastore")


@routes.route("GET", "/sla", access=needs(Privilege.SYSTEM_AUDIT, "/system"), answer=list[SlaView], query=[_STORE])
async def sla_list(call: Call) -> list[SlaView]:
    """Show how each group's backups stand."""
    return await call.context.sla.list(call.query["store"])


@routes.route("POST", "/sla", access=needs(Privilege.SYSTEM_MODIFY, "/system"), body=SlaSet, answer=SlaView)
async def sla_set(call: Call) -> SlaView:
    """Say what is expected of a group's backups."""
    return await call.context.sla.set(call.principal.auth_id, call.body)


@routes.route(
    "DELETE",
    "/sla",
    access=needs(Privilege.SYSTEM_MODIFY, "/system"),
    query=[Query("group", doc="the group, [ns:a/b/]host/web01"), _STORE],
)
async def sla_unset(call: Call) -> None:
    """Expect what is learned again."""
    await call.context.sla.unset(call.query["store"], call.query["group"])
