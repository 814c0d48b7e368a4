"""The seven roles: restart one of them."""

from __future__ import annotations

from ibs.control.routing import Call, Routes, needs
from ibs.core.access import Privilege
from ibs.core.names import check_name
from ibs.errors import NotFoundError
from ibs.wire.system import ServiceView

routes = Routes("services")


@routes.route("POST", "/services/{role}/restart", access=needs(Privilege.SYSTEM_MODIFY, "/system"), answer=ServiceView)
async def restart_service(call: Call) -> ServiceView:
    """Restart one service role, also one that was given up; the others do not notice. Answers with what it was."""
    role = check_name(call.path["role"], "role")
    before = {service.role: service for service in call.context.status().services}
    if role not in before:
        raise NotFoundError(f"no service role {role}", hint="see: ironcore-backup status --services")
    call.context.restart_service(role)
    return before[role]
