"""Bodies of the sync routes (`/api/v1/datastores/{store}/pull`, `/api/v1/sync-jobs`)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits, limits_sync
from ibs.core.retention import Policy
from ibs.wire.common import Count, Seconds, Wire

Words = Annotated[list[str], msgspec.Meta(max_length=limits.JOB_WORDS_MAX)]


class PullStart(Wire, frozen=True, kw_only=True):
    """Bring snapshots of `source`, a datastore of `remote`, that are not here yet. They keep their names.

    `groups` are globs over `host/web01`; `newest` counts in each group, after `max_age_seconds`. None and empty: all.
    """

    remote: str
    source: str
    namespace: str = ""
    depth: Annotated[int, msgspec.Meta(ge=0, le=limits.NAMESPACE_DEPTH_MAX)] = 0
    """So many levels of namespaces below `namespace` too; 0: that one only."""
    groups: Words = []
    types: Words = []
    newest: Count | None = None
    max_age_seconds: Seconds | None = None
    bandwidth: Count = 0
    """Bytes a second at most; 0: no limit."""
    again: bool = False
    """Also what was forgotten here and is still in the bin."""
    keep: Policy = Policy()
    """Of each group only what a retention with these rules would keep; without rules all."""
    snapshot: Annotated[str, msgspec.Meta(max_length=limits_sync.SNAPSHOT_CHARS_MAX)] = ""
    """Only this one, `host/web01/TIME`, or the newest of `host/web01`; "" for all that the rest chooses."""
    trust_signers: Words = []
    """Keys (64 hex digits) of servers that are no more: what they signed is taken, too."""
    resync: bool = False
    """What verification found damaged here and is whole there is mended from there."""
    remove_vanished: bool = False
    """What sync brought and the source has no more goes to the bin; never the last good one, nor a protected one."""
    accept_vanished: bool = False
    """Remove what vanished also when it is most of what the remote ever sent. For one run, never for a job."""


class SyncRun(Wire, frozen=True, kw_only=True):
    """One run of a job, by hand. `accept_vanished`: see `PullStart`."""

    accept_vanished: bool = False


class SyncSpec(PullStart, frozen=True, kw_only=True):
    """What a sync job brings, where to and when. `schedule` is a calendar expression in `time_zone`; "": by hand."""

    store: str
    schedule: Annotated[str, msgspec.Meta(max_length=limits.SCHEDULE_CHARS_MAX)] = ""
    time_zone: str = "UTC"
    comment: Annotated[str, msgspec.Meta(max_length=limits.COMMENT_CHARS_MAX)] = ""


class SyncCreate(Wire, frozen=True, kw_only=True):
    name: str
    spec: SyncSpec
    enabled: bool = True


class SyncUpdate(Wire, frozen=True, kw_only=True):
    """What is None stays as it is."""

    spec: SyncSpec | None = None
    enabled: bool | None = None


class SyncJobView(Wire, frozen=True, kw_only=True):
    """`next` "": never by itself; `last` "": not yet; `state` and `upid` are of the last task."""

    name: str
    spec: SyncSpec
    enabled: bool
    next: str = ""
    last: str = ""
    state: str = ""
    upid: str = ""
    changed: str = ""
    changed_by: str = ""
    trouble: str = ""


class SyncStatus(Wire, frozen=True, kw_only=True):
    """How the run that is under way goes, or how the last one went.

    `rate` is in bytes a second since it began. Free bytes are None where they cannot be told;
    `remote_trouble` says why.
    """

    name: str
    state: str = ""
    upid: str = ""
    started: str = ""
    ended: str = ""
    chunks: int = 0
    bytes: int = 0
    rate: int = 0
    free_bytes_here: int | None = None
    free_bytes_remote: int | None = None
    remote_trouble: str = ""
    message: str = ""
    last_error: str = ""
    warnings: int = 0
    next: str = ""
