"""Whom bad chunks hurt: which snapshots name them, and marking these so that nothing builds on them.

Used by `engine.verify` and `services`. Reading all indexes is the cost, whatever the number of bad chunks: ask once for
many.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ibs.core import limits
from ibs.core.index import IdLookup
from ibs.core.manifest import VerifyState
from ibs.core.names import SnapshotName, format_time
from ibs.engine.context import StoreContext
from ibs.engine.datastore import Datastore
from ibs.engine.modes import Use
from ibs.engine.references import of_snapshot
from ibs.engine.session.journal import id_array
from ibs.errors import DatastoreReadOnly, FormatError, NoSpace, NotFoundError
from ibs.ports.chunkstore import Address, ChunkState
from ibs.wire.datastore import Damage, DamagedChunk

Hurt = Mapping[SnapshotName, frozenset[Address]]


def find_affected(context: StoreContext, bad: Collection[Address]) -> Hurt:
    """Every snapshot whose indexes name some of these chunks, with those; unreadable ones are left out. Blocks."""
    by_domain: dict[bytes, list[bytes]] = {}
    for address in bad:
        by_domain.setdefault(address.domain, []).append(address.id)
    lookups = {domain: IdLookup(id_array(b"".join(ids))) for domain, ids in by_domain.items()}
    found: dict[SnapshotName, frozenset[Address]] = {}
    for name in context.folders.every():
        hits: set[Address] = set()
        try:
            for part in of_snapshot(context, name):
                lookup = lookups.get(part.domain or b"")
                if lookup is not None and part.domain is not None:
                    here = part.ids[lookup.contains(part.ids)]
                    hits.update(Address(part.domain, each.tobytes()) for each in here)
        except (FormatError, NotFoundError):
            pass
        if hits:
            found[name] = frozenset(hits)
    return found


async def mark_affected(datastore: Datastore, hurt: Hurt, results: Mapping[Address, str], upid: str) -> None:
    """Note on every snapshot believed sound that it names a bad chunk, so that nothing builds on it any more.

    What a snapshot's own verification found stays. A store that takes no writes is left as it is.
    """
    now = format_time(datastore.context.clock.now())
    for name, chunks in hurt.items():
        worst = min(results.get(chunk, "MISSING") for chunk in chunks)  # CORRUPT before MISSING
        first = min(chunk.id.hex() for chunk in chunks if results.get(chunk, "MISSING") == worst)
        words = f"{worst} chunk {first} ({name}), found while another snapshot was verified"
        try:
            stored = await datastore.snapshots.load(name)
            if stored.verify_failed:
                continue
            state = VerifyState(result=worst, time=now, upid=upid, first_failure=words, proof=[])
            await datastore.snapshots.set_verify(name, state)
        except (DatastoreReadOnly, FormatError, NoSpace, NotFoundError):
            continue


async def damage(datastore: Datastore) -> Damage:
    """All chunks known to be bad or missing, and every snapshot that names one. Raises DatastoreOffline."""
    context = datastore.context
    context.modes.require(Use.READ)

    def look() -> tuple[dict[Address, str], Hurt]:
        unusable = context.store.unavailable()
        states = {info.address: info.state for info in context.store.info(sorted(unusable))}
        words = {ChunkState.BAD: "CORRUPT", ChunkState.ABSENT: "MISSING"}
        bad = {address: words.get(state, "SUSPECT") for address, state in states.items()}
        bad = {address: word for address, word in bad.items() if states[address] is not ChunkState.RETIRED}
        return bad, find_affected(context, bad) if bad else {}

    bad, hurt = await context.pool.disk(look)
    by_chunk: dict[Address, list[str]] = {}
    for name, chunks in hurt.items():
        for chunk in chunks:
            by_chunk.setdefault(chunk, []).append(str(name))
    rows = [
        DamagedChunk(chunk=address.id.hex(), result=word, snapshots=by_chunk.get(address, []))
        for address, word in sorted(bad.items())
    ]
    return Damage(
        name=datastore.name,
        chunks=rows[: limits.LIST_ROWS_MAX],
        bad_chunks=len(rows),
        snapshots=[str(name) for name in hurt],
    )
