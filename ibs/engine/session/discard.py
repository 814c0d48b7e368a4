"""Deleting what ended sessions left behind and nothing refers to: a targeted mark over candidates.

Used by `engine` only. Why nothing referenced can go (P5; the long form is in contrib/docs/concurrency.md):

1. A watch is set at the gate, then all promises and manifests on disk are read, in that order.
2. An id promised before the watch is in a journal or a linked index by then (they are written first), or in a
   manifest. An id promised after it is announced to the watch.
3. Deletion happens inside the gate's lock and spares what was announced. A promise announced after the deletion is
   followed by its put, which stores the chunk anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ibs.core import limits
from ibs.core.index import IdArray, IdLookup, distinct
from ibs.engine.context import StoreContext
from ibs.engine.references import facts_of, journal_of, protected_ids
from ibs.engine.session.facts import SESSION_FILE, SessionFacts
from ibs.engine.session.journal import JOURNAL_FILE, Journal, id_array
from ibs.errors import NotFoundError
from ibs.ports.chunkstore import Address, ChunkState
from ibs.storage.local.store import LocalStore


@dataclass(frozen=True, slots=True)
class Discarded:
    """What was deleted."""

    sessions: int = 0
    chunks: int = 0
    bytes: int = 0

    def __add__(self, other: Discarded) -> Discarded:
        return Discarded(self.sessions + other.sessions, self.chunks + other.chunks, self.bytes + other.bytes)


async def discard_session(context: StoreContext, session_id: str) -> Discarded:
    """Delete an ended session's staging folder and those of its chunks that nothing else refers to.

    The caller has made sure that nobody can resume it any more. Raises FormatError when a reference cannot be read;
    everything is kept then. *Cancellation*: between batches; the folder stays, and discarding it again goes on.
    """
    folder = await context.pool.disk(context.store.staging.folder, session_id)
    facts = await context.pool.disk(facts_of, folder)
    ids = await context.pool.disk(journal_of, folder)
    if facts is not None:
        gone = await sweep(context, facts.domain_bytes, distinct(ids), skip=(session_id,))
    else:
        gone = await _sweep_unknown(context, distinct(ids), session_id)
    await context.pool.disk(remove_staging, context.store, session_id)
    return gone + Discarded(sessions=1)


async def _sweep_unknown(context: StoreContext, ids: IdArray, session_id: str) -> Discarded:
    """Candidates whose domain is not known: look in the store which there are."""
    found: dict[bytes, list[bytes]] = {}
    for one in ids:
        for info in await context.pool.disk(lambda prefix: list(context.store.iterate(prefix)), one.tobytes().hex()):
            found.setdefault(info.address.domain, []).append(info.address.id)
    gone = Discarded()
    for domain, chunks in found.items():
        gone += await sweep(context, domain, distinct(id_array(b"".join(chunks))), skip=(session_id,))
    return gone


async def discard_received(context: StoreContext) -> Discarded:
    """Delete received chunks that no journal and nothing else names (a power loss may leave some)."""

    def received() -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        for info in context.store.iterate():
            if info.state is ChunkState.RECEIVED:
                found.setdefault(info.address.domain, []).append(info.address.id)
        return found

    gone = Discarded()
    for domain, chunks in (await context.pool.disk(received)).items():
        gone += await sweep(context, domain, distinct(id_array(b"".join(chunks))), skip=())
    return gone


async def sweep(context: StoreContext, domain: bytes, candidates: IdArray, *, skip: Collection[str]) -> Discarded:
    """Delete those of `candidates` (distinct) that nothing refers to, the journals of sessions in `skip` aside."""
    if not len(candidates):
        return Discarded()
    lookup = IdLookup(candidates)
    gone = Discarded()
    with context.gate.watching(domain, lookup) as watch:
        alive = await context.pool.disk(_mark, context, domain, candidates, lookup, skip)
        doomed = candidates[~alive]
        for start in range(0, len(doomed), limits.DISCARD_BATCH_CHUNKS):
            batch = [one.tobytes() for one in doomed[start : start + limits.DISCARD_BATCH_CHUNKS]]
            chunks, freed = await context.pool.disk(context.gate.delete, watch, batch, context.store.discard)
            gone += Discarded(chunks=chunks, bytes=freed)
    return gone


def _mark(
    context: StoreContext, domain: bytes, candidates: IdArray, lookup: IdLookup, skip: Collection[str]
) -> NDArray[np.bool_]:
    alive = np.zeros(len(candidates), dtype=np.bool_)
    for protected in protected_ids(context, skip=skip):
        if protected.domain in (None, domain):
            at = lookup.positions(protected.ids)
            alive[at[at >= 0]] = True
    return alive


def remove_staging(store: LocalStore, session_id: str) -> None:
    """Remove a session's folder, its journal first: without it the folder protects nothing and promises nothing."""
    with contextlib.suppress(NotFoundError):
        store.staging.folder(session_id).unlink(JOURNAL_FILE)
    store.staging.remove(session_id)


def settle(store: LocalStore, facts: SessionFacts, left: IdArray) -> SessionFacts | None:
    """The session's snapshot is durable: remove its folder, unless it delivered chunks in vain, the ids `left`.

    Those stay in its journal, as the leftover that is returned, until they are discarded. Raises what the store raises;
    settled again at the next opening then.
    """
    if not len(left):
        remove_staging(store, facts.session_id)
        return None
    folder = store.staging.folder(facts.session_id)
    leftover = msgspec.structs.replace(facts, leftover=True)
    folder.write(JOURNAL_FILE, left.tobytes())
    folder.write(SESSION_FILE, msgspec.json.encode(leftover))
    for name in set(folder.names()) - {JOURNAL_FILE, SESSION_FILE}:
        folder.unlink(name)
    return leftover


def unnamed(store: LocalStore, session_id: str, used: Iterable[IdArray]) -> IdArray:
    """What an ended session delivered beside the ids that its snapshot names."""
    journal = Journal.reopened(store.staging.folder(session_id))
    named = np.zeros(journal.length, dtype=np.bool_)
    for ids in used:
        rows = journal.rows(ids)
        named[rows[rows >= 0]] = True
    return journal.unnamed(named)


def find_unreferenced(context: StoreContext) -> list[Address]:
    """Every chunk of the store that nothing refers to and that is not in trash, by a full mark. For tests; blocks."""
    by_domain: dict[bytes, list[bytes]] = {}
    for info in context.store.iterate():
        if info.state is ChunkState.RETIRED:
            continue
        by_domain.setdefault(info.address.domain, []).append(info.address.id)
    arrays = {domain: distinct(id_array(b"".join(ids))) for domain, ids in by_domain.items()}
    lookups = {domain: IdLookup(array) for domain, array in arrays.items()}
    alive = {domain: np.zeros(len(array), dtype=np.bool_) for domain, array in arrays.items()}
    for protected in protected_ids(context):
        domains: Sequence[bytes] = list(arrays) if protected.domain is None else [protected.domain]
        for domain in domains:
            if domain in lookups:
                at = lookups[domain].positions(protected.ids)
                alive[domain][at[at >= 0]] = True
    return [Address(domain, one.tobytes()) for domain, array in arrays.items() for one in array[~alive[domain]]]
