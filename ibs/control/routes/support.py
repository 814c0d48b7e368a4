"""Support bundles: make one, fetch it."""

from __future__ import annotations

from ibs.control.routing import OCTETS, Call, Octets, Routes, needs
from ibs.core.access import Privilege
from ibs.wire.common import TaskStarted
from ibs.wire.support import BundleRequest

routes = Routes("support")
_ACCESS = needs(Privilege.SYSTEM_MODIFY, "/system")


@routes.route("POST", "/support/bundles", access=_ACCESS, body=BundleRequest, answer=TaskStarted)
async def bundle_start(call: Call) -> TaskStarted:
    """Make a support bundle."""
    return TaskStarted(upid=await call.context.support.start(call.principal.auth_id, call.body))


@routes.route("GET", "/support/bundles/{upid}", access=_ACCESS, answer=OCTETS)
async def bundle_read(call: Call) -> Octets:
    """Fetch the support bundle that a task has made."""
    return Octets(await call.context.support.read(call.path["upid"]))
