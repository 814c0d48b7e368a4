"""The previous snapshot's indexes as a session may reuse them: pinned by hard link, with a bitmap of what is usable.

Used by `engine.session` only; all functions block. PROTOCOLS 6, 8 and P8: the base is the same group's newest snapshot,
under the same key, last verification not failed; an index that does not match its manifest is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ibs.core import limits, limits_index
from ibs.core.events import EventSource, Severity
from ibs.core.idtable import IdTable
from ibs.core.index import IdArray, IdLookup, distinct
from ibs.core.manifest import ManifestArchive
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.indexes import IndexFile, linked_index
from ibs.engine.session.facts import SessionFacts
from ibs.engine.session.journal import id_array
from ibs.errors import FormatError, NotFoundError
from ibs.ports.chunkstore import Address, ChunkInfo, ChunkState, ChunkStore
from ibs.storage.local.workfolder import WorkFolder
from ibs.wire.session import BaseArchive

USABLE = (ChunkState.RECEIVED, ChunkState.DURABLE)


@dataclass(frozen=True)
class Base:
    """One reusable index. `file` is the link in staging; `bitmap` one bit a record, least significant first."""

    view: BaseArchive
    file: str
    bitmap: bytes
    available: IdTable = field(repr=False)


def base_file(archive: str) -> str:
    """Name of the link in the session's folder."""
    return f"base-{archive}.idx"


def pin_bases(context: StoreContext, folder: WorkFolder, facts: SessionFacts, newest: StoredSnapshot) -> list[Base]:
    """Link and judge the indexes of `newest` that the session may reuse.

    The link comes first, then the gate, then the look at the store: a deletion that starts in between sees the link,
    one that is already under way hears the announcement, and what was deleted before shows as not available.
    """
    if newest.verify_failed:
        return []
    found = []
    for archive in newest.manifest.archives:
        if archive.name not in facts.archives or archive.key_fingerprint != facts.key_fingerprint:
            continue
        try:
            found.append(_pin(context, folder, facts, newest, archive))
        except (FormatError, NotFoundError) as error:
            context.emit(
                EventSource.BACKUP,
                Severity.WARNING,
                "backup.base-unusable",
                f"the previous index of {archive.name} in {newest.name} cannot be reused: {error}"[:1000],
                snapshot=str(newest.name),
                archive=archive.name,
            )
            folder.unlink(base_file(archive.name))
    return found


def _pin(
    context: StoreContext, folder: WorkFolder, facts: SessionFacts, newest: StoredSnapshot, archive: ManifestArchive
) -> Base:
    file = base_file(archive.name)
    folder.link(newest.folder, f"{archive.name}.idx", as_name=file)
    index = linked_index(folder, file)
    domain = facts.domain_bytes
    if index.header.domain != domain:
        raise FormatError(f"index {archive.name} of {newest.name} is of another key")
    proven = index.prove(lambda _, ids: context.gate.announce(domain, ids))
    if proven.digest != archive.index_digest:
        raise FormatError(f"index {archive.name} of {newest.name} does not match its manifest")
    usable = _judge(context.store, domain, index)
    complete = bool(usable.all())
    view = BaseArchive(
        archive=archive.name,
        snapshot=str(newest.name),
        index_bytes=index.header.file_bytes,
        records=index.header.records,
        complete=complete,
    )
    bitmap = np.packbits(usable, bitorder="little").tobytes()
    return Base(view, file, bitmap, proven.rows if complete else proven.rows.only(usable))


def _judge(store: ChunkStore, domain: bytes, index: IndexFile) -> NDArray[np.bool_]:
    """For each record whether it may be reused. A zero block is not stored, so nothing can be wrong with it.

    Goes over the file once for each range of ids, since in the order of ids the store's index is read page by page.
    """
    usable = np.ones(index.header.records, dtype=np.bool_)
    for low, high in _ranges(index.header.records):
        rows: list[NDArray[np.int64]] = []
        ids: list[IdArray] = []
        gathered = 0
        for first, piece in index.blocks():
            some_rows, some = index.stored(piece, first)
            inside = (some[:, 0] >= low) & (some[:, 0] < high)
            rows.append(some_rows[inside])
            ids.append(some[inside])
            gathered += len(rows[-1])
            if gathered >= 2 * limits_index.PRESENCE_RUN_IDS:  # ids chosen to lie in one range
                _look(store, domain, usable, np.concatenate(rows), np.concatenate(ids))
                rows, ids, gathered = [], [], 0
        if gathered:
            _look(store, domain, usable, np.concatenate(rows), np.concatenate(ids))
    return usable


def _ranges(records: int) -> Iterator[tuple[int, int]]:
    """First bytes of ids, from and up to, such that each range holds about PRESENCE_RUN_IDS of so many."""
    count = min(256, -(-records // limits_index.PRESENCE_RUN_IDS) or 1)
    edges = [256 * at // count for at in range(count + 1)]
    return pairwise(edges)


def _look(store: ChunkStore, domain: bytes, usable: NDArray[np.bool_], rows: NDArray[np.int64], ids: IdArray) -> None:
    """Note in `usable` which of these rows are there."""
    wanted = distinct(ids)
    there = present(store, domain, wanted)
    if not there.all():
        usable[rows] = IdLookup(wanted[there]).contains(ids)


def present(store: ChunkStore, domain: bytes, ids: IdArray) -> NDArray[np.bool_]:
    """Which chunks are there and may be reused, asked in batches. Those in trash are revived first (P5).

    The ids are promised before this is called: in a journal or a linked index, and announced at the gate.
    """
    unavailable = store.unavailable()
    usable = np.zeros(len(ids), dtype=np.bool_)
    for start in range(0, len(ids), limits.PRESENCE_BATCH_IDS):
        addresses = [Address(domain, one.tobytes()) for one in ids[start : start + limits.PRESENCE_BATCH_IDS]]
        for at, info in enumerate(_states(store, addresses), start):
            usable[at] = info.state in USABLE and info.address not in unavailable
    return usable


class KnownBad:
    """What is known now of bad chunks of one domain: from memory, without a look at the store."""

    def __init__(self, store: ChunkStore, domain: bytes) -> None:
        self.domain = domain
        self._store = store
        self._seen: frozenset[Address] = frozenset()
        self._bad: IdLookup | None = None

    def usable(self, ids: IdArray) -> NDArray[np.bool_]:
        """Which of the ids nothing bad is known of."""
        unavailable = self._store.unavailable()
        if unavailable is not self._seen:
            bad = [address.id for address in unavailable if address.domain == self.domain]
            self._seen, self._bad = unavailable, IdLookup(distinct(id_array(b"".join(bad)))) if bad else None
        return np.ones(len(ids), dtype=np.bool_) if self._bad is None else ~self._bad.contains(ids)


def _states(store: ChunkStore, addresses: Sequence[Address]) -> list[ChunkInfo]:
    infos = store.info(addresses)
    retired = [info.address for info in infos if info.state is ChunkState.RETIRED]
    if not retired:
        return infos
    store.revive(retired)
    return store.info(addresses)
