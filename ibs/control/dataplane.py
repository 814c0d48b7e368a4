"""The data plane's server side: length-prefixed frames of chunks over the same TLS port, the same sessions and readers.

Used by `control.server`. One connection serves one session or reader, after one HELLO that is authorised exactly as
the HTTP routes are; the credential is looked at again for each request, so that a revoked one ends here too. Requests
of a connection are answered in order; while one is being stored the next is received, and no more than that is held, so
a slow disk slows the sender down. Errors are answered as the API's error object; after one that breaks the framing the
connection ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import msgspec
import trio

from ibs.control.auditing import plane_refused
from ibs.control.border import internal_error
from ibs.control.routing import read_ids
from ibs.core import limits
from ibs.errors import FormatError, IbsError, NotAuthenticated, UsageError
from ibs.log import bound, get_logger
from ibs.runtime.buffers import uninitialised
from ibs.wire import frames
from ibs.wire.common import ErrorBody, body_of
from ibs.wire.frames import Hello, Op

if TYPE_CHECKING:
    from ibs.control.peer import Peer
    from ibs.services.context import ServerContext

_HELLO_SECONDS_MAX = 10
_log = get_logger("api")

Buffer = bytes | bytearray | memoryview
Answer = tuple[Op, list[Buffer]]


class Receiver(Protocol):
    """What a frame reader needs of a stream."""

    async def receive_into(self, view: memoryview, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Request:
    """One frame of the client."""

    op: Op
    payload: memoryview


class FrameReader:
    """Cuts a stream into frames of the kinds that are due, with bounded memory."""

    def __init__(self, stream: Receiver) -> None:
        self._stream = stream

    async def frame(self, wanted: Op, header_seconds_max: float) -> Request | None:
        """The next frame; None when the peer has closed. No memory is taken for a frame that is not `wanted`.

        Raises FormatError; trio.TooSlowError when the header does not come in time, or the rest slower than allowed.
        """
        with trio.fail_after(header_seconds_max):
            raw = await self._exactly(frames.HEADER.size, may_end=True)
        if raw is None:
            return None
        op, length = frames.parse_header(raw)
        if op is not wanted:
            raise FormatError(f"data plane: {op.name} came where only {wanted.name} is allowed")
        with trio.fail_after(limits.BODY_STALL_SECONDS_MAX + length / limits.BODY_BYTES_PER_SECOND_MIN):
            payload = await self._exactly(length)
        return Request(op, payload if payload is not None else memoryview(b""))

    async def _exactly(self, size: int, *, may_end: bool = False) -> memoryview | None:
        buffer = uninitialised(size)
        at = 0
        while at < size:
            got = await self._stream.receive_into(buffer[at:])
            if not got:
                if may_end and at == 0:
                    return None
                raise FormatError("data plane: the connection ended inside a frame")
            at += got
        return buffer


@dataclass(frozen=True, slots=True)
class _Service:
    """What a connection is for: the one kind of request it takes, and what answers it."""

    auth_id: str
    takes: Op
    handle: Callable[[Request], Awaitable[Answer]]
    gone: Callable[[], None] = lambda: None
    """The connection is over, however it ended."""


async def serve_plane(context: ServerContext, peer: Peer) -> None:
    """Serve one connection until the peer closes it, breaks the framing, or falls silent. Raises nothing of ours."""
    reader = FrameReader(peer)
    try:
        service = await _hello(context, reader, peer.address)
        peer.admit()
        await _send(peer, Op.READY, [])
        try:
            with bound(auth_id=service.auth_id):
                ending = await _serve_requests(reader, peer, service)
        finally:
            service.gone()
    except IbsError as error:
        await plane_refused(context.audit, "", peer.address, error)
        ending = error
    except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
        return
    if ending is not None:
        try:
            await _send_error(peer, body_of(ending))
            await peer.hear_out()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            _log.info("peer went away before its error", error=ending.code)


async def _hello(context: ServerContext, reader: FrameReader, address: str) -> _Service:
    """Authorise, and say what this connection is for."""
    first = await reader.frame(Op.HELLO, _HELLO_SECONDS_MAX)
    if first is None:
        raise trio.BrokenResourceError("closed before HELLO")
    try:
        hello = msgspec.json.decode(first.payload, type=Hello)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"data plane: HELLO is not valid: {error}") from error
    credential = f"Bearer {hello.authorization}"
    who = (await context.access.authenticate(credential, address)).auth_id
    if bool(hello.session_id) == bool(hello.reader_id):
        raise UsageError("data plane: name either a session or a reader", hint="open one over HTTP first")

    async def again() -> None:
        try:
            if (await context.access.authenticate(credential, address)).auth_id != who:
                raise NotAuthenticated("the credential is not valid")
        except IbsError as error:
            await plane_refused(context.audit, who, address, error)
            raise

    if hello.session_id:
        context.sessions.get(hello.session_id, who)

        async def receive(request: Request) -> Answer:
            await again()
            count = await context.sessions.get(hello.session_id, who).send_body(request.payload)
            return Op.RECEIVED, [count.to_bytes(4, "little")]

        def gone() -> None:
            # A client that goes on is heard again; one that was killed lets its next backup take over at once.
            with suppress(IbsError):
                context.sessions.get(hello.session_id, who).lose_peer()

        return _Service(who, Op.CHUNKS, receive, gone)

    context.readers.get(hello.reader_id, who)

    async def fetch(request: Request) -> Answer:
        await again()
        ids = read_ids(bytes(request.payload))
        blobs: list[Buffer] = []
        size = 0
        stream = context.readers.get(hello.reader_id, who).stream(ids)
        async with aclosing(cast("AsyncGenerator[bytes]", stream)):
            async for blob in stream:
                blobs.append(blob)
                size += len(blob)
                if size > limits.FETCH_ANSWER_BYTES_MAX:
                    raise UsageError(
                        f"data plane: these chunks take more than {limits.FETCH_ANSWER_BYTES_MAX} bytes",
                        hint="ask for fewer at once, or over HTTP",
                    )
        return Op.BLOBS, blobs

    return _Service(who, Op.FETCH, fetch)


async def _serve_requests(reader: FrameReader, peer: Peer, service: _Service) -> IbsError | None:
    """Receive one request ahead of the one being handled; return what the peer did wrong, if it should be told.

    Neither task raises for what a peer does, so that a broken connection ends itself and nothing else.
    """
    ahead_send, ahead_receive = trio.open_memory_channel[Request](0)
    ending: IbsError | None = None

    async def receive_all() -> None:
        nonlocal ending
        async with ahead_send:
            try:
                while (request := await reader.frame(service.takes, limits.PLANE_IDLE_SECONDS_MAX)) is not None:
                    await ahead_send.send(request)
            except FormatError as error:
                ending = error
            except trio.TooSlowError:
                # No error frame: a peer that wakes up would take it for the answer to its next request.
                _log.info("data plane: a silent connection is closed", peer=peer.address)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # gone; what it sent whole is still worked on

    async with trio.open_nursery() as nursery:  # noqa: TID251 - receiver and answerer of one connection end together
        nursery.start_soon(receive_all)
        try:
            async for request in ahead_receive:
                await _answer(peer, service, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()
    return ending


async def _answer(peer: Peer, service: _Service, request: Request) -> None:
    try:
        op, parts = await service.handle(request)
    except IbsError as error:
        await _send_error(peer, body_of(error))
    except Exception:  # noqa: BLE001 - a defect is logged whole and told in one sentence; the others go on
        _log.exception("request failed", operation=f"data plane {request.op.name}")
        await _send_error(peer, internal_error())
    else:
        await _send(peer, op, parts)


async def _send(peer: Peer, op: Op, parts: list[Buffer]) -> None:
    await peer.send_all(frames.pack_header(op, sum(map(len, parts))))
    for part in parts:
        await peer.send_all(part)


async def _send_error(peer: Peer, body: ErrorBody) -> None:
    raw = msgspec.json.encode(body)
    if len(raw) > frames.PAYLOAD_BYTES_MAX[Op.ERROR]:  # details are a help, no promise
        raw = msgspec.json.encode(ErrorBody(code=body.code, message=body.message[:1024], retry=body.retry))
    await _send(peer, Op.ERROR, [raw])
