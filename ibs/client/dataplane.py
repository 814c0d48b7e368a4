"""The data plane's client side: a few TLS connections that carry chunks for one session or reader.

Used by `client.transport`. Each connection has one request under way; several of them keep the line full. A connection
that breaks is replaced at the next request; what it carried is repeated, which is harmless (receiving a chunk twice
changes nothing). Described in contrib/docs/protocol.md §3.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec
import trio

from ibs.client.failures import error_from_body
from ibs.core.blob import split_blobs
from ibs.errors import FormatError, ServerUnreachable
from ibs.security.pinning import connect_pinned
from ibs.wire import frames
from ibs.wire.common import ErrorBody
from ibs.wire.frames import Hello, Op

Buffer = bytes | bytearray | memoryview

_CONNECTIONS_DEFAULT = 3
_ANSWER_SECONDS_MAX = 120
_RECEIVE_BYTES = 1 << 18
_TRIES = 4
_RETRY_SECONDS = 0.5


class _Connection:
    """One connection after HELLO. Not shared: a holder sends one request and receives its answer."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def request(self, op: Op, parts: Sequence[Buffer]) -> tuple[Op, bytearray]:
        """Send one frame and receive one. Raises trio.BrokenResourceError, trio.TooSlowError, FormatError."""
        with trio.fail_after(_ANSWER_SECONDS_MAX):
            await self._stream.send_all(frames.pack_header(op, sum(map(len, parts))))
            for part in parts:
                await self._stream.send_all(part)
            answer, length = frames.parse_header(await self._exactly(frames.HEADER.size))
            return answer, await self._exactly(length)

    async def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        at = 0
        while at < size:
            piece = await self._stream.receive_some(min(size - at, _RECEIVE_BYTES))
            if not piece:
                raise trio.BrokenResourceError("the server closed the connection")
            buffer[at : at + len(piece)] = piece
            at += len(piece)
        return buffer

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


class DataPlane:
    """Connections for one session or one reader. An async context manager; `aclose` drops them all."""

    def __init__(
        self, host: str, port: int, fingerprint: str, hello: Hello, *, connections: int = _CONNECTIONS_DEFAULT
    ) -> None:
        self._place = (host.strip("[]"), port, fingerprint)
        self._hello = msgspec.json.encode(hello)
        self._slots = trio.CapacityLimiter(connections)
        self._free: list[_Connection] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drop all connections; requests after this fail."""
        self._closed = True
        while self._free:
            await self._free.pop().aclose()

    async def send(self, blobs: Sequence[Buffer]) -> None:
        """Deliver whole blobs. Raises the server's errors, ServerUnreachable after the last try."""
        answer = await self._request(Op.CHUNKS, blobs, Op.RECEIVED)
        if int.from_bytes(answer, "little") != len(blobs):
            raise FormatError("data plane: the server received another number of chunks than were sent")

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        """Blobs in the order asked. Raises the server's errors, ServerUnreachable after the last try."""
        answer = await self._request(Op.FETCH, [b"".join(ids)], Op.BLOBS)
        blobs = [bytes(body) for _header, body in split_blobs(answer)]
        if len(blobs) != len(ids):
            raise FormatError("data plane: the server answered another number of chunks than were asked for")
        return blobs

    async def _request(self, op: Op, parts: Sequence[Buffer], wanted: Op) -> bytearray:
        for left in reversed(range(_TRIES)):
            try:
                kind, payload = await self._once(op, parts)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError) as error:
                if not left:
                    raise ServerUnreachable(
                        f"the connection to {self._place[0]}:{self._place[1]} broke: {error}",
                        hint="start the command again; what the server already holds is not sent twice",
                    ) from error
                await trio.sleep(_RETRY_SECONDS)
                continue
            if kind is Op.ERROR:
                raise error_from_body(msgspec.json.decode(payload, type=ErrorBody))
            if kind is not wanted:
                raise FormatError(f"data plane: {kind.name} came instead of {wanted.name}")
            return payload
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(self, op: Op, parts: Sequence[Buffer]) -> tuple[Op, bytearray]:
        async with self._slots:
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
            kind, payload = await connection.request(Op.HELLO, [self._hello])
        except BaseException:
            await connection.aclose()
            raise
        if kind is not Op.READY:
            await connection.aclose()
            raise error_from_body(msgspec.json.decode(payload, type=ErrorBody))
        return connection
