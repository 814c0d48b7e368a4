"""Roles of one's own, groups of users, and why somebody may do something. What they do is in `security.roles`."""

from __future__ import annotations

import msgspec

from ibs.control.routing import Call, Query, Routes, authenticated, needs
from ibs.core.access import Privilege, as_auth_id
from ibs.wire.access import Explained, RoleSet, RoleView, UserGroupSet, UserGroupView

routes = Routes("access")
_LOOK = needs(Privilege.ACCESS_AUDIT, "/access")
_CHANGE = needs(Privilege.ACCESS_MODIFY, "/access")
_EXPLAIN = authenticated("one's own rights are told to anyone; Access.Audit on /access shows those of others")


@routes.route("GET", "/access/roles", access=_LOOK, answer=list[RoleView])
async def role_list(call: Call) -> list[RoleView]:
    """List the roles with what they allow, the built-in ones first."""
    return await call.context.roles.all()


@routes.route("POST", "/access/roles", access=_CHANGE, body=RoleSet, answer=RoleView, status=201)
async def role_create(call: Call) -> RoleView:
    """Make a role of one's own."""
    return await call.context.roles.create(call.principal.auth_id, call.body)


@routes.route("POST", "/access/roles/{name}", access=_CHANGE, body=RoleSet, answer=RoleView)
async def role_update(call: Call) -> RoleView:
    """Change what a role of one's own allows, wherever it is given."""
    changed = msgspec.structs.replace(call.body, name=call.path["name"])
    return await call.context.roles.update(call.principal.auth_id, changed)


@routes.route("DELETE", "/access/roles/{name}", access=_CHANGE, answer=None)
async def role_remove(call: Call) -> None:
    """Remove a role that no rule gives any more."""
    await call.context.roles.remove(call.principal.auth_id, call.path["name"])


@routes.route("GET", "/access/groups", access=_LOOK, answer=list[UserGroupView])
async def user_group_list(call: Call) -> list[UserGroupView]:
    """List the groups of users."""
    return await call.context.roles.groups()


@routes.route("POST", "/access/groups", access=_CHANGE, body=UserGroupSet, answer=UserGroupView, status=201)
async def user_group_create(call: Call) -> UserGroupView:
    """Make a group of users; rules name it with an @ before its name."""
    return await call.context.roles.create_group(call.principal.auth_id, call.body)


@routes.route("POST", "/access/groups/{name}", access=_CHANGE, body=UserGroupSet, answer=UserGroupView)
async def user_group_update(call: Call) -> UserGroupView:
    """Say who is in a group of users from now on."""
    changed = msgspec.structs.replace(call.body, name=call.path["name"])
    return await call.context.roles.update_group(call.principal.auth_id, changed)


@routes.route("DELETE", "/access/groups/{name}", access=_CHANGE, answer=None)
async def user_group_remove(call: Call) -> None:
    """Remove a group of users with its rules; the users stay."""
    await call.context.roles.remove_group(call.principal.auth_id, call.path["name"])


@routes.route(
    "GET",
    "/access/explain",
    access=_EXPLAIN,
    answer=Explained,
    query=[Query("auth_id"), Query("path", default="/"), Query("privilege")],
)
async def access_explain(call: Call) -> Explained:
    """Say which rules decide what an identity may do on a path."""
    query, me = call.query, call.principal.auth_id
    who = query["auth_id"] or me
    if as_auth_id(who) not in (as_auth_id(me), as_auth_id(me).of_user):
        call.context.access.require(call.principal, Privilege.ACCESS_AUDIT, "/access")
    return call.context.roles.explain(who, query["path"], query["privilege"])
