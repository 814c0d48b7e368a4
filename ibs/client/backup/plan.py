"""What to back up, and what came of it. Values only.

Importable by `cli`, `services` and the backup pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ibs.core import limits
from ibs.core.keys import DataKeys
from ibs.core.manifest import ManifestArchive
from ibs.core.names import Group, Namespace, SnapshotName, archive_kind, check_archive, parse_time
from ibs.errors import UsageError
from ibs.sources.changes import MapForm
from ibs.wire.session import StageFigures

ZSTD_LEVELS = range(-7, 20)
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Changes:
    """Maps of what changed in images: pairs of archive name and file. They count from one snapshot of this group.

    That is `snapshot`, or the one whose manifest has this `digest`. `percent` of the chunks that they call unchanged
    are read and compared; None: a few.
    """

    maps: tuple[tuple[str, str], ...]
    snapshot: SnapshotName | None = None
    digest: str = ""
    form: MapForm = MapForm.EXTENTS
    percent: float | None = None

    def __post_init__(self) -> None:
        """Raises UsageError."""
        for archive, _ in self.maps:
            if archive_kind(archive) != "img":
                raise UsageError(f"archive {archive} is no image", hint="maps of changes are for NAME.img")
        if self.percent is not None and not 0 <= self.percent <= 100:
            raise UsageError(f"{self.percent:g} % is not a share", hint="use 0 to 100")
        if bool(self.digest) == (self.snapshot is not None):
            raise UsageError("a map of changes counts from one snapshot", hint="name it with --changed-since")

    @classmethod
    def parse(
        cls,
        maps: Sequence[str],
        since: str,
        *,
        group: str,
        namespace: str = "",
        form: MapForm = MapForm.EXTENTS,
        percent: float | None = None,
    ) -> Changes | None:
        """From `ARCHIVE.img=FILE` each, and a snapshot of the group, its time, or its manifest's digest in hex.

        None when there is neither. Raises UsageError.
        """
        if not maps and not since and percent is None and form is MapForm.EXTENTS:
            return None
        if not maps:
            raise UsageError("no map of changes is given", hint="name one with --changed disk.img=FILE")
        if not since:
            raise UsageError(
                "a map of changes says nothing without the snapshot that it counts from",
                hint="name that snapshot with --changed-since; `backup --output json` prints the name of each",
            )
        pairs = []
        for text in maps:
            archive, equals, file = text.partition("=")
            if not equals or not file:
                raise UsageError(f"map {text!r} is not valid", hint="write it like disk.img=/run/changes.json")
            pairs.append((archive, file))
        if _DIGEST.fullmatch(since):
            return cls(tuple(pairs), digest=since, form=form, percent=percent)
        mine = SnapshotName(Namespace.parse(namespace), Group.parse(group))
        snapshot = SnapshotName.parse(since, mine.namespace) if "/" in since else mine.at(parse_time(since))
        if snapshot.time is None:
            raise UsageError(
                f"snapshot {since!r} has no time: the newest one is not always the one a map counts from",
                hint="write it like host/web01/2026-11-22T19:00:00Z",
            )
        if (snapshot.namespace, snapshot.group) != (mine.namespace, mine.group):
            raise UsageError(f"snapshot {since!r} is not of the group {mine}", hint="a map counts from the same group")
        return cls(tuple(pairs), snapshot, form=form, percent=percent)


@dataclass(frozen=True)
class BackupPlan:
    """One snapshot to be made. `sources` are pairs of archive name and path; `owner` is the auth-id that backs up,
    "" for whoever the session belongs to.

    `level` is zstd's; 2 is tuned for chunks (`core.blob`). `reread` reads everything although it seems unchanged, as
    every run of number `reread_every` in a row does (0: none). `client` names host and program.
    `discard_if_full`: when the datastore is full, what this backup delivered is not kept for the next attempt.
    `bandwidth`: bytes a second of new data that are sent at most (0: as many as there is room for).
    `keys` encrypt and sign; with `sign_only` they just sign. `wrapped_key`: the same for the owner of a master key
    (`core.masterkey`), to be kept beside the archives; b"" for none. `in_clear`: go on without encryption although the
    group's newest snapshot is encrypted.
    """

    store: str
    group: str
    sources: tuple[tuple[str, str], ...]
    client: str
    owner: str = ""
    namespace: str = ""
    excludes: tuple[str, ...] = ()
    all_file_systems: bool = False
    level: int = 2
    keys: DataKeys | None = field(default=None, repr=False)
    sign_only: bool = False
    wrapped_key: bytes = field(default=b"", repr=False)
    in_clear: bool = False
    reread: bool = False
    reread_every: int = limits.FULL_REREAD_EVERY_RUNS
    changes: Changes | None = None
    discard_if_full: bool = False
    bandwidth: int = 0

    @property
    def cipher(self) -> DataKeys | None:
        """The keys that encrypt; None for a readable snapshot, signed or not."""
        return None if self.sign_only else self.keys

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
        if self.reread_every < 0:
            raise UsageError(f"every {self.reread_every} runs is not valid", hint="use a number, or 0 for never")
        mapped = [name for name, _ in self.changes.maps] if self.changes is not None else []
        for name in mapped:
            if name not in names or mapped.count(name) > 1:
                raise UsageError(f"{name} has no source, or two maps", hint="give each image of this backup one map")


@dataclass(frozen=True)
class BackupOutcome:
    """A finished backup. `status` is OK or WARNING; `snapshot` is "" after a dry run.

    `bytes_seen` is the content of all files and images, read or taken over; `bytes_read` what was read of it;
    `bytes_reused` what was taken over unread; `bytes_repacked` what was read although it did not change, because the
    chunks it was in (`chunks_repacked`) were hardly used any more; `bytes_sent` and `chunks_sent` what went to the
    server; `new_chunks` and `new_bytes` what was new to it. `remarks` are lines about how it went that are no warnings.
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
    files_repacked: int = 0
    bytes_repacked: int = 0
    chunks_repacked: int = 0
    bytes_seen: int = 0
    bytes_read: int = 0
    bytes_reused: int = 0
    bytes_sent: int = 0
    chunks_sent: int = 0
    new_chunks: int = 0
    new_bytes: int = 0
    seconds: float = 0.0
    archives: tuple[ManifestArchive, ...] = ()
    stages: dict[str, StageFigures] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
