"""Who the server is and how it feels: ping, whoami, status, inbox, injected faults."""

from __future__ import annotations

from ibs.control.routing import OPEN, Call, Query, Routes, authenticated, needs
from ibs.core.access import Privilege
from ibs.core.names import check_name
from ibs.errors import ConflictError, NotFoundError
from ibs.version import API_VERSION, PRODUCT, VERSION
from ibs.wire.common import Ping
from ibs.wire.system import InboxView, ServerStatus, ServiceView, WhoAmI

routes = Routes("system")


@routes.route("GET", "/ping", access=OPEN, answer=Ping)
async def ping(_call: Call) -> Ping:
    """Say that a server is here, and which version."""
    return Ping(product=PRODUCT, version=VERSION, api=API_VERSION)


@routes.route("GET", "/whoami", access=authenticated("tells a caller its own name"), answer=WhoAmI)
async def whoami(call: Call) -> WhoAmI:
    """Name the identity behind the credential, and the key that the server signs with."""
    return WhoAmI(auth_id=call.principal.auth_id, signer=call.context.signer)


@routes.route("GET", "/status", access=needs(Privilege.SYSTEM_AUDIT, "/system"), answer=ServerStatus)
async def status(call: Call) -> ServerStatus:
    """Show the server and its seven services."""
    return call.context.status()


@routes.route("POST", "/services/{role}/fault", access=needs(Privilege.SYSTEM_MODIFY, "/system"), answer=ServiceView)
async def inject_fault(call: Call) -> ServiceView:
    """Kill one service role on purpose (only where the configuration allows it); the supervisor restarts it."""
    context = call.context
    if not context.settings.fault_injection:
        raise ConflictError(
            "fault injection is off",
            hint="set fault_injection = true in the server's configuration, never in production",
        )
    role = check_name(call.path["role"], "role")
    if role not in {service.role for service in context.status().services}:
        raise NotFoundError(f"no service role {role}", hint="see: ironcore-backup status --services")
    context.inject_fault(role)
    return next(service for service in context.status().services if service.role == role)


@routes.route(
    "GET",
    "/notifications/inbox",
    access=needs(Privilege.SYSTEM_AUDIT, "/system"),
    answer=list[InboxView],
    query=[
        Query("limit", "integer", 50, doc="at most so many, newest first"),
        Query("severity", doc="of this severity or worse"),
        Query("source", doc="from this source"),
    ],
)
async def inbox(call: Call) -> list[InboxView]:
    """List what happened, newest first."""
    return await call.context.inbox(call.query["limit"], call.query["severity"], call.query["source"])
