"""Bodies about the life of snapshots: notes, protection, the bin, namespaces, the store's clock, retention, pruning."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits
from ibs.wire.common import Count, Wire

Keep = Annotated[int, msgspec.Meta(ge=0, le=limits.RETENTION_KEEP_MAX)]
Note = Annotated[str, msgspec.Meta(max_length=limits.COMMENT_CHARS_MAX)]


class SnapshotChange(Wire, frozen=True, kw_only=True):
    """`snapshot` by its full name; `notes` and `protected` None: as they are."""

    snapshot: str
    notes: Note | None = None
    protected: bool | None = None


class SnapshotLock(Wire, frozen=True, kw_only=True):
    """`snapshot` by its full name, with its time; `until` RFC 3339."""

    snapshot: str
    until: str


class ComplianceSet(Wire, frozen=True, kw_only=True):
    """Every snapshot of `namespace` ("" for the datastore) stays so long after it was made; 0: new ones do not."""

    namespace: str = ""
    seconds: int


class ComplianceView(Wire, frozen=True, kw_only=True):
    """`seconds` 0: only what was made so far is still locked, for up to `earlier_seconds` after it was made."""

    namespace: str
    seconds: int
    by: str = ""
    time: str = ""
    earlier_seconds: int = 0


class SnapshotForget(Wire, frozen=True, kw_only=True):
    """`snapshot` by its full name, with its time."""

    snapshot: str
    why: Note = ""


class BinView(Wire, frozen=True, kw_only=True):
    """One row of `bin list`. `due`: when it goes for good, as the store's clock looks now; "" when never by itself.

    `waits` says why nothing expires at present, if so.
    """

    entry: str
    snapshot: str
    owner: str
    forgotten: str
    by: str
    why: str
    due: str
    plain_bytes: Count
    waits: str = ""


class BinUndo(Wire, frozen=True, kw_only=True):
    """`entry`: an entry, or the full name of a snapshot (the one forgotten last)."""

    entry: str


class BinEmpty(Wire, frozen=True, kw_only=True):
    """`entry`: an entry or a snapshot's full name; empty for everything in the bin."""

    entry: str = ""


class BinEmptied(Wire, frozen=True, kw_only=True):
    removed: list[str]


class SnapshotRef(Wire, frozen=True, kw_only=True):
    snapshot: str


class ClockView(Wire, frozen=True, kw_only=True):
    """The store's own clock. `frozen` says why it stands still and nothing expires; empty while it runs.

    `time` is what it shows, `wall` what the machine's clock shows.
    """

    store: str
    time: str
    wall: str
    frozen: str
    confirmed: str = ""
    confirmed_by: str = ""


class PolicyBody(Wire, frozen=True, kw_only=True):
    """How many to keep by each rule; 0 for a rule not used. `timezone` is an IANA name such as Europe/Vienna."""

    keep_last: Keep = 0
    keep_hourly: Keep = 0
    keep_daily: Keep = 0
    keep_weekly: Keep = 0
    keep_monthly: Keep = 0
    keep_yearly: Keep = 0
    timezone: str = "UTC"


class RetentionSet(Wire, frozen=True, kw_only=True):
    """`namespace` empty: for the datastore. `more_than_half`: a run may remove more than half of a group."""

    namespace: str = ""
    policy: PolicyBody
    more_than_half: bool = False


class RetentionView(Wire, frozen=True, kw_only=True):
    """One row of `retention show`. `text` is the policy in words."""

    level: str
    namespace: str
    policy: PolicyBody
    text: str
    more_than_half: bool
    by: str
    time: str


class PruneRequest(Wire, frozen=True, kw_only=True):
    """What to prune: all, a namespace with those below it, or one group of it. `policy` counts instead of the stored
    ones. `override`: also groups that look like an accident. `count_bytes` (simulation): reads every index.
    """

    namespace: str = ""
    group: str = ""
    policy: PolicyBody | None = None
    override: bool = False
    count_bytes: bool = False


class PruneDecision(Wire, frozen=True, kw_only=True):
    """`rule` that kept it and the `period` it stands for; both empty when it goes."""

    snapshot: str
    time: str
    keep: bool
    rule: str
    period: str
    plain_bytes: Count


class PruneGroup(Wire, frozen=True, kw_only=True):
    """One group, its snapshots newest first. `stopped`: why nothing would be removed all the same."""

    group: str
    level: str
    policy: PolicyBody
    text: str
    keep: Count
    remove: Count
    stopped: str
    decisions: list[PruneDecision]


class PrunePlanView(Wire, frozen=True, kw_only=True):
    """What a run would do now. `freed_bytes` None: not counted, `freed_note` says why; it counts what would really go.

    They are free when the bin's grace is over and garbage was collected.
    """

    groups: list[PruneGroup]
    keep: Count
    remove: Count
    stopped: Count
    without_policy: Count
    freed_bytes: Count | None
    freed_note: str


class NamespaceView(Wire, frozen=True, kw_only=True):
    """One row of `namespace list`; figures are those of the namespace itself, without the ones below it."""

    namespace: str
    groups: Count
    snapshots: Count


class NamespaceCreate(Wire, frozen=True, kw_only=True):
    namespace: str


class NamespaceRemove(Wire, frozen=True, kw_only=True):
    """`recursive`: with what is in it, which goes to the bin."""

    namespace: str
    recursive: bool = False


class NamespaceRemoved(Wire, frozen=True, kw_only=True):
    """`to_bin`: snapshots that were moved to the bin."""

    removed: list[str]
    to_bin: list[str]


class GroupOwnerSet(Wire, frozen=True, kw_only=True):
    """`group` with its namespace, such as `ns:a/b/host/web01`; `owner` an auth-id."""

    group: str
    owner: str


class GroupOwnerChanged(Wire, frozen=True, kw_only=True):
    group: str
    owner: str
    before: str


class GroupMove(Wire, frozen=True, kw_only=True):
    """`group` with its namespace, such as `ns:a/b/host/web01`; `namespace` where it is to go, empty for the root."""

    group: str
    namespace: str


class GroupMoved(Wire, frozen=True, kw_only=True):
    """New names, oldest first; the old snapshots are in the bin."""

    snapshots: list[str]
