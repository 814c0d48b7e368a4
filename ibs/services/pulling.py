"""Bringing one snapshot from a remote as it is: checked before, fetched chunk by chunk, visible last (PROTOCOLS 25).

Used by `services.copying`. Blobs are copied unopened, so that encrypted snapshots need no key here; each one's digest
and header are checked as it arrives. Only what is missing is fetched. Whatever fails leaves an interrupted session,
which the next attempt takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import trio
from numpy.typing import NDArray

from ibs.client.transport import HttpRestoreTransport
from ibs.core import index, limits, limits_sync
from ibs.core import manifest as manifests
from ibs.core.ids import digest, parse_hex
from ibs.core.index import IdArray, IndexHeader
from ibs.core.manifest import ManifestArchive, Signature
from ibs.engine.datastore import Datastore
from ibs.engine.session.facts import Foreign, SessionObserver
from ibs.engine.session.session import WriteSession
from ibs.errors import (
    BusyError,
    ChunkNotFound,
    ConflictError,
    CorruptChunk,
    FormatError,
    IbsError,
    NotFoundError,
    RefusedError,
    SignatureInvalid,
    UsageError,
)
from ibs.ports.pool import Pool
from ibs.ports.transport import Buffer
from ibs.runtime.throttle import Throttle
from ibs.wire.reader import ReaderOpened
from ibs.wire.session import ArchiveClose

_ONE = (BusyError, ChunkNotFound, CorruptChunk, FormatError, SignatureInvalid, ConflictError, NotFoundError)


@dataclass(frozen=True, slots=True)
class Wish:
    """`signer`: the key (32 bytes) that the remote's server is trusted to sign with. `source` is a datastore there."""

    remote: str
    signer: bytes
    source: str
    snapshot: str
    notes: str = ""
    protected: bool = False
    also: frozenset[bytes] = frozenset()
    """Keys of servers that are no more, as an administrator named them."""


