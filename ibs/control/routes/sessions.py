"""Write sessions: the way of a backup into a datastore. The use cases are in `engine.session`.

A session belongs to the identity that opened it; the engine answers everybody else as if it did not exist.
"""

from __future__ import annotations

from ibs.control.routing import OCTETS, Call, Query, Routes, authenticated
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.core.ids import ID_BYTES
from ibs.core.names import Namespace, check_archive, check_blob_name, check_name
from ibs.engine.session.session import WriteSession
from ibs.errors import NotFoundError
from ibs.wire.session import (
    ArchiveClose,
    ArchiveClosed,
    CommitRequest,
    CommitResult,
    Received,
    SessionOpen,
    SessionOpened,
    StageReport,
)

routes = Routes("sessions")
_OWN = authenticated("only the identity that opened the session")


def datastore_path(store: str, namespace: str) -> str:
    """The access path of a namespace in a datastore."""
    space = Namespace.parse(namespace)
    return "/".join(["/datastore", check_name(store, "datastore"), *space.parts])


def _session(call: Call) -> WriteSession:
    return call.context.sessions.get(call.path["sid"], call.principal.auth_id)


@routes.route(
    "POST",
    "/datastores/{store}/sessions",
    access=authenticated("Datastore.Backup on the namespace that the body names, and ownership of the group"),
    body=SessionOpen,
    answer=SessionOpened,
)
async def session_open(call: Call) -> SessionOpened:
    """Open a write session: take the lease, learn what may be reused."""
    request: SessionOpen = call.body
    path = datastore_path(call.path["store"], request.namespace)
    call.context.access.require(call.principal, Privilege.DATASTORE_BACKUP, path)
    return await call.context.sessions.open(call.path["store"], call.principal.auth_id, request)


@routes.route("GET", "/sessions/{sid}/base/{archive}", access=_OWN, answer=OCTETS)
async def session_base(call: Call) -> bytes:
    """Fetch the index of an archive in the previous snapshot."""
    return await _session(call).base_index(check_archive(call.path["archive"]))


@routes.route("GET", "/sessions/{sid}/available/{archive}", access=_OWN, answer=OCTETS)
async def session_available(call: Call) -> bytes:
    """Fetch the bitmap of that index's records that may be reused."""
    return await _session(call).base_available(check_archive(call.path["archive"]))


@routes.route("GET", "/sessions/{sid}/resumed", access=_OWN, answer=OCTETS)
async def session_resumed(call: Call) -> bytes:
    """Fetch the ids that an interrupted session of the same group already delivered."""
    return await _session(call).resumed_ids()


@routes.route("GET", "/sessions/{sid}/chunks/{chunk}", access=_OWN, answer=OCTETS)
async def session_chunk(call: Call) -> bytes:
    """Fetch a chunk of the previous snapshot's metadata."""
    return await _session(call).base_chunk(chunk_id_of(call.path["chunk"]))


@routes.route(
    "POST",
    "/sessions/{sid}/suspects",
    access=_OWN,
    body=OCTETS,
    answer=None,
    body_bytes_max=limits.FETCH_IDS_MAX * ID_BYTES,
)
async def session_suspect(call: Call) -> None:
    """Report chunks of the previous snapshot (32-byte ids) that came whole and could not be authenticated."""
    await _session(call).suspect(call.body)


@routes.route(
    "POST",
    "/sessions/{sid}/chunks",
    access=_OWN,
    body=OCTETS,
    answer=Received,
    body_bytes_max=limits.CHUNK_BODY_BYTES_MAX,
)
async def session_send(call: Call) -> Received:
    """Deliver whole blobs, one after the other in one body."""
    return Received(received=await _session(call).send_body(call.body))


@routes.route(
    "POST",
    "/sessions/{sid}/archives/{archive}/records",
    access=_OWN,
    body=OCTETS,
    answer=None,
    query=[Query("first", "integer", 0, maximum=limits.INDEX_RECORDS_MAX, doc="number of the first record")],
    body_bytes_max=limits.RECORDS_BODY_BYTES_MAX,
)
async def session_append(call: Call) -> None:
    """Append index records; a repeated call with the same `first` changes nothing."""
    await _session(call).append(check_archive(call.path["archive"]), call.query["first"], call.body)


@routes.route("POST", "/sessions/{sid}/archives/{archive}/close", access=_OWN, body=ArchiveClose, answer=ArchiveClosed)
async def session_close_archive(call: Call) -> ArchiveClosed:
    """Finish an archive's index."""
    return await _session(call).close_archive(check_archive(call.path["archive"]), call.body)


@routes.route(
    "PUT",
    "/sessions/{sid}/blobs/{name}",
    access=_OWN,
    body=OCTETS,
    answer=None,
    body_bytes_max=limits.SNAPSHOT_BLOB_BYTES_MAX,
)
async def session_blob(call: Call) -> None:
    """Store a small blob of the snapshot, such as client.log."""
    await _session(call).put_blob(check_blob_name(call.path["name"]), call.body)


@routes.route("POST", "/sessions/{sid}/report", access=_OWN, body=StageReport, answer=None)
async def session_report(call: Call) -> None:
    """Report progress, stage figures and log lines; keeps the lease alive."""
    await _session(call).report(call.body)


@routes.route("POST", "/sessions/{sid}/commit", access=_OWN, body=CommitRequest, answer=CommitResult)
async def session_commit(call: Call) -> CommitResult:
    """Make the snapshot durable and visible; a repeated call gets the same answer."""
    return await call.context.sessions.commit(call.path["sid"], call.principal.auth_id, call.body)


@routes.route(
    "DELETE",
    "/sessions/{sid}",
    access=_OWN,
    answer=None,
    query=[
        Query("reason", doc="why, for the task log"),
        Query("discard", "boolean", False, doc="nobody will resume it: remove what it delivered soon"),
    ],
)
async def session_abort(call: Call) -> None:
    """Give a session up; what was delivered is kept for a resumption, unless it is to be discarded."""
    reason = call.query["reason"] or "given up by the client"
    await _session(call).abort(reason, discard=call.query["discard"])


def chunk_id_of(text: str) -> bytes:
    """The 32 bytes of a chunk id in hex. Raises NotFoundError on anything else."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or raw.hex() != text:
        raise NotFoundError(f"no chunk {text[:64]!r}", hint="a chunk id is 64 lower-case hex digits")
    return raw
