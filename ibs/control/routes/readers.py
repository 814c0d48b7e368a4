"""Readers: the way of a restore out of a datastore, under a read lease. The use cases are in `engine.readers`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import ID_BYTES, OCTETS, Call, Octets, Routes, authenticated, read_ids
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.core.names import Namespace, SnapshotName
from ibs.engine.readers import Reader
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened

routes = Routes("readers")
_OWN = authenticated("only the identity that opened the reader")


def _reader(call: Call) -> Reader:
    return call.context.readers.get(call.path["rid"], call.principal.auth_id)


@routes.route(
    "POST",
    "/datastores/{store}/readers",
    access=authenticated(
        "Datastore.Reader on the snapshot's namespace, or Datastore.Backup and ownership of the group"
    ),
    body=ReaderOpen,
    answer=ReaderOpened,
)
async def reader_open(call: Call) -> ReaderOpened:
    """Open a snapshot for reading."""
    request: ReaderOpen = call.body
    # The name may hold a namespace, and then that is the one that is opened: rights count there, nowhere else.
    name = SnapshotName.parse(request.snapshot, Namespace.parse(request.namespace))
    space = datastore_path(call.path["store"], str(name.namespace))
    everything = call.context.access.allows(call.principal, Privilege.DATASTORE_READ, space)
    if not everything:
        call.context.access.require(call.principal, Privilege.DATASTORE_BACKUP, space)
    return await call.context.readers.open(call.path["store"], call.principal.auth_id, request, everything=everything)


@routes.route("GET", "/readers/{rid}/files/{name}", access=_OWN, answer=OCTETS)
async def reader_file(call: Call) -> bytes:
    """Fetch an index or a small blob of the snapshot."""
    return await _reader(call).file(call.path["name"])


@routes.route(
    "POST",
    "/readers/{rid}/chunks",
    access=_OWN,
    body=OCTETS,
    answer=OCTETS,
    body_bytes_max=limits.FETCH_IDS_MAX * ID_BYTES,
)
async def reader_fetch(call: Call) -> Octets:
    """Fetch chunks: the body is their 32-byte ids, the answer their blobs in the same order."""
    stream = cast("AsyncGenerator[bytes]", _reader(call).stream(read_ids(call.body)))
    held: list[bytes] = []
    size = 0
    whole = True
    try:
        async for blob in stream:
            held.append(blob)
            size += len(blob)
            if size >= limits.FETCH_HELD_BYTES:
                whole = False
                break
    except BaseException:
        await stream.aclose()
        raise
    return Octets(b"".join(held) if whole else _rest(held, stream))


async def _rest(held: list[bytes], stream: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """What was read already, then the rest as fast as it is taken: a slow peer costs no memory."""
    async with aclosing(stream):
        while held:
            yield held.pop(0)
        async for blob in stream:
            yield blob


@routes.route("POST", "/readers/{rid}/close", access=_OWN, body=ReaderClose, answer=None)
async def reader_close(call: Call) -> None:
    """End the read lease and the restore task."""
    await call.context.readers.close(call.path["rid"], call.principal.auth_id, call.body)
