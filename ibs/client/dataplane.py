"""The data plane's client side: a few TLS connections that carry chunks for one session or reader.

Used by `client.transport`. Each connection has one request under way; several of them keep the line full. A connection
that breaks is replaced at the next request; what it carried is repeated, which is harmless (receiving a chunk twice
changes nothing). A first connection that cannot be made is told at once, so that HTTP can be used instead. Described
in contrib/docs/protocol.md §3.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import msgspec
import trio

from ibs.client.failures import error_from_body
from ibs.core import limits
from ibs.core.blob import split_blobs
from ibs.errors import FormatError, IbsError, ServerUnreachable
from ibs.ports.clock import Clock
from ibs.runtime.buffers import uninitialised
from ibs.runtime.clock import SystemClock
from ibs.runtime.retry import Backoff, Entropy, retry
from ibs.runtime.tls import receive_into
from ibs.security.pinning import Pins, connect_pinned
from ibs.wire import frames
from ibs.wire.common import ErrorBody
from ibs.wire.frames import Hello, Op

Buffer = bytes | bytearray | memoryview

_CONNECTIONS_DEFAULT = 3


@dataclass(frozen=True, slots=True)
class Line:
    """What a data connection needs: place, pinned certificate, and who speaks for which session or reader."""

    host: str
    port: int
    pins: Pins
    hello: Hello = field(repr=False)


class _Connection:
    """One connection. Not shared: a holder sends one request and receives its answer."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def request(self, op: Op, parts: Sequence[Buffer]) -> tuple[Op, memoryview]:
        """Send one frame and receive one. Raises trio.BrokenResourceError, trio.TooSlowError, FormatError."""
        await self._send(frames.pack_header(op, sum(map(len, parts))))
        for part in parts:
            await self._send(part)
        head = await self._exactly(frames.HEADER.size, limits.HTTP_ANSWER_SECONDS_MAX)
        answer, length = frames.parse_header(head)
        return answer, await self._exactly(length, limits.HTTP_WRITE_SECONDS_MAX)

    async def _send(self, data: Buffer) -> None:
        """Piece by piece, each with its own deadline: a slow line is no dead one."""
        view = memoryview(data)
        for at in range(0, len(view), limits.SEND_PIECE_BYTES):
            with trio.fail_after(limits.HTTP_WRITE_SECONDS_MAX):
                await self._stream.send_all(view[at : at + limits.SEND_PIECE_BYTES])

    async def _exactly(self, size: int, silence_seconds_max: float) -> memoryview:
        buffer = uninitialised(size)
        at = 0
        # One scope whose deadline moves: a scope for each piece would cost more than decrypting it.
        with trio.fail_after(silence_seconds_max) as patience:
            while at < size:
                got = await receive_into(self._stream, buffer[at:])
                if not got:
                    raise trio.BrokenResourceError("the server closed the connection")
                at += got
                patience.deadline = trio.current_time() + silence_seconds_max
        return buffer

    async def aclose(self) -> None:
        """Never waits; shielded, for a cancelled holder has more of them to close."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


class DataPlane:
    """Connections for one session or one reader. An async context manager; `aclose` drops them all."""

    def __init__(
        self,
        host: str,
        port: int,
        fingerprint: str | Pins,
        hello: Hello,
        *,
        connections: int = _CONNECTIONS_DEFAULT,
        clock: Clock | None = None,
        entropy: Entropy = os.urandom,
        backoff: Backoff | None = None,
    ) -> None:
        self._place = (host.strip("[]"), port, fingerprint)
        self._hello = msgspec.json.encode(hello)
        self._slots = trio.CapacityLimiter(connections)
        self._free: list[_Connection] = []
        self._reached = False
        self._closed = False
        self._clock = clock or SystemClock()
        self._entropy = entropy
        self._backoff = backoff or Backoff(attempts=limits.HTTP_TRIES_MAX, seconds_min=0.25, seconds_max=8.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drop all connections; requests after this fail."""
        self._closed = True
        await self._drop_free()

    async def warm(self) -> None:
        """Make all connections ahead of the first request. What fails is left for the requests to find out."""
        async with trio.open_nursery() as nursery:  # noqa: TID251 - a handful of connections that end here
            for _ in range(int(self._slots.total_tokens)):
                nursery.start_soon(self._warm_one)

    async def connect(self) -> None:
        """Make one connection now. Raises ServerUnreachable, and what the server answers."""
        async with self._slots:
            try:
                self._free.append(await self._open())
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError) as error:
                raise ServerUnreachable(f"no data connection to {self._place[0]}:{self._place[1]}") from error

    async def _warm_one(self) -> None:
        with suppress(IbsError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            async with self._slots:
                if self._closed:
                    return
                connection = await self._open()
                if self._closed:
                    await connection.aclose()
                else:
                    self._free.append(connection)

    async def send(self, blobs: Sequence[Buffer]) -> None:
        """Deliver whole blobs. Raises the server's errors, ServerUnreachable after the last try."""
        answer = await self._request(Op.CHUNKS, blobs, Op.RECEIVED)
        if int.from_bytes(answer, "little") != len(blobs):
            raise FormatError("data plane: the server received another number of chunks than were sent")

    async def fetch(self, ids: Sequence[bytes]) -> list[Buffer]:
        """Blobs in the order asked, views of one buffer. Raises the server's errors, ServerUnreachable in the end."""
        answer = await self._request(Op.FETCH, [b"".join(ids)], Op.BLOBS)
        blobs: list[Buffer] = [body for _header, body in split_blobs(answer)]
        if len(blobs) != len(ids):
            raise FormatError("data plane: the server answered another number of chunks than were asked for")
        return blobs

    async def _request(self, op: Op, parts: Sequence[Buffer], wanted: Op) -> memoryview:
        async def once() -> tuple[Op, memoryview]:
            try:
                return await self._once(op, parts)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError) as error:
                await self._drop_free()  # what broke this one has most likely broken them too
                why = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
                raise ServerUnreachable(
                    f"the connection to {self._place[0]}:{self._place[1]} broke: {why or type(error).__name__}",
                    hint="start the command again; what the server already holds is not sent twice",
                ) from error

        kind, payload = await retry(
            once, clock=self._clock, entropy=self._entropy, backoff=self._backoff, when=self._may_come_back
        )
        if kind is Op.ERROR:
            raise _told(payload)
        if kind is not wanted:
            raise FormatError(f"data plane: {kind.name} came instead of {wanted.name}")
        return payload

    def _may_come_back(self, error: Exception) -> bool:
        return isinstance(error, ServerUnreachable) and self._reached and not self._closed

    async def _once(self, op: Op, parts: Sequence[Buffer]) -> tuple[Op, memoryview]:
        async with self._slots:
            if self._closed:
                raise trio.ClosedResourceError("closed by this program")
            connection = self._free.pop() if self._free else await self._open()
            try:
                answer = await connection.request(op, parts)
            except BaseException:
                await connection.aclose()
                raise
            if self._closed:
                await connection.aclose()
            else:
                self._free.append(connection)
            return answer

    async def _open(self) -> _Connection:
        host, port, fingerprint = self._place
        connection = _Connection(await connect_pinned(host, port, fingerprint, alpn=frames.ALPN))
        try:
            with trio.fail_after(limits.CONNECT_SECONDS_MAX):
                kind, payload = await connection.request(Op.HELLO, [self._hello])
            if kind is Op.ERROR:
                raise _told(payload)
            if kind is not Op.READY:
                raise FormatError(f"data plane: {kind.name} came instead of READY")
        except BaseException:
            await connection.aclose()
            raise
        self._reached = True
        return connection

    async def _drop_free(self) -> None:
        while self._free:
            await self._free.pop().aclose()


def _told(payload: memoryview) -> IbsError:
    """The error in an ERROR frame."""
    try:
        return error_from_body(msgspec.json.decode(payload, type=ErrorBody))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return FormatError("data plane: the server's error cannot be read")
