"""Bodies of the write-session routes (`/api/v1/datastores/STORE/sessions`, `/api/v1/sessions/SID/…`)."""

from __future__ import annotations

from ibs.wire.common import Count, Seconds, Wire


class SessionOpen(Wire, frozen=True, kw_only=True):
    """`archives` names every archive the snapshot will hold (`etc.tree`, `disk.img`).

    `key_fingerprint` is "" for plain, else the full fingerprint (colon form) of the data key.
    """

    store: str
    group: str
    namespace: str = ""
    archives: list[str]
    key_fingerprint: str = ""
    signing_key: str = ""
    """Of a plain session: the fingerprint of the registered key its manifest is signed with; "" for the server's."""
    use_base: bool = True
    client_version: str = ""


class BaseArchive(Wire, frozen=True, kw_only=True):
    """An index of the previous snapshot that may be reused. `index_bytes` is the size of its file.

    `complete`: every chunk of it may be reused, so that the bitmap need not be asked for.
    """

    archive: str
    snapshot: str
    index_bytes: int
    records: int
    complete: bool = False


class SessionOpened(Wire, frozen=True, kw_only=True):
    """`snapshot` is the full written name with the time the server assigned."""

    session_id: str
    upid: str
    datastore_uuid: str
    snapshot: str
    sequence: int
    previous_manifest_digest: str
    bases: list[BaseArchive]
    base_run: int = 0
    """How many runs in a row have reused extents (0: none); the client rereads all every 30th."""
    resumed_chunks: int = 0
    heartbeat_seconds: int = 20
    auth_id: str = ""
    """Whose session it is; the owner that the manifest must name."""
    previous_key: str = ""
    """Fingerprint of the key that the group's newest snapshot is encrypted with; "" when it is not."""


class ArchiveClose(Wire, frozen=True, kw_only=True):
    """Everything of the index header that the server cannot compute itself. `root` is hex ("" for images)."""

    plain_bytes: Count
    records: Count
    root: str = ""
    depth: Count = 0
    chunk_bytes: Count = 0


class ArchiveClosed(Wire, frozen=True, kw_only=True):
    """`index_digest` is BLAKE3-256 (hex) of the finished index file, as the manifest must state it."""

    archive: str
    index_bytes: int
    index_digest: str


class StageFigures(Wire, frozen=True, kw_only=True):
    """One stage of a pipeline: seconds its workers were busy and waiting, bytes and items through it."""

    busy_seconds: Seconds = 0.0
    wait_seconds: Seconds = 0.0
    bytes: Count = 0
    items: Count = 0


class StageReport(Wire, frozen=True, kw_only=True):
    """Sent at least every heartbeat. `lines` are new log lines; `done_bytes` of `total_bytes` (0: unknown)."""

    done_bytes: Count = 0
    total_bytes: Count = 0
    files: Count = 0
    stages: dict[str, StageFigures] = {}
    lines: list[LogLine] = []


class LogLine(Wire, frozen=True, kw_only=True):
    """`level` is info, warning or error."""

    level: str
    text: str


class Received(Wire, frozen=True, kw_only=True):
    """How many blobs of one upload body were received and pinned."""

    received: int


class CommitRequest(Wire, frozen=True, kw_only=True):
    """`manifest` is the exact text of manifest.json; `signature` base64, "" to let the server sign."""

    manifest: str
    signature: str = ""
    warnings: Count = 0
    report: StageReport | None = None
    """The last figures and log lines of the session, told before it is committed; it saves a request."""


class CommitResult(Wire, frozen=True, kw_only=True):
    """The snapshot is durable. `status` is OK or WARNING."""

    snapshot: str
    manifest_digest: str
    status: str
    new_chunks: int
    new_bytes: int
    healed_chunks: int = 0
    """Chunks that were damaged or missing in the datastore, and were replaced by this backup."""
