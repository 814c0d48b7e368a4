"""Logging in as a person, and what is needed for it: password and second factor. What they do is in `security.logins`.

Of others only with Access.Modify. Of oneself only as a person who has logged in: a stolen token must not become a way
to log in.
"""

from __future__ import annotations

from ibs.control.routing import Access, Call, Routes, authenticated, needs
from ibs.core.access import Privilege, as_auth_id
from ibs.wire.access import LoginGranted, LoginRequest, LoginView, PasswordSet, TotpMade

routes = Routes("access")
_OPEN = Access(open=True, why="is how a person proves who it is; wrong ones wait longer each time")
_OWN = authenticated("oneself, logged in with a password; Access.Modify on /access for others")


def _require(call: Call) -> str:
    """The user that is meant. Raises NotAuthorised."""
    user = call.path["auth_id"]
    if call.principal.auth_id != user or as_auth_id(user).is_token:
        call.context.access.require(call.principal, Privilege.ACCESS_MODIFY, "/access")
    return user


@routes.route("POST", "/login", access=_OPEN, body=LoginRequest, answer=LoginGranted)
async def login(call: Call) -> LoginGranted:
    """Log in with password and code; the answer holds a secret for some hours."""
    return await call.context.logins.log_in(call.body, call.peer)


@routes.route("POST", "/logout", access=authenticated("ends the caller's own logins"), answer=None)
async def logout(call: Call) -> None:
    """End all logins of the caller's user; tokens stay."""
    call.context.logins.log_out(call.principal.auth_id)


@routes.route("GET", "/access/logins/{auth_id}", access=needs(Privilege.ACCESS_AUDIT, "/access"), answer=LoginView)
async def login_show(call: Call) -> LoginView:
    """Show how a user may log in."""
    return await call.context.logins.show(call.path["auth_id"])


@routes.route("POST", "/access/logins/{auth_id}/password", access=_OWN, body=PasswordSet, answer=LoginView)
async def password_set(call: Call) -> LoginView:
    """Set a user's password; its logins end."""
    user = _require(call)
    await call.look()
    return await call.context.logins.set_password(call.principal.auth_id, user, call.body.password)


@routes.route("POST", "/access/logins/{auth_id}/totp", access=_OWN, answer=TotpMade)
async def totp_enable(call: Call) -> TotpMade:
    """Give a user a second factor and recovery codes; its logins end."""
    user = _require(call)
    await call.look()
    return await call.context.logins.enable_totp(call.principal.auth_id, user)


@routes.route("DELETE", "/access/logins/{auth_id}/totp", access=_OWN, answer=LoginView)
async def totp_disable(call: Call) -> LoginView:
    """Take a user's second factor away; its logins end."""
    user = _require(call)
    await call.look()
    return await call.context.logins.disable_totp(call.principal.auth_id, user)
