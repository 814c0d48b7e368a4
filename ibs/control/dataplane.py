"""The data plane's server side: length-prefixed frames of chunks over the same TLS port, the same sessions and readers.

Used by `control.server`. One connection serves one session or reader, after one HELLO that is authorised exactly as
the HTTP routes are. Requests of a connection are answered in order; while one is being stored the next is received,
and no more than that is held, so a slow disk slows the sender down. Errors are answered as the API's error object;
after one that breaks the framing the connection ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import trio

from ibs.control.listener import Stream
from ibs.core import limits
from ibs.errors import FormatError, IbsError, NotAuthenticated, UsageError
from ibs.log import get_logger
from ibs.services.context import ServerContext
from ibs.wire import frames
from ibs.wire.common import ErrorBody
from ibs.wire.frames import Hello, Op

_HELLO_SECONDS_MAX = 10
_FRAME_SECONDS_MAX = 120
_IDLE_SECONDS_MAX = 600
_RECEIVE_BYTES = 1 << 18
_ID_BYTES = 32
_log = get_logger("api")

Answer = list[bytes | bytearray | memoryview]


@dataclass(frozen=True, slots=True)
class _Request:
    op: Op
    payload: bytes | bytearray | memoryview


class FrameReader:
    """Cuts a TLS stream into frames, with bounded memory."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest: bytes | memoryview = b""

    async def frame(self, first_byte_seconds_max: float) -> _Request | None:
        """The next frame; None when the peer has closed. Raises FormatError, trio.TooSlowError."""
        with trio.fail_after(first_byte_seconds_max):
            raw = await self._exactly(frames.HEADER.size, may_end=True)
        if raw is None:
            return None
        op, length = frames.parse_header(raw)
        with trio.fail_after(_FRAME_SECONDS_MAX):
            payload = await self._exactly(length)
        return _Request(op, payload if payload is not None else b"")

    async def _exactly(self, size: int, *, may_end: bool = False) -> bytearray | None:
        buffer = bytearray(size)
        at = 0
        while at < size:
            piece = self._rest or await self._stream.receive_some(_RECEIVE_BYTES)
            self._rest = b""
            if not piece:
                if may_end and at == 0:
                    return None
                raise FormatError("data plane: the connection ended inside a frame")
            taken = min(size - at, len(piece))
            buffer[at : at + taken] = piece[:taken]
            if taken < len(piece):
                self._rest = memoryview(piece)[taken:]
            at += taken
        return buffer


async def serve_plane(context: ServerContext, stream: Stream) -> None:
    """Serve one connection until the peer closes it, breaks the framing, or falls silent."""
    peer = stream.transport_stream.socket.getpeername()[0]
    reader = FrameReader(stream)
    try:
        handle = await _hello(context, reader, peer)
        await _send(stream, Op.READY, [])
        await _serve_requests(reader, stream, handle)
    except IbsError as error:
        with trio.move_on_after(_HELLO_SECONDS_MAX):
            await _send_error(stream, error)
    except trio.TooSlowError:
        pass


async def _hello(context: ServerContext, reader: FrameReader, peer: str) -> Callable[[_Request], Awaitable[Answer]]:
    """Authorise, and return what handles this connection's requests."""
    first = await reader.frame(_HELLO_SECONDS_MAX)
    if first is None or first.op is not Op.HELLO:
        raise NotAuthenticated("data plane: the first frame must be HELLO")
    try:
        hello = msgspec.json.decode(first.payload, type=Hello)
    except msgspec.DecodeError as error:
        raise FormatError(f"data plane: HELLO is not valid: {error}") from error
    principal = await context.access.authenticate(f"Bearer {hello.authorization}", peer)
    if bool(hello.session_id) == bool(hello.reader_id):
        raise UsageError("data plane: name either a session or a reader", hint="open one over HTTP first")
    if hello.session_id:
        context.sessions.get(hello.session_id, principal.auth_id)

        async def receive(request: _Request) -> Answer:
            if request.op is not Op.CHUNKS:
                raise FormatError(f"data plane: frame {request.op.name} does not belong to a session")
            session = context.sessions.get(hello.session_id, principal.auth_id)
            return [
                frames.HEADER.pack(Op.RECEIVED, 4),
                (await session.send_body(request.payload)).to_bytes(4, "little"),
            ]

        return receive
    context.readers.get(hello.reader_id, principal.auth_id)

    async def fetch(request: _Request) -> Answer:
        if request.op is not Op.FETCH or not request.payload or len(request.payload) % _ID_BYTES:
            raise FormatError(f"data plane: frame {request.op.name} is not a list of chunk ids")
        ids = [bytes(request.payload[at : at + _ID_BYTES]) for at in range(0, len(request.payload), _ID_BYTES)]
        blobs = await context.readers.get(hello.reader_id, principal.auth_id).fetch(ids)
        return [frames.HEADER.pack(Op.BLOBS, sum(map(len, blobs))), *blobs]

    return fetch


async def _serve_requests(reader: FrameReader, stream: Stream, handle: Callable[[_Request], Awaitable[Answer]]) -> None:
    """Receive one request ahead of the one being handled."""
    ahead_send, ahead_receive = trio.open_memory_channel[_Request](0)

    async def receive_all() -> None:
        async with ahead_send:
            while (request := await reader.frame(_IDLE_SECONDS_MAX)) is not None:
                await ahead_send.send(request)

    broken: list[IbsError] = []

    async def guarded() -> None:
        try:
            await receive_all()
        except FormatError as error:
            broken.append(error)

    async with trio.open_nursery() as nursery:  # noqa: TID251 - receiver and answerer of one connection end together
        nursery.start_soon(guarded)
        async for request in ahead_receive:
            try:
                answer = await handle(request)
            except FormatError:
                raise
            except IbsError as error:
                await _send_error(stream, error)
                continue
            for part in answer:
                await stream.send_all(part)
        nursery.cancel_scope.cancel()
    if broken:
        raise broken[0]


async def _send(stream: Stream, op: Op, parts: Answer) -> None:
    await stream.send_all(frames.pack_header(op, sum(map(len, parts))))
    for part in parts:
        await stream.send_all(part)


async def _send_error(stream: Stream, error: IbsError) -> None:
    body = ErrorBody(
        code=error.code, message=error.message, hint=error.hint, retry=str(error.retry), details=error.details
    )
    raw = msgspec.json.encode(body)[: 64 * limits.KIB]
    try:
        await _send(stream, Op.ERROR, [raw])
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        _log.info("peer went away before its error", error=error.code)
