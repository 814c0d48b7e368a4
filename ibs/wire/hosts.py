"""Bodies of the host routes (`/api/v1/hosts…`) and of what agents say (`/api/v1/agent/…`)."""

from __future__ import annotations

from ibs.wire.common import Count, Seconds, Wire
from ibs.wire.system import BackupRun


class HostInvite(Wire, frozen=True, kw_only=True):
    """`again` invites a host that has joined already: its next join replaces the identity it has now."""

    name: str
    valid_seconds: Count = 3600
    tags: list[str] = []
    project: str = ""
    again: bool = False


class HostInvited(Wire, frozen=True, kw_only=True):
    """`token` is shown once and never stored readable; `node` and `port` are how the server calls itself."""

    name: str
    token: str
    expires: str
    fingerprint: str
    node: str
    port: int


class HostUpdate(Wire, frozen=True, kw_only=True):
    """What is None stays as it is."""

    tags: list[str] | None = None
    project: str | None = None


class HostView(Wire, frozen=True, kw_only=True):
    """`state` is online, silent or never joined; `since` is when that began, as far as it is known.

    `running` are the UPIDs of tasks given to the host. The server itself is `built_in`.
    """

    name: str
    state: str
    since: str = ""
    built_in: bool = False
    version: str = ""
    system: str = ""
    tags: list[str] = []
    project: str = ""
    auth_id: str = ""
    address: str = ""
    joined: str = ""
    last_contact: str = ""
    invited_until: str = ""
    running: list[str] = []


class AgentJoin(Wire, frozen=True, kw_only=True):
    """Exchange a join token for an identity. `version` and `system` describe the host's program and system."""

    name: str
    token: str
    version: str = ""
    system: str = ""


class AgentJoined(Wire, frozen=True, kw_only=True):
    """The host's own identity; the secret is in this answer and nowhere else."""

    name: str
    auth_id: str
    secret: str
    node: str


class AgentPoll(Wire, frozen=True, kw_only=True):
    """Ask for orders. `instance` is drawn at each start of the program; `running` are the tasks it has in hand."""

    instance: str
    version: str = ""
    system: str = ""
    running: list[str] = []


class AgentRun(Wire, frozen=True, kw_only=True):
    """Do this backup as the server's task `upid`."""

    upid: str
    run: BackupRun


class AgentOrders(Wire, frozen=True, kw_only=True):
    """What to begin, what to stop, and what to begin `again` because its session has ended at the server.

    Orders are repeated until a poll shows that they were followed.

    The server answers a poll within `hold_seconds`, and gives a silent agent's tasks up after `grace_seconds`.
    """

    start: list[AgentRun] = []
    stop: list[str] = []
    again: list[str] = []
    hold_seconds: Seconds = 0.0
    grace_seconds: Seconds = 0.0


class AgentEnd(Wire, frozen=True, kw_only=True):
    """How a task ended on the host: OK, FAILED or CANCELLED. `code`, `message` and `hint` as an error has them."""

    status: str
    message: str = ""
    code: str = ""
    hint: str = ""
