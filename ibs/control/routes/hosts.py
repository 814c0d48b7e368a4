"""Hosts for administrators, and the few calls of their agents. The rules are in `services.hosts`.

An agent's identity has no rights of its own: its calls are answered by who it is and which tasks it was given.
"""

from __future__ import annotations

from ibs.control.routing import Access, Call, Routes, authenticated, needs
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.wire.hosts import (
    AgentEnd,
    AgentJoin,
    AgentJoined,
    AgentOrders,
    AgentPoll,
    HostInvite,
    HostInvited,
    HostUpdate,
    HostView,
)
from ibs.wire.session import SessionOpen, SessionOpened, StageReport

routes = Routes("hosts")
_LOOK = needs(Privilege.SYSTEM_AUDIT, "/system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")
_AGENT = authenticated("only the agent of a host, for itself and the tasks it was given")
_JOIN = Access(open=True, why="takes a one-time join token in its body, and tells nothing without it")


@routes.route("GET", "/hosts", access=_LOOK, answer=list[HostView])
async def host_list(call: Call) -> list[HostView]:
    """List the hosts that can be backed up, the server itself first."""
    return call.context.hosts.list()


@routes.route("GET", "/hosts/{name}", access=_LOOK, answer=HostView)
async def host_show(call: Call) -> HostView:
    """Show one host."""
    return call.context.hosts.get(call.path["name"])


@routes.route("POST", "/hosts", access=_CHANGE, body=HostInvite, answer=HostInvited, status=201)
async def host_invite(call: Call) -> HostInvited:
    """Invite a host; the join token is in this answer and nowhere else."""
    return await call.context.hosts.invite(call.principal.auth_id, call.body, call.context.endpoint.port)


@routes.route("POST", "/hosts/{name}", access=_CHANGE, body=HostUpdate, answer=HostView)
async def host_update(call: Call) -> HostView:
    """Change a host's tags and project."""
    return await call.context.hosts.update(call.principal.auth_id, call.path["name"], call.body)


@routes.route("DELETE", "/hosts/{name}", access=_CHANGE, answer=None)
async def host_remove(call: Call) -> None:
    """Forget a host and its identity; its backups stay."""
    await call.context.hosts.remove(call.principal.auth_id, call.path["name"])


@routes.route(
    "POST", "/agent/join", access=_JOIN, body=AgentJoin, answer=AgentJoined, body_bytes_max=limits.JOIN_BODY_BYTES_MAX
)
async def agent_join(call: Call) -> AgentJoined:
    """Exchange a join token for the identity of a host's agent."""
    request: AgentJoin = call.body
    call.audit = {"after": {"name": request.name, "version": request.version, "system": request.system}}
    return await call.context.hosts.join(call.peer, request)


@routes.route("POST", "/agent/poll", access=_AGENT, body=AgentPoll, answer=AgentOrders)
async def agent_poll(call: Call) -> AgentOrders:
    """Ask what to do; answered when there is something, or after a while."""
    return await call.context.hosts.poll(call.principal.auth_id, call.peer, call.body, call.context.api_stopping)


@routes.route("POST", "/agent/tasks/{upid}/sessions", access=_AGENT, body=SessionOpen, answer=SessionOpened)
async def agent_session(call: Call) -> SessionOpened:
    """Open the write session of a task that was given to this agent."""
    context = call.context
    return await context.hosts.attach(context.sessions, call.principal.auth_id, call.path["upid"], call.body)


@routes.route("POST", "/agent/tasks/{upid}/log", access=_AGENT, body=StageReport, answer=None)
async def agent_log(call: Call) -> None:
    """Add lines to the log of a task that was given to this agent."""
    await call.context.hosts.report(call.principal.auth_id, call.path["upid"], call.body)


@routes.route("POST", "/agent/tasks/{upid}/end", access=_AGENT, body=AgentEnd, answer=None)
async def agent_end(call: Call) -> None:
    """Tell how a task ended on the host."""
    call.context.hosts.end(call.principal.auth_id, call.path["upid"], call.body)
