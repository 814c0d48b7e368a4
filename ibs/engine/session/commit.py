"""The commit of a write session: the manifest against the server's own facts, signature, presence, publication.

Used by `engine.session` only. PROTOCOLS 1, 10, 17; P1, P2. Order: everything is checked before anything is written;
chunks are made durable, then indexes, then the manifest; the journal goes last. A refusal leaves nothing visible.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import trio
from numpy.typing import NDArray

from ibs.core import manifest as manifests
from ibs.core.access import owns
from ibs.core.ids import digest
from ibs.core.index import IdArray, distinct
from ibs.core.manifest import Brought, Manifest, ManifestArchive, Signature, SnapshotState
from ibs.core.names import format_time
from ibs.engine.context import StoreContext
from ibs.engine.session.bases import KnownBad, present
from ibs.engine.session.discard import settle
from ibs.engine.session.facts import Foreign, SessionFacts
from ibs.engine.session.pins import PinSet
from ibs.engine.session.records import GrowingIndex
from ibs.errors import ChunkNotFound, ConflictError, CorruptChunk, IbsError, RefusedError, UsageError
from ibs.ports.chunkstore import Address, ChunkState, ChunkStore
from ibs.storage.local.layout import snapshot_folder
from ibs.wire.session import CommitRequest, CommitResult


@dataclass(frozen=True, slots=True)
class StagedBlob:
    """A small blob waiting in the session's folder as `file`; `digest` is BLAKE3 in hex."""

    file: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Staged:
    """What a session has gathered when it is to be committed."""

    facts: SessionFacts
    indexes: Mapping[str, GrowingIndex]
    blobs: Mapping[str, StagedBlob]
    new_chunks: int
    new_bytes: int
    pins: PinSet


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer, and what the session delivered in vain, where it did."""

    result: CommitResult
    left: SessionFacts | None


async def commit_foreign(context: StoreContext, staged: Staged, foreign: Foreign) -> Committed:
    """As `commit`, of a manifest that was made and signed elsewhere: what it lists must be here, byte for byte.

    The caller holds the group's lock. Raises UsageError, ChunkNotFound, CorruptChunk, and what the store raises.
    *Durability* and *cancellation*: as for `commit`.
    """
    facts, manifest = staged.facts, foreign.manifest
    if facts.foreign != digest(foreign.raw).hex():
        raise UsageError("the session was opened for another manifest", hint="commit the one it was opened with")
    _compare(_listed(staged, manifest))
    for archive in manifest.archives:
        _check_archive(archive, staged.indexes[archive.name], facts)
    left = await context.pool.disk(check_presence, context, staged)
    result = CommitResult(
        snapshot=facts.snapshot,
        manifest_digest=facts.foreign,
        status="OK",
        new_chunks=staged.new_chunks,
        new_bytes=staged.new_bytes,
    )
    now = format_time(context.clock.now())
    home = manifest.datastore == context.uuid  # it was made here, and is nobody's copy
    brought = msgspec.UNSET if home else Brought(remote=foreign.remote, datastore=manifest.datastore, time=now)
    state = SnapshotState(notes=foreign.notes, protected=foreign.protected, brought=brought)
    with trio.CancelScope(shield=True):
        leftover = await context.pool.disk(_publish, context, staged, foreign.raw, foreign.signature, left, state)
    return Committed(result, leftover)


async def commit(context: StoreContext, staged: Staged, request: CommitRequest) -> Committed:
    """Check everything, publish, return what happened. The caller holds the group's lock.

    Raises FormatError, UsageError, RefusedError, ChunkNotFound, CorruptChunk, and what the store raises. *Durability*:
    the snapshot is durable when it returns. *Cancellation*: up to the publication; that runs to its end.
    """
    raw = request.manifest.encode("utf-8", "surrogatepass")
    checked, signature = await context.pool.cpu(_checked, context, staged, raw, request.signature)
    left = await context.pool.disk(check_presence, context, staged)
    result = CommitResult(
        snapshot=staged.facts.snapshot,
        manifest_digest=digest(raw).hex(),
        status="WARNING" if request.warnings or checked.warnings else "OK",
        new_chunks=staged.new_chunks,
        new_bytes=staged.new_bytes,
    )
    with trio.CancelScope(shield=True):
        leftover = await context.pool.disk(_publish, context, staged, raw, signature, left, SnapshotState())
    return Committed(result, leftover)


def repeated(result: CommitResult, request: CommitRequest) -> CommitResult:
    """The answer to a commit asked again. Raises ConflictError when it is another manifest."""
    if digest(request.manifest.encode("utf-8", "surrogatepass")).hex() != result.manifest_digest:
        raise ConflictError(f"the session was committed with another manifest as {result.snapshot}")
    return result


def _checked(context: StoreContext, staged: Staged, raw: bytes, signature: str) -> tuple[Manifest, Signature]:
    manifest = manifests.decode(raw)
    check_facts(staged, manifest)
    return manifest, _signature(context, staged.facts, manifest, raw, signature)


def check_facts(staged: Staged, manifest: Manifest) -> None:
    """The manifest must say what the server knows itself. Raises UsageError naming the first difference."""
    facts = staged.facts
    pairs: dict[str, tuple[object, object]] = {
        "datastore": (manifest.datastore, facts.store_uuid),
        "snapshot": (manifest.snapshot, facts.snapshot),
        "sequence": (manifest.sequence, facts.sequence),
        "previous": (manifest.previous, facts.previous),
        "owner": (manifest.owner, facts.auth_id),
        "source": (manifest.source is msgspec.UNSET, True),  # what a snapshot was made from only the server says
        "encryption": (manifest.mode == "encrypted", bool(facts.key_fingerprint)),
        **_listed(staged, manifest),
    }
    if facts.key_fingerprint or (manifest.mode == "signed" and facts.signing_key):
        pairs["key fingerprint"] = (manifest.key_fingerprint, facts.key_fingerprint or facts.signing_key)
    _compare(pairs)
    if not manifest.archives:
        raise UsageError("the manifest lists no archive", hint="a snapshot holds at least one archive")
    for archive in manifest.archives:
        _check_archive(archive, staged.indexes[archive.name], facts)


def _listed(staged: Staged, manifest: Manifest) -> dict[str, tuple[object, object]]:
    """Archives and blobs: what the manifest states, and what the session has."""
    return {
        "archives": (sorted(one.name for one in manifest.archives), sorted(_closed(staged))),
        "blobs": (
            sorted((blob.name, blob.bytes, blob.digest) for blob in manifest.blobs),
            sorted((name, blob.size, blob.digest) for name, blob in staged.blobs.items()),
        ),
    }


def _compare(pairs: Mapping[str, tuple[object, object]]) -> None:
    for what, (stated, known) in pairs.items():
        if stated != known:
            raise UsageError(
                f"the manifest's {what} is {_shown(stated)}, the session's is {_shown(known)}",
                hint="the manifest must state what the server answered in this session",
                field=what,
            )


def _shown(value: object) -> str:
    """A bounded excerpt: a hostile manifest must not blow up our error messages."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _closed(staged: Staged) -> list[str]:
    return [name for name, index in staged.indexes.items() if index.closed is not None]


