"""Jobs: backups that the server makes by itself, of itself and of hosts."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits
from ibs.wire.common import Count, Wire
from ibs.wire.lifecycle import PolicyBody

Words = Annotated[list[str], msgspec.Meta(max_length=limits.JOB_WORDS_MAX)]


class JobSpec(Wire, frozen=True, kw_only=True):
    """What a job does, where, and when.

    Hosts: those of `hosts`, of `tags` (any of them) and of `projects`, if they match one of `include` (shell
    patterns; empty: all) and none of `leave_out`; with none of the three lists, the server itself. One task a host.
    `schedule` is a systemd calendar expression in `time_zone`; "" for only when asked for. `backup_id` "": the host's
    name. `window` as in BackupRun; `retention` None: what namespace or datastore say.
    """

    store: str
    sources: Words
    comment: Annotated[str, msgspec.Meta(max_length=limits.COMMENT_CHARS_MAX)] = ""
    hosts: Words = []
    tags: Words = []
    projects: Words = []
    include: Words = []
    leave_out: Words = []
    namespace: str = ""
    backup_type: str = "host"
    backup_id: str = ""
    exclude: Words = []
    all_file_systems: bool = False
    reread_every: Count = limits.FULL_REREAD_EVERY_RUNS
    bandwidth: Count = 0
    """Bytes a second that each of its tasks sends at most; 0: no limit."""
    schedule: Annotated[str, msgspec.Meta(max_length=limits.SCHEDULE_CHARS_MAX)] = ""
    time_zone: str = "UTC"
    random_delay: Annotated[int, msgspec.Meta(ge=0, le=limits.JOB_DELAY_SECONDS_MAX)] = 0
    """Each run comes up to so many seconds later, the same run always as much."""
    catch_up: bool = True
    """A run that was missed is made up for, once."""
    window: Words = []
    retries: Annotated[int, msgspec.Meta(ge=0, le=limits.JOB_RETRIES_MAX)] = 0
    retention: PolicyBody | None = None
    notification_group: str = ""
    pre_hook: str = ""
    post_hook: str = ""


class JobCreate(Wire, frozen=True, kw_only=True):
    name: str
    spec: JobSpec
    enabled: bool = True


class JobUpdate(Wire, frozen=True, kw_only=True):
    """What is None stays as it is."""

    spec: JobSpec | None = None
    enabled: bool | None = None


class JobView(Wire, frozen=True, kw_only=True):
    """`comes_to`: the hosts that it has now. `next` "": never by itself; `last` "": not yet."""

    name: str
    spec: JobSpec
    enabled: bool
    comes_to: list[str]
    next: str = ""
    last: str = ""
    last_states: dict[str, str] = {}
    """State of the last task of each host."""
    changed: str = ""
    changed_by: str = ""
    trouble: str = ""
    """Why it could not run when it was due last."""


class JobStarted(Wire, frozen=True, kw_only=True):
    """One task a host."""

    upids: list[str]


class CalendarRow(Wire, frozen=True, kw_only=True):
    """A run of a job: one that was (then with its task), or one to come (`state` is `planned`)."""

    time: str
    job: str
    host: str
    state: str
    upid: str = ""
    message: str = ""


class SlotsSet(Wire, frozen=True, kw_only=True):
    slots: Count


class TaskKeeping(Wire, frozen=True, kw_only=True):
    """How long ended tasks and their logs are kept: so many, and at most so many days (0: however old)."""

    count: Annotated[int, msgspec.Meta(ge=1, le=limits.TASKS_KEPT_MAX)] = limits.TASKS_KEPT_MAX
    days: Annotated[int, msgspec.Meta(ge=0, le=limits.TASKS_KEEP_DAYS_MAX)] = 0
