"""Realms for administrators. A stored secret never comes out again."""

from __future__ import annotations

import msgspec

from ibs.control.routing import Call, Routes, needs
from ibs.core.access import Privilege
from ibs.wire.realms import RealmSet, RealmView

routes = Routes("access")
_LOOK = needs(Privilege.ACCESS_AUDIT, "/access")
_CHANGE = needs(Privilege.ACCESS_MODIFY, "/access")


@routes.route("GET", "/realms", access=_LOOK, answer=list[RealmView])
async def realm_list(call: Call) -> list[RealmView]:
    """List the realms beside the built-in one."""
    return await call.context.realms.list()


@routes.route("POST", "/realms", access=_CHANGE, body=RealmSet, answer=RealmView, status=201)
async def realm_create(call: Call) -> RealmView:
    """Take a directory in as a realm."""
    return await call.context.realms.create(call.body)


@routes.route("GET", "/realms/{name}", access=_LOOK, answer=RealmView)
async def realm_show(call: Call) -> RealmView:
    """Show a realm."""
    return await call.context.realms.show(call.path["name"])


@routes.route("POST", "/realms/{name}", access=_CHANGE, body=RealmSet, answer=RealmView)
async def realm_update(call: Call) -> RealmView:
    """Change a realm."""
    body: RealmSet = msgspec.structs.replace(call.body, name=call.path["name"])
    await call.context.realms.show(body.name)
    call.audit = {"secret changed": body.secret is not None}
    return await call.context.realms.update(body)


@routes.route("POST", "/realms/{name}/test", access=_CHANGE, answer=RealmView)
async def realm_test(call: Call) -> RealmView:
    """Reach a realm's directory, and log in there with the bind DN."""
    return await call.context.realms.test(call.path["name"])


@routes.route("DELETE", "/realms/{name}", access=_CHANGE, answer=None)
async def realm_remove(call: Call) -> None:
    """Forget a realm without users, and its secret."""
    await call.context.realms.remove(call.path["name"])
