"""The previous snapshot's indexes as a session may reuse them: pinned by hard link, with a bitmap of what is usable.

Used by `engine.session` only; all functions block. PROTOCOLS 6, 8 and P8: the base is the same group's newest snapshot,
under the same key, last verification not failed; an index that does not match its manifest is not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ibs.core import limits
from ibs.core.events import EventSource, Severity
from ibs.core.index import IdArray, IdLookup, check_records
from ibs.core.manifest import ManifestArchive
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.indexes import StoredIndex, linked_index
from ibs.engine.session.facts import SessionFacts
from ibs.engine.session.pins import id_array
from ibs.engine.session.records import distinct
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
    available: IdLookup = field(repr=False)


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
    if index.digest != archive.index_digest:
        raise FormatError(f"index {archive.name} of {newest.name} does not match its manifest")
    check_records(index.header, index.records)
    domain = facts.domain_bytes
    if index.header.domain != domain:
        raise FormatError(f"index {archive.name} of {newest.name} is of another key")
    context.gate.announce(domain, index.ids)
    bitmap, available, complete = _judge(context.store, domain, index)
    view = BaseArchive(
        archive=archive.name,
        snapshot=str(newest.name),
        index_bytes=len(index.content),
        records=index.header.records,
        complete=complete,
    )
    return Base(view, file, bitmap, available)


def _judge(store: ChunkStore, domain: bytes, index: StoredIndex) -> tuple[bytes, IdLookup, bool]:
    """The bitmap, the ids behind its ones, and whether that is all of them."""
    wanted = distinct(index.stored_ids)
    there = present(store, domain, wanted)
    complete = bool(there.all())
    available = IdLookup(wanted if complete else wanted[there])
    ids = index.ids
    bits = available.contains(ids) | ~ids.any(axis=1)  # a zero block is not stored, so nothing can be wrong with it
    return np.packbits(bits, bitorder="little").tobytes(), available, complete


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


def not_known_bad(store: ChunkStore, domain: bytes, ids: IdArray) -> NDArray[np.bool_]:
    """Which of the ids nothing bad is known of: from memory, without a look at the store."""
    usable = np.ones(len(ids), dtype=np.bool_)
    bad = [address.id for address in store.unavailable() if address.domain == domain]
    if bad:
        usable &= ~IdLookup(distinct(id_array(b"".join(bad)))).contains(ids)
    return usable


def _states(store: ChunkStore, addresses: Sequence[Address]) -> list[ChunkInfo]:
    infos = store.info(addresses)
    retired = [info.address for info in infos if info.state is ChunkState.RETIRED]
    if not retired:
        return infos
    store.revive(retired)
    return store.info(addresses)