def _check_archive(archive: ManifestArchive, index: GrowingIndex, facts: SessionFacts) -> None:
    header, closed = index.header, index.closed
    assert header is not None  # noqa: S101 - only closed archives get here
    assert closed is not None  # noqa: S101 - as above
    stated = (archive.kind, archive.plain_bytes, archive.records, archive.index_bytes, archive.index_digest)
    known = (header.kind, header.plain_bytes, header.records, closed.index_bytes, closed.index_digest)
    if stated != known or archive.key_fingerprint != facts.key_fingerprint:
        raise UsageError(
            f"the manifest's figures for archive {archive.name} are not those of the index received",
            hint="state kind, sizes, records and digest as the close of the archive answered",
            field=archive.name,
        )


def _signature(context: StoreContext, facts: SessionFacts, manifest: Manifest, raw: bytes, signature: str) -> Signature:
    if signature:
        if not facts.signer:
            raise RefusedError(
                "the manifest is signed by a key that is not registered here",
                hint="register the key on the server, or send the manifest unsigned to let the server sign it",
            )
        given = Signature(signer=facts.signer, by="client", signature=signature)
        manifests.verify(raw, given)
        return given
    if manifest.mode != "plain":
        raise RefusedError(
            f"a manifest of mode {manifest.mode} must be signed by its key", hint="sign it with the data key"
        )
    return manifests.sign(raw, context.signing_seed, "server")


