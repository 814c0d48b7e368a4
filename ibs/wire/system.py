"""Bodies of status, tasks, worker, access and inbox routes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ibs.core import limits
from ibs.wire.common import Count, Wire
from ibs.wire.session import StageFigures


class ServiceView(Wire, frozen=True, kw_only=True):
    """`state` is `active (running)`, `activating (auto-restart)`, `failed` or `inactive (dead)`."""

    unit: str
    role: str
    state: str
    since: str
    restarts: int
    duty: str
    last_error: str = ""
    mailbox: int = 0


class ServerStatus(Wire, frozen=True, kw_only=True):
    product: str
    version: str
    node: str
    pid: int
    started: str
    uptime_seconds: float
    fingerprint: str
    listen: str
    services: list[ServiceView]
    loop_stalls: int = 0
    loop_stall_longest_ms: float = 0.0


class WhoAmI(Wire, frozen=True, kw_only=True):
    """The identity behind the credential that was sent. `signer` is the key (hex) the server signs manifests with."""

    auth_id: str
    signer: str = ""


class TaskView(Wire, frozen=True, kw_only=True):
    """`state` is queued, Starting, running, OK, WARNING, FAILED or CANCELLED."""

    upid: str
    type: str
    id: str
    auth_id: str
    state: str
    started: str
    ended: str = ""
    message: str = ""
    warnings: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    waits_for: str = ""
    stages: dict[str, StageFigures] = {}
    host: str = ""
    job: str = ""


class TaskLogLine(Wire, frozen=True, kw_only=True):
    """One line of a task's log; the last one starts with `TASK `."""

    n: int
    time: str
    level: str
    text: str


class WorkerView(Wire, frozen=True, kw_only=True):
    slots: int
    running: list[TaskView]
    queued: list[TaskView]


class BackupRun(Wire, frozen=True, kw_only=True):
    """Ask the server for a backup of a host's files, its own by default. `sources` are ARCHIVE:PATH.

    `host` "" or the server's node is the server itself. `job` and `notification_group` say on whose behalf it runs.
    `reread` reads everything although it seems unchanged, as every run of number `reread_every` in a row does (0: no).
    """

    store: str
    sources: list[str]
    namespace: str = ""
    backup_type: str = "host"
    backup_id: str = ""
    exclude: list[str] = []
    all_file_systems: bool = False
    reread: bool = False
    reread_every: Count = 30
    bandwidth: Count = 0
    """Bytes a second that are sent at most; 0: no limit."""
    host: str = ""
    job: str = ""
    notification_group: str = ""
    pre_hook: str = ""
    post_hook: str = ""
    """Names of programs that the host itself keeps for this, run there before and after."""
    window: list[str] = []
    """Times of day when it may begin, `22:00-06:00`, in `time_zone`; empty for any."""
    time_zone: str = "UTC"
    retries: Annotated[int, msgspec.Meta(ge=0, le=limits.JOB_RETRIES_MAX)] = 0
    """Times that it is done again after it failed, ever later."""


class UserCreate(Wire, frozen=True, kw_only=True):
    auth_id: str
    comment: str = ""


class UserView(Wire, frozen=True, kw_only=True):
    auth_id: str
    enabled: bool
    comment: str = ""


class IdentityChange(Wire, frozen=True, kw_only=True):
    """`enabled` false: a user with all its tokens, or one token, is refused until it is true again."""

    enabled: bool


class TokenCreate(Wire, frozen=True, kw_only=True):
    """`auth_id` is `user@realm!name`; `expires` RFC 3339 or ""."""

    auth_id: str
    comment: str = ""
    expires: str = ""


class TokenCreated(Wire, frozen=True, kw_only=True):
    """The secret is shown once and never stored readable."""

    auth_id: str
    secret: str


class TokenView(Wire, frozen=True, kw_only=True):
    auth_id: str
    enabled: bool
    comment: str = ""
    expires: str = ""
    last_used: str = ""


class AclEntry(Wire, frozen=True, kw_only=True):
    path: str
    role: str
    auth_id: str
    propagate: bool = True
    warning: str = ""
    """In answers: what may be a mistake, such as a datastore that does not exist."""


class InboxView(Wire, frozen=True, kw_only=True):
    id: int
    time: str
    severity: str
    source: str
    text: str
    fields: dict[str, Any] = {}
