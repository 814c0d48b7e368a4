"""Readers: the way of a restore out of a datastore, under a read lease. The use cases are in `engine.readers`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import OCTETS, Call, Octets, Routes, authenticated
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.core.names import Namespace, SnapshotName
from ibs.engine.readers import Reader
from ibs.errors import UsageError
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened

routes = Routes("readers")
_OWN = authenticated("only the identity that opened the reader")
_ID_BYTES = 32


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
    body_bytes_max=limits.FETCH_IDS_MAX * _ID_BYTES,
)
async def reader_fetch(call: Call) -> Octets:
    """Fetch chunks: the body is their 32-byte ids, the answer their blobs in the same order."""
    raw: bytes = call.body
    if not raw or len(raw) % _ID_BYTES:
        raise UsageError(
            "the body is not a list of chunk ids", hint=f"send 1 to {limits.FETCH_IDS_MAX} ids of 32 bytes"
        )
    blobs = await _reader(call).fetch([raw[at : at + _ID_BYTES] for at in range(0, len(raw), _ID_BYTES)])

    async def parts() -> AsyncIterator[bytes]:
        for blob in blobs:
            yield blob

    return Octets(parts())


@routes.route("POST", "/readers/{rid}/close", access=_OWN, body=ReaderClose, answer=None)
async def reader_close(call: Call) -> None:
    """End the read lease and the restore task."""
    await call.context.readers.close(call.path["rid"], call.principal.auth_id, call.body)
