"""Bodies of the datastore and snapshot routes."""

from __future__ import annotations

from ibs.wire.common import Wire


class DatastoreCreate(Wire, frozen=True, kw_only=True):
    name: str
    path: str
    comment: str = ""


class DatastoreAdopt(Wire, frozen=True, kw_only=True):
    """Attach the existing datastore at `path`. `takeover`: although it belongs to another server."""

    name: str
    path: str
    comment: str = ""
    takeover: bool = False


class DatastoreView(Wire, frozen=True, kw_only=True):
    """`status` is `online`, `offline`, `read-only` or `quarantined`; `reason` says why when not online.

    `mode` is `normal`, `quarantined`, `read-only` or `offline`: what people hold it to, as far as is known.
    `warnings` is what its owner should know about what was just done: the place of a new one, a mode not noted.
    """

    name: str
    path: str
    uuid: str
    status: str
    reason: str = ""
    comment: str = ""
    bytes_total: int = 0
    bytes_free: int = 0
    snapshots: int = 0
    warnings: list[str] = []
    mode: str = "normal"


class QuarantineRequest(Wire, frozen=True, kw_only=True):
    reason: str = ""


class ReleaseRequest(Wire, frozen=True, kw_only=True):
    """`cause`: what was found to have gone wrong."""

    cause: str


class MaintenanceRequest(Wire, frozen=True, kw_only=True):
    """`mode` is `read-only`, `offline` or `off`. Work under way may go on for `drain_seconds`, then it is ended."""

    mode: str
    reason: str = ""
    drain_seconds: int | None = None


class ProbeCheck(Wire, frozen=True, kw_only=True):
    """One thing that was looked at. `ok` False is the reason for being offline."""

    check: str
    ok: bool
    detail: str


class ProbeResult(Wire, frozen=True, kw_only=True):
    name: str
    status: str
    reason: str = ""
    checks: list[ProbeCheck]
    mode: str = "normal"


class DatastoreStats(Wire, frozen=True, kw_only=True):
    """Counts and sizes. `plain_bytes` is what the snapshots would take without dedup and compression."""

    name: str
    status: str
    bytes_total: int
    bytes_free: int
    inodes_total: int
    inodes_free: int
    quota_bytes_free: int | None
    chunks: int
    chunk_bytes: int
    bad_chunks: int
    received_chunks: int
    groups: int
    snapshots: int
    plain_bytes: int
    dedup_ratio: float
    open_sessions: int
    interrupted_sessions: int
    mode: str = "normal"
    quota: str = ""
    """Whose quotas hold in the datastore's folder (`project 77`); figures are of the tightest, null for none."""
    quota_bytes_total: int | None = None
    quota_inodes_free: int | None = None
    quota_inodes_total: int | None = None
    trash_chunks: int = 0
    trash_bytes: int = 0
    """What garbage collection retired and `gc start --reclaim now` frees at once."""
    trash_due_chunks: int = 0
    trash_due_bytes: int = 0
    """Of that, what has had its grace and goes with the next round."""
    unreferenced_chunks: int | None = None
    unreferenced_bytes: int | None = None
    unreferenced_as_of: str = ""
    """What the last marking found that nothing refers to, trash left out; null and "" when there was none yet."""
    reclaimable_bytes: int = 0
    """Trash, and what is known to be unreferenced. What snapshots in the bin hold is not in it."""
    growth_bytes_per_day: int = 0
    """By which free space shrinks, over the last month; 0 when it does not or too few days are known."""
    fills_on: str = ""
    """The day on which free space is used up at that rate; empty when it is not, or not within ten years."""


class UsageRow(Wire, frozen=True, kw_only=True):
    """What a group or namespace takes. `unique_bytes` would be freed with it, `shared_bytes` others use as well."""

    name: str
    snapshots: int
    plain_bytes: int
    stored_bytes: int
    unique_bytes: int
    shared_bytes: int


class GrowthDay(Wire, frozen=True, kw_only=True):
    """One sample a day, `day` as 2026-11-22."""

    day: str
    chunks: int
    chunk_bytes: int
    free_bytes: int


class ArchiveView(Wire, frozen=True, kw_only=True):
    name: str
    kind: str
    plain_bytes: int
    chunks: int
    index_digest: str
    key_fingerprint: str = ""


class SnapshotView(Wire, frozen=True, kw_only=True):
    """One row of `snapshot list`. `verify` is "" (never), OK, CORRUPT, MISSING or STALE."""

    snapshot: str
    namespace: str
    group: str
    time: str
    owner: str
    plain_bytes: int
    archives: list[ArchiveView]
    warnings: int = 0
    protected: bool = False
    verify: str = ""
    signed_by: str = ""
    notes: str = ""
    manifest_digest: str = ""
    source: str = ""
    """Digest of the manifest that it was made from when its group was moved; "" otherwise."""
    brought: bool = False
    """Copied from another server."""
    brought_from: str = ""
    """The remote that it was copied from, by the name it had here then."""
    locked_until: str = ""
    locked_by: str = ""
    """Until then nobody can remove it; "" when it is not locked."""


class GroupView(Wire, frozen=True, kw_only=True):
    namespace: str
    group: str
    owner: str
    snapshots: int
    newest: str


class VerifyStart(Wire, frozen=True, kw_only=True):
    snapshot: str = ""
    namespace: str = ""
    notification_mode: str = "on-failure"
    verify_window_days: int | None = None
    """Chunks checked within so many days, and not touched since, are not read again; 0 reads all. None: 30."""
    max_concurrent_snapshots: int = 1
    io_limit: int = 0
    """Bytes a second; 0 for no limit."""
    repair_from: str = ""
    """`REMOTE:DATASTORE`: what is damaged here is fetched from there, and verified again."""


class VerifyReport(Wire, frozen=True, kw_only=True):
    """Result of verifying one snapshot.

    `proof` says what was proven: presence, stored digest, content id, signature.
    """

    snapshot: str
    started: str
    duration_seconds: float
    chunks: int
    bytes: int
    result: str
    proof: list[str]
    first_failure: str = ""
    upid: str = ""
    bad_chunks: list[str] = []
    """Hex ids of corrupt and missing chunks, at most VERIFY_BAD_CHUNKS_LISTED."""
    affected: list[str] = []
    """Every snapshot of the datastore that refers to one of them."""
    read: int = 0
    """Chunks read in this verification; the others were checked before, none earlier than `oldest_check`."""
    oldest_check: str = ""
    healed: bool = False
    """It was damaged at the verification before, and is whole now."""
    store: str = ""
    stale: str = ""
    """Why the last verification is too long ago, for a result STALE."""


class VerifyOutlook(Wire, frozen=True, kw_only=True):
    """How verification of a datastore stands. `fits` None: no rate is known yet. `never`: not verified, and young."""

    name: str
    snapshots: int
    ok: int
    corrupt: int
    missing: int
    stale: int
    never: int
    oldest_check: str
    bytes: int
    rate_bytes: int
    pass_seconds: int
    window_days: int
    fits: bool | None
    text: str


class DamagedChunk(Wire, frozen=True, kw_only=True):
    """`result` is CORRUPT, MISSING or SUSPECT (a client could not authenticate it)."""

    chunk: str
    result: str
    snapshots: list[str]


class Damage(Wire, frozen=True, kw_only=True):
    """What is known to be damaged in a datastore: at most LIST_ROWS_MAX chunks, and every snapshot that names one."""

    name: str
    bad_chunks: int
    chunks: list[DamagedChunk]
    snapshots: list[str]
