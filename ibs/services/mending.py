"""Mending damaged snapshots from another server's datastore: what is bad or missing here is fetched, then verified.

Used by `services.copying` and `services.verifier`; what may be believed and written is `engine.mending`'s business.
Only what is needed travels. One snapshot at a time; what cannot be mended is told, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

import trio

from ibs.catalog.remotes import RemoteRow
from ibs.client.http import ApiClient
from ibs.client.transport import HttpRestoreTransport
from ibs.core import limits
from ibs.core.names import SnapshotName, check_name
from ibs.engine.datastore import Datastore
from ibs.engine.mending import Mender, replica_of
from ibs.engine.modes import Use
from ibs.errors import ChunkNotFound, CorruptChunk, FormatError, IbsError, UsageError
from ibs.ports.chunkstore import Address
from ibs.ports.pool import Pool
from ibs.runtime.background import leaf
from ibs.runtime.throttle import Throttle
from ibs.services.pulling import fetch_batch
from ibs.units import format_bytes
from ibs.wire.reader import ReaderClose, ReaderOpen

Connect = Callable[[str], AbstractAsyncContextManager[tuple[ApiClient, RemoteRow]]]
_NOT_THERE = (ChunkNotFound, CorruptChunk, FormatError)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where whole copies are: a datastore of a remote whose server signs with `signer` (32 bytes)."""

    api: ApiClient
    remote: str
    source: str
    signer: bytes
    throttle: Throttle | None = None


@dataclass(slots=True)
class Mended:
    """What was set right in one snapshot, and what the other side does not have either."""

    files: list[str] = field(default_factory=list)
    chunks: int = 0
    bytes: int = 0
    left: list[Address] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [", ".join(self.files)] if self.files else []
        parts += [f"{self.chunks} chunks ({format_bytes(self.bytes)})"] if self.chunks else []
        text = f"fetched {' and '.join(parts)}" if parts else "nothing had to be fetched"
        if self.left:
            text += f"; {len(self.left)} chunks are not whole there either, first {self.left[0].id.hex()}"
        return text


def parse_origin(text: str) -> tuple[str, str]:
    """`REMOTE:DATASTORE`. Raises UsageError."""
    remote, colon, source = text.partition(":")
    if not colon:
        raise UsageError(f"{text[:100]!r} names no datastore of a remote", hint="write it like site-b:replica")
    return check_name(remote, "remote name"), check_name(source, "datastore name")


class Mending:
    """Opens remotes by name and mends from them. One a server."""

    def __init__(self, connect: Connect, pool: Pool) -> None:
        self._connect = connect
        self._pool = pool

    async def each(self, datastore: Datastore, repair_from: str, auth_id: str, stack: AsyncExitStack) -> Mend:
        """Something that mends snapshots of `datastore` from `REMOTE:DATASTORE` for as long as `stack` is open.

        Raises UsageError, and what connecting raises.
        """
        remote, source = parse_origin(repair_from)
        api, row = await stack.enter_async_context(self._connect(remote))
        origin = Origin(api, remote, source, bytes.fromhex(row.signer))

        async def mend_one(name: SnapshotName) -> Mended:
            return await mend(datastore, name, origin, auth_id, self._pool)

        return mend_one


Mend = Callable[[SnapshotName], Awaitable[Mended]]


async def mend(datastore: Datastore, name: SnapshotName, origin: Origin, auth_id: str, pool: Pool) -> Mended:
    """Set one snapshot right. It should be verified afterwards: what is bad and was not noticed yet is not mended.

    Raises NotFoundError (not there on either side), ConflictError (another snapshot under its name there),
    SignatureInvalid, FormatError, NoSpace, UnderMaintenance, and what the line raises. *Cancellation*: what was mended
    stays mended.
    """
    try:
        return await _mend(datastore, name, origin, auth_id, pool)
    except BaseExceptionGroup as group:
        raise leaf(group, IbsError) or group from None


async def _mend(datastore: Datastore, name: SnapshotName, origin: Origin, auth_id: str, pool: Pool) -> Mended:
    context, done = datastore.context, Mended()
    mender, lock = Mender(context, name), context.locks.of(name.namespace, name.group)
    with context.modes.using(Use.REPAIR):
        async with HttpRestoreTransport(origin.api) as transport:
            opened = await transport.open(origin.source, str(name))
            try:
                replica = await pool.cpu(replica_of, context, name, opened, origin.signer)
                async with lock:
                    done.files += await pool.disk(mender.set_manifest, replica)
                for file, wanted, _ in await pool.disk(mender.broken_files):
                    content = await transport.file(file)
                    async with lock:
                        await pool.disk(mender.set_file, file, wanted, content)
                    done.files.append(file)
                await _chunks(datastore, name, mender, transport, origin, auth_id, pool, done)
            finally:
                with trio.move_on_after(limits.BACKUP_ABORT_SECONDS, shield=True):
                    await _close(transport)
    return done


async def _chunks(  # noqa: PLR0917 - one snapshot, in the order of the way
    datastore: Datastore,
    name: SnapshotName,
    mender: Mender,
    transport: HttpRestoreTransport,
    origin: Origin,
    auth_id: str,
    pool: Pool,
    done: Mended,
) -> None:
    """Fetch what is not whole here. Under a read lease of our own, so that nobody collects it meanwhile."""
    reader = await datastore.readers.open(auth_id, ReaderOpen(snapshot=str(name), purpose="repair"), everything=True)
    try:
        with reader.held():
            pieces = mender.missing()
            while (addresses := await pool.disk(lambda: next(pieces, None))) is not None:
                size = await _fetch(mender, transport, addresses, pool, done)
                if origin.throttle is not None:
                    await origin.throttle.take(size)
            if done.chunks:
                await pool.disk(datastore.store.barrier)
    finally:
        with trio.CancelScope(shield=True):
            await datastore.readers.close_reader(reader.reader_id, auth_id, ReaderClose())


async def _fetch(
    mender: Mender, transport: HttpRestoreTransport, addresses: Sequence[Address], pool: Pool, done: Mended
) -> int:
    """All of them, or where one is not whole there, one by one: the others are. Returns the bytes that came."""
    try:
        blobs = await fetch_batch(transport, [one.id for one in addresses])
        size = await pool.disk(mender.take, addresses, blobs)
    except _NOT_THERE:
        if len(addresses) == 1:
            done.left.append(addresses[0])
            return 0
        return sum([await _fetch(mender, transport, [one], pool, done) for one in addresses])
    done.chunks += len(addresses)
    done.bytes += size
    return size


async def _close(transport: HttpRestoreTransport) -> None:
    try:
        await transport.close()
    except IbsError:
        return  # what the remote says to that no longer matters
