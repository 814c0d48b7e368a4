"""Everything that keeps chunks of a store alive, read from disk: journals and pinned bases, leases, the bin, then
snapshots.

Used by `engine` for targeted deletion, for finding what nobody refers to, and for finding whom a bad chunk hurts.
Synchronous; call from the pool. The order of reading is part of the safety argument (PROTOCOLS 10, P5): promises
first, manifests last, so that what moves from a session to a snapshot meanwhile is seen at least once. What cannot
be read raises; it never counts as absent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ibs.core import limits, manifest
from ibs.core.ids import ID_BYTES
from ibs.core.index import IdArray
from ibs.core.names import SnapshotName
from ibs.engine.context import StoreContext
from ibs.engine.indexes import bin_index, linked_index, snapshot_index
from ibs.engine.session.facts import SESSION_FILE, SESSION_FILE_BYTES_MAX, SessionFacts, decode_facts
from ibs.engine.session.journal import JOURNAL_FILE, id_array, journal_blocks
from ibs.errors import FormatError, NotFoundError
from ibs.storage.local.workfolder import WorkFolder

JOURNAL_BYTES_MAX = limits.INDEX_RECORDS_MAX * ID_BYTES


@dataclass(frozen=True, slots=True)
class Protected:
    """Some ids that are referred to. `domain` None: in whatever domain (a journal whose session is unreadable).

    `promise`: whoever refers to them does not count on each being there (a journal). `snapshot`: a visible one refers.
    """

    by: str
    domain: bytes | None
    ids: IdArray
    promise: bool = False
    snapshot: SnapshotName | None = None


def protected_ids(
    context: StoreContext, *, skip: Collection[str] = (), without: Collection[SnapshotName] = ()
) -> Iterator[Protected]:
    """All references of the store, sessions in `skip` and snapshots in `without` left out; newest snapshots first.

    Raises FormatError when something is unreadable.
    """
    for session_id in context.store.staging.names():
        if session_id not in skip:
            with contextlib.suppress(NotFoundError):  # it has ended since; see _linked
                yield from _of_session(context.store.staging.folder(session_id))
    for reader_id in context.store.leases.names():
        with contextlib.suppress(NotFoundError):
            yield from _linked(context.store.leases.folder(reader_id), "")
    for reader_id, lease in context.leases.held():
        for name, index in lease.indexes():
            for ids in index.ids():
                yield Protected(f"reader {reader_id} {name}", index.header.domain, ids)
    for entry in context.store.bin.entries():
        yield from of_bin_entry(context, entry)
    for snapshot in newest_first(context):
        if snapshot not in without:
            yield from of_snapshot(context, snapshot)


def newest_first(context: StoreContext) -> list[SnapshotName]:
    """All snapshots of the store. Pruning takes the oldest: read last, they may be gone by then, and cost nothing."""

    def age(name: SnapshotName) -> tuple[float, str]:
        return name.time.timestamp() if name.time is not None else 0.0, str(name)

    return sorted(context.folders.every(), key=age, reverse=True)


def _of_session(folder: WorkFolder) -> Iterator[Protected]:
    facts = facts_of(folder)
    domain = facts.domain_bytes if facts is not None else None
    for _, ids in journal_blocks(folder):
        yield Protected(folder.path, domain, ids, promise=True)
    yield from _linked(folder, "base-")


def _linked(folder: WorkFolder, prefix: str) -> Iterator[Protected]:
    """Linked indexes. One that is gone when we come to it belonged to a session or reader that has ended since;
    whatever it still protects is in a manifest, and those are read last.
    """
    for name in folder.names():
        if name.startswith(prefix) and name.endswith(".idx"):
            try:
                index = linked_index(folder, name)
                for ids in index.ids():
                    yield Protected(f"{folder.path}/{name}", index.header.domain, ids)
            except NotFoundError:
                continue


def of_snapshot(context: StoreContext, name: SnapshotName) -> Iterator[Protected]:
    """The references of one snapshot, an archive at a time; nothing when it was removed meanwhile."""
    try:
        stored = context.folders.load(name)
    except NotFoundError:
        return
    for archive in stored.manifest.archives:
        try:
            index = snapshot_index(context.folders.files, stored.folder, archive.name)
            for ids in index.ids():
                yield Protected(f"{name} {archive.name}", index.header.domain, ids, snapshot=name)
        except NotFoundError:
            if not context.folders.exists(name):
                return
            raise FormatError(
                f"snapshot {name} has lost the index of {archive.name}", hint="restore the snapshot from a replica"
            ) from None


def of_bin_entry(context: StoreContext, entry: str) -> Iterator[Protected]:
    """The references of a forgotten snapshot; nothing when it left the bin meanwhile.

    What moves between the bin and its place is told at the gate (`PinGate.moving`): no order of looking sees it surely.
    """
    files = context.store.bin
    try:
        stated = manifest.decode(files.read(entry, manifest.MANIFEST_FILE))
        for archive in stated.archives:
            by = f"{stated.snapshot} in the bin, {archive.name}"
            index = bin_index(files, entry, archive.name, f"{by}.idx")
            for ids in index.ids():
                yield Protected(by, index.header.domain, ids)
    except NotFoundError:
        if entry in files.entries():
            raise FormatError(
                f"entry {entry} of the bin has lost an index", hint="undo is useless; remove it: bin empty"
            ) from None


def facts_of(folder: WorkFolder) -> SessionFacts | None:
    """What a staged session says of itself; None when that is missing or unreadable."""
    try:
        return decode_facts(folder.read(SESSION_FILE, length=SESSION_FILE_BYTES_MAX))
    except (NotFoundError, FormatError):
        return None


def journal_of(folder: WorkFolder) -> IdArray:
    """The ids in a session's journal; none when there is no journal."""
    try:
        return id_array(folder.read(JOURNAL_FILE, length=JOURNAL_BYTES_MAX))
    except NotFoundError:
        return id_array(b"")
