"""Rebuilding what is derived from a store: its chunk index, and what the server remembers of its snapshots.

Used by `engine.datastores`. Works online, prefix by prefix; only an index that SQLite itself finds damaged needs the
datastore to be closed and opened again, which is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ibs.core import limits
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.indexes import snapshot_index
from ibs.engine.modes import Use
from ibs.errors import FormatError, NotFoundError
from ibs.storage.local import Reindexed

PREFIXES = 65_536
Progress = Callable[[int, int], None]
"""Folders done, and of how many."""


@dataclass
class Rebuilt:
    """What came of it. `damaged`: snapshots that cannot be read, in words."""

    index: Reindexed = field(default_factory=Reindexed)
    snapshots: int = 0
    damaged: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """In one sentence."""
        index = self.index
        what = (
            (index.added, "added"),
            (index.missing, "marked missing"),
            (index.found_again, "found again"),
            (index.bad, "marked corrupt"),
            (index.resized, "corrected"),
            (index.unknown, "of an unknown key left alone"),
        )
        changes = ", ".join(f"{count} {word}" for count, word in what if count) or "nothing to set right"
        read = f"{self.snapshots} snapshots read, {len(self.damaged)} damaged"
        return f"{index.files} chunk files looked at: {changes}; {read}"


async def reindex_online(datastore: Datastore, progress: Progress) -> Rebuilt:
    """Set the index right by the folders, forget what was remembered of snapshots, and read them all again.

    Raises UnderMaintenance where the mode forbids repair; NoSpace, DatastoreReadOnly, DatastoreOffline.
    *Cancellation*: between two batches; what was fixed stays fixed.
    """
    context, done = datastore.context, Rebuilt()
    with context.modes.using(Use.REPAIR):
        for first in range(0, PREFIXES, limits.REINDEX_PREFIXES):
            context.modes.require(Use.REPAIR)
            done.index += await context.pool.disk(datastore.store.reindex, first, first + limits.REINDEX_PREFIXES)
            progress(first + limits.REINDEX_PREFIXES, PREFIXES)
        for name in await datastore.snapshots.every():
            context.folders.forget(name)
            done.snapshots += 1
            problem = await context.pool.disk(_problem, datastore, name)
            if problem:
                done.damaged.append(problem)
    return done


def _problem(datastore: Datastore, name: SnapshotName) -> str:
    """Why a snapshot cannot be read; empty when it can."""
    folders, text = datastore.context.folders, str(name)
    try:
        stored = folders.load(name)
        for archive in stored.manifest.archives:
            for _ in snapshot_index(folders.files, stored.folder, archive.name).blocks():
                pass
    except NotFoundError as error:
        return "" if not folders.exists(name) else f"{text}: {error.message}"
    except FormatError as error:
        return error.message if text in error.message else f"{text}: {error.message}"
    return ""