@dataclass(slots=True)
class Figures:
    """What a run has copied so far."""

    snapshots: int = 0
    chunks: int = 0
    chunks_there: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where it goes, as whom, and who hears of the session."""

    datastore: Datastore
    auth_id: str
    upid: str
    observer: SessionObserver
    pool: Pool
    throttle: Throttle | None = None


async def pull_snapshot(
    transport: HttpRestoreTransport, wish: Wish, place: Place, figures: Figures, moved: Callable[[], None]
) -> None:
    """Bring one snapshot; it is durable and visible when this returns. `moved` is called as figures grow.

    Raises SignatureInvalid, FormatError (what arrives is not what its manifest states), ConflictError, ChunkNotFound
    and CorruptChunk of the remote, NoSpace, and what either side raises. *Cancellation*: interrupted, see above.
    """
    opened = await transport.open(wish.source, wish.snapshot)
    status, message = "FAILED", "the copy was interrupted"
    try:
        context = place.datastore.context
        foreign = checked(opened, wish, (context.uuid, manifests.public_key(context.signing_seed)))
        session = await place.datastore.sessions.open_foreign(
            place.auth_id, foreign, upid=place.upid, observer=place.observer
        )
        try:
            for archive in foreign.manifest.archives:
                await _archive(transport, session, archive, place, figures, moved)
            for blob in foreign.manifest.blobs:
                await session.put_blob(blob.name, await transport.file(blob.name))
            await session.commit_foreign(foreign)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await session.interrupt(error.message if isinstance(error, IbsError) else "cancelled")
            raise
        figures.snapshots += 1
        status, message = "OK", ""
    finally:
        with trio.move_on_after(limits.BACKUP_ABORT_SECONDS, shield=True):
            await _close(transport, status, message)


def of_one_snapshot(error: BaseException) -> bool:
    """Whether it is the trouble of one snapshot or its group, so that the others can be brought all the same."""
    # A plain refusal is of a group that belongs to somebody else; its kinds speak of the line, or of the datastore.
    return isinstance(error, _ONE) or type(error) is RefusedError


def checked(opened: ReaderOpened, wish: Wish, own: tuple[str, bytes]) -> Foreign:
    """The manifest, if it is the one asked for and signed by whom it must be. Raises SignatureInvalid, FormatError.

    `own`: the datastore here and the key (32 bytes) it signs with: what was made here and copied there may come home.
    """
    raw = opened.manifest.encode("utf-8", "surrogatepass")
    manifest = manifests.decode(raw)
    if manifest.snapshot != wish.snapshot or opened.snapshot != wish.snapshot:
        raise SignatureInvalid(f"asked for {wish.snapshot}, remote {wish.remote} answered with {manifest.snapshot}")
    if not opened.signature:
        raise SignatureInvalid(f"the manifest of {wish.snapshot} is not signed")
    # A plain one is vouched for by its server; the others by their client, whose key only the client knows.
    by_server = manifest.mode == "plain"
    signer = parse_hex(opened.signer, "signer")
    trusted = own[1] if manifest.datastore == own[0] else wish.signer
    if by_server and signer != trusted and signer in wish.also:
        trusted = signer
    if by_server and signer != trusted:
        raise SignatureInvalid(
            f"snapshot {wish.snapshot} is signed by a server that is not remote {wish.remote}",
            hint="bring it from the server where it was made; if that is lost, name its key: --trust-signer",
        )
    signature = Signature(signer=opened.signer, by="server" if by_server else "client", signature=opened.signature)
    return Foreign(raw, manifest, signature, trusted, wish.remote, notes=wish.notes, protected=wish.protected)


async def _archive(  # noqa: PLR0917 - one archive, in the order of the way
    transport: HttpRestoreTransport,
    session: WriteSession,
    archive: ManifestArchive,
    place: Place,
    figures: Figures,
    moved: Callable[[], None],
) -> None:
    raw = await transport.file(f"{archive.name}.idx")
    header, ids, lengths = await place.pool.cpu(_checked_index, raw, archive)
    usable = await session.adopt(ids)
    figures.chunks_there += int(usable.sum())
    batches = batches_of(ids[~usable], lengths[~usable])
    await _fetch(transport, session, batches, place.throttle, figures, moved)
    step = limits.RECORDS_BODY_BYTES_MAX // header.record_bytes
    records = memoryview(raw)[index.HEADER_BYTES :]
    for first in range(0, header.records, step):
        await session.append(archive.name, first, records[first * header.record_bytes :][: step * header.record_bytes])
    await session.close_archive(
        archive.name,
        ArchiveClose(
            plain_bytes=header.plain_bytes,
            records=header.records,
            root=header.root.hex() if header.kind == "tree" else "",
            depth=header.depth,
            chunk_bytes=header.chunk_bytes,
        ),
    )


async def _fetch(  # noqa: PLR0917 - as above
    transport: HttpRestoreTransport,
    session: WriteSession,
    batches: Iterator[list[bytes]],
    throttle: Throttle | None,
    figures: Figures,
    moved: Callable[[], None],
) -> None:
    """Several requests under way at once; each batch is received and pinned here before the next is asked for."""

    async def work() -> None:
        for ids in batches:
            blobs = await fetch_batch(transport, ids)
            for part in _parts(blobs):
                await session.send(part)
            figures.chunks += len(blobs)
            size = sum(len(blob) for blob in blobs)
            figures.bytes += size
            moved()
            if throttle is not None:
                await throttle.take(size)  # the next batch is asked for when this one's time is over

    async with trio.open_nursery() as nursery:  # noqa: TID251 - the requests of one archive
        for _ in range(limits_sync.PULL_REQUESTS):
            nursery.start_soon(work)


def batches_of(ids: IdArray, lengths: NDArray[np.int64]) -> Iterator[list[bytes]]:
    """As many chunks a request as one answer holds by their lengths: on a long line each request costs its way."""
    batch: list[bytes] = []
    size = 0
    for chunk, length in zip(ids, lengths, strict=True):
        most = int(length) + limits_sync.PULL_BLOB_EXTRA_BYTES
        if batch and (len(batch) == limits.FETCH_IDS_MAX or size + most > limits.FETCH_ANSWER_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(chunk.tobytes())
        size += most
    if batch:
        yield batch


async def fetch_batch(transport: HttpRestoreTransport, ids: Sequence[bytes]) -> Sequence[Buffer]:
    """The blobs in the order asked. An index may lie about lengths: what is refused is asked for in small requests."""
    few = limits_sync.PULL_BATCH_CHUNKS
    try:
        return await transport.fetch(ids)
    except UsageError:
        if len(ids) <= few:
            raise
    return [blob for first in range(0, len(ids), few) for blob in await transport.fetch(ids[first : first + few])]


def _parts(blobs: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    """In order, in parts that a session takes at once."""
    part: list[Buffer] = []
    size = 0
    for blob in blobs:
        if part and size + len(blob) > limits.CHUNK_BODY_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(blob)
        size += len(blob)
    if part:
        yield part


def _checked_index(raw: bytes, archive: ManifestArchive) -> tuple[IndexHeader, IdArray, NDArray[np.int64]]:
    """Header, and the distinct ids of the chunks that it needs with their plain lengths. Raises FormatError."""
    if len(raw) != archive.index_bytes or digest(raw).hex() != archive.index_digest:
        raise FormatError(f"the index of {archive.name} that arrived is not the one its manifest states")
    header = index.parse_header(raw, file_bytes=len(raw))
    records = memoryview(raw)[index.HEADER_BYTES :]
    index.check_records(header, records)
    ids, lengths = distinct_lengths(header, records)
    stored = np.any(ids != 0, axis=1)  # a hole of an image has no chunk
    return header, ids[stored], lengths[stored]


def distinct_lengths(header: IndexHeader, records: Buffer) -> tuple[IdArray, NDArray[np.int64]]:
    """Each id once, in bytewise order, and the plain length that the index gives it."""
    whole = np.ascontiguousarray(index.record_ids(records, header.record_bytes)).view(np.dtype((np.void, 32))).ravel()
    found, first = np.unique(whole, return_index=True)
    ids = found.view(np.uint8).reshape(-1, 32)
    if header.kind != index.TREE:
        return ids, np.full(len(ids), header.chunk_bytes, dtype=np.int64)
    return ids, index.tree_records(records)["plain_length"][first].astype(np.int64)


async def _close(transport: HttpRestoreTransport, status: str, message: str) -> None:
    try:
        await transport.close(status, 0, message)
    except IbsError:
        return  # what the remote says to that no longer matters
