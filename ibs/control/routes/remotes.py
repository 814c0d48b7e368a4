"""Remotes for administrators. A stored secret never comes out again."""

from __future__ import annotations

from ibs.control.routing import Call, Routes, authenticated, needs
from ibs.core.access import Privilege
from ibs.wire.remotes import RemoteSet, RemoteTest, RemoteView

routes = Routes("remotes")
_LOOK = needs(Privilege.REMOTE_AUDIT, "/remote/{name}")
_USE = needs(Privilege.REMOTE_READ, "/remote/{name}")
_CHANGE = needs(Privilege.REMOTE_MODIFY, "/remote/{name}")


@routes.route("GET", "/remotes", access=authenticated("those with Remote.Audit"), answer=list[RemoteView])
async def remote_list(call: Call) -> list[RemoteView]:
    """List the remotes that the caller may see."""
    access, found = call.context.access, await call.context.remotes.list()
    return [one for one in found if access.allows(call.principal, Privilege.REMOTE_AUDIT, f"/remote/{one.name}")]


@routes.route(
    "POST", "/remotes", access=needs(Privilege.REMOTE_MODIFY, "/remote"), body=RemoteSet, answer=RemoteView, status=201
)
async def remote_create(call: Call) -> RemoteView:
    """Take another server in as a remote."""
    return await call.context.remotes.create(call.body)


@routes.route("GET", "/remotes/{name}", access=_LOOK, answer=RemoteView)
async def remote_show(call: Call) -> RemoteView:
    """Show a remote and how the last contact went."""
    return await call.context.remotes.show(call.path["name"])


@routes.route("POST", "/remotes/{name}", access=_CHANGE, body=RemoteSet, answer=RemoteView)
async def remote_update(call: Call) -> RemoteView:
    """Change a remote: the one way to pin another certificate."""
    before = await call.context.remotes.show(call.path["name"])
    body: RemoteSet = call.body
    call.audit = {"secret changed": body.secret is not None}
    return await call.context.remotes.update(
        RemoteSet(
            name=before.name,
            host=body.host,
            port=body.port,
            auth_id=body.auth_id,
            secret=body.secret,
            fingerprint=body.fingerprint,
            comment=body.comment,
        )
    )


@routes.route("POST", "/remotes/{name}/test", access=_USE, answer=RemoteTest)
async def remote_test(call: Call) -> RemoteTest:
    """Reach a remote, and say as whom and what is there."""
    return await call.context.remotes.test(call.path["name"])


@routes.route("DELETE", "/remotes/{name}", access=_CHANGE, answer=None)
async def remote_remove(call: Call) -> None:
    """Forget a remote and its secret."""
    await call.context.remotes.remove(call.path["name"])