def check_presence(context: StoreContext, staged: Staged) -> IdArray:
    """Every chunk of every archive is there and good (P2); returns the ids that the session delivered in vain.

    What this session delivered is looked for in the store. What it took over from its base was looked for when the
    session was opened and is pinned since: of that only bad news counts, so that a commit takes as long as there is
    new data, not old (PROTOCOLS 6).

    Raises ChunkNotFound, CorruptChunk naming chunk and archive.
    """
    pins, known = staged.pins, KnownBad(context.store, staged.facts.domain_bytes)
    named = np.zeros(pins.journal_rows, dtype=np.bool_)
    for name in _closed(staged):
        first, missing = b"", 0
        for some in staged.indexes[name].index().ids():
            ids = distinct(some)
            rows = pins.rows(ids)
            usable = still_usable(context.store, known, ids, rows >= 0)
            named[rows[rows >= 0]] = True
            if not usable.all():
                first = first or ids[int((~usable).argmax())].tobytes()
                missing += int((~usable).sum())
        if missing:
            raise _unusable(context, staged.facts, name, first, missing)
    return pins.unnamed(named)


def still_usable(store: ChunkStore, known: KnownBad, ids: IdArray, delivered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of these distinct ids are there and good, those that are not `delivered` as far as is known."""
    usable = known.usable(ids)
    there = np.flatnonzero(delivered)
    usable[there] &= present(store, known.domain, ids[there])
    return usable


def _unusable(context: StoreContext, facts: SessionFacts, archive: str, chunk: bytes, missing: int) -> IbsError:
    place = {"archive": archive, "snapshot": facts.snapshot, "missing": missing}
    if context.store.info([Address(facts.domain_bytes, chunk)])[0].state is ChunkState.ABSENT:
        return ChunkNotFound(chunk.hex(), **place)
    return CorruptChunk(chunk.hex(), f"it went bad before archive {archive} was committed; send it again", **place)


def _publish(  # noqa: PLR0917 - one call, in the order of the files
    context: StoreContext,
    staged: Staged,
    raw: bytes,
    signature: Signature,
    left: IdArray,
    state: SnapshotState,
) -> SessionFacts | None:
    """Owner, barrier, files, manifest, then the journal. One piece of work: it is never abandoned half way."""
    facts, folders = staged.facts, context.folders
    name = facts.name
    owner = folders.owner(name.namespace, name.group)
    if owner and not owns(facts.auth_id, owner):
        raise ConflictError(f"group {name.group} belongs to another identity by now", hint="choose another backup id")
    if folders.exists(name):
        raise ConflictError(f"snapshot {name} exists already")
    content: dict[str, bytes | str] = {
        f"{archive}.idx": f"{facts.session_id}/{staged.indexes[archive].file}" for archive in _closed(staged)
    }
    content.update({blob: f"{facts.session_id}/{at.file}" for blob, at in staged.blobs.items()})
    content[manifests.STATE_FILE] = manifests.encode_state(state)
    content[manifests.SIGNATURE_FILE] = manifests.encode_signature(signature)
    content[manifests.MANIFEST_FILE] = raw
    if not owner:
        folders.set_owner(name.namespace, name.group, facts.auth_id)
    context.store.publish(snapshot_folder(name), content, [manifests.SIGNATURE_FILE, manifests.MANIFEST_FILE])
    # The snapshot is durable. What follows is tidying: a failure of it must not turn the commit into one, and a
    # session folder left behind is recognised by its snapshot when the store is opened next.
    with contextlib.suppress(IbsError):
        return settle(context.store, facts, left)
    return None
