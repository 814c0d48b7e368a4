"""Users, tokens and rights. The rules are in `core.access`, the records in `security` and `catalog`."""

from __future__ import annotations

import msgspec

from ibs.control.routing import Call, Query, Routes, needs
from ibs.core.access import Privilege
from ibs.wire.system import AclEntry, IdentityChange, TokenCreate, TokenCreated, TokenView, UserCreate, UserView

routes = Routes("access")
_LOOK = needs(Privilege.ACCESS_AUDIT, "/access")
_CHANGE = needs(Privilege.ACCESS_MODIFY, "/access")


@routes.route("GET", "/access/users", access=_LOOK, answer=list[UserView])
async def user_list(call: Call) -> list[UserView]:
    """List the users."""
    return await call.context.identities.users()


@routes.route("POST", "/access/users", access=_CHANGE, body=UserCreate, answer=UserView, status=201)
async def user_create(call: Call) -> UserView:
    """Make a user without any rights."""
    return await call.context.identities.create_user(call.principal.auth_id, call.body)


@routes.route("POST", "/access/users/{auth_id}", access=_CHANGE, body=IdentityChange, answer=UserView)
async def user_change(call: Call) -> UserView:
    """Keep a user and its tokens out, or let them in again."""
    set_user, auth_id = call.context.identities.set_user, call.path["auth_id"]
    return await set_user(call.principal.auth_id, auth_id, enabled=call.body.enabled)


@routes.route("DELETE", "/access/users/{auth_id}", access=_CHANGE, answer=None)
async def user_remove(call: Call) -> None:
    """Remove a user with its tokens and rules; its backups stay."""
    await call.context.identities.remove_user(call.principal.auth_id, call.path["auth_id"])


@routes.route("GET", "/access/tokens", access=_LOOK, answer=list[TokenView])
async def token_list(call: Call) -> list[TokenView]:
    """List the tokens, never their secrets."""
    return await call.context.identities.tokens()


@routes.route("POST", "/access/tokens", access=_CHANGE, body=TokenCreate, answer=TokenCreated, status=201)
async def token_create(call: Call) -> TokenCreated:
    """Make a token; its secret is in this answer and nowhere else."""
    return await call.context.identities.create_token(call.principal.auth_id, call.body)


@routes.route("POST", "/access/tokens/{auth_id}", access=_CHANGE, body=IdentityChange, answer=TokenView)
async def token_change(call: Call) -> TokenView:
    """Keep a token out, or let it in again."""
    set_token, auth_id = call.context.identities.set_token, call.path["auth_id"]
    return await set_token(call.principal.auth_id, auth_id, enabled=call.body.enabled)


@routes.route("DELETE", "/access/tokens/{auth_id}", access=_CHANGE, answer=None)
async def token_remove(call: Call) -> None:
    """Remove a token."""
    await call.context.identities.remove_token(call.principal.auth_id, call.path["auth_id"])


@routes.route("GET", "/access/acl", access=_LOOK, answer=list[AclEntry])
async def acl_list(call: Call) -> list[AclEntry]:
    """List who has which role where."""
    return await call.context.identities.acl()


@routes.route("POST", "/access/acl", access=_CHANGE, body=AclEntry, answer=AclEntry, status=201)
async def acl_grant(call: Call) -> AclEntry:
    """Grant a role on a path; one below a datastore that does not exist is granted with a warning."""
    made = await call.context.identities.grant(call.principal.auth_id, msgspec.structs.replace(call.body, warning=""))
    parts = made.path.split("/")
    if parts[1:2] == ["datastore"] and len(parts) > 2:
        known = [view.name for view in await call.context.datastores.list()]
        if parts[2] not in known:
            there = f"there is {', '.join(known)}" if known else "there is none"
            return msgspec.structs.replace(made, warning=f"datastore {parts[2]} does not exist; {there}")
    return made


@routes.route(
    "DELETE",
    "/access/acl",
    access=_CHANGE,
    answer=None,
    query=[Query("path"), Query("role"), Query("auth_id")],
)
async def acl_revoke(call: Call) -> None:
    """Take a role on a path away."""
    query = call.query
    await call.context.identities.revoke(call.principal.auth_id, query["path"], query["role"], query["auth_id"])
