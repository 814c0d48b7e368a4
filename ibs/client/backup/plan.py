"""What to back up, and what came of it. Values only.

Importable by `cli`, `services` and the backup pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ibs.core.keys import DataKeys
from ibs.core.manifest import ManifestArchive
from ibs.core.names import Group, Namespace, check_archive
from ibs.errors import UsageError
from ibs.wire.session import StageFigures

ZSTD_LEVELS = range(-7, 20)


@dataclass(frozen=True)
class BackupPlan:
    """One snapshot to be made. `sources` are pairs of archive name and path; `owner` is the auth-id that backs up.

    `level` is zstd's. `reread` reads every file although it seems unchanged. `client` names host and program.
    """

    store: str
    group: str
    sources: tuple[tuple[str, str], ...]
    owner: str
    client: str
    namespace: str = ""
    excludes: tuple[str, ...] = ()
    all_file_systems: bool = False
    level: int = 3
    keys: DataKeys | None = field(default=None, repr=False)
    reread: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError."""
        Group.parse(self.group)
        Namespace.parse(self.namespace)
        if not self.sources:
            raise UsageError("nothing to back up", hint="name at least one source, such as etc.tree:/etc")
        if self.level not in ZSTD_LEVELS:
            raise UsageError(f"compression level {self.level} is not valid", hint="use 1 (fast) to 19 (small)")
        names = [check_archive(name) for name, _ in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"archive {name} is named twice", hint="give each source an archive of its own")


@dataclass(frozen=True)
class BackupOutcome:
    """A finished backup. `status` is OK or WARNING; `snapshot` is "" after a dry run.

    `bytes_seen` is the content of all files and images, read or taken over; `bytes_read` what was read of it;
    `bytes_sent` and `chunks_sent` what went to the server; `new_chunks` and `new_bytes` what was new to it.
    """

    snapshot: str
    status: str
    warnings: int
    upid: str = ""
    manifest_digest: str = ""
    entries: int = 0
    files: int = 0
    files_read: int = 0
    files_reused: int = 0
    files_healed: int = 0
    bytes_seen: int = 0
    bytes_read: int = 0
    bytes_sent: int = 0
    chunks_sent: int = 0
    new_chunks: int = 0
    new_bytes: int = 0
    seconds: float = 0.0
    archives: tuple[ManifestArchive, ...] = ()
    stages: dict[str, StageFigures] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
