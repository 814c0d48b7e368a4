"""One accepted connection after its handshake: where it comes from, whether it is trusted yet, and bounded sends.

Used by `control.listener`, `control.connection` and `control.dataplane`. Invariants: a peer that takes nothing is cut
off, so that no send lasts for ever; a peer that has not proven who it is lives only as long as its probation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from ibs.core import limits
from ibs.runtime.tls import TlsStream, receive_into

Buffer = bytes | bytearray | memoryview

_DISCARD_BYTES = 1 << 16


class Peer:
    """A stream to somebody at `address`. One task receives, one sends at a time.

    `probation` is the scope that the connection is served in; `admit` lifts its deadline. `on_admitted` is told once.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        address: str,
        *,
        probation: trio.CancelScope | None = None,
        on_admitted: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self._stream = stream
        self._probation = probation
        self._on_admitted = on_admitted
        self._admitted = False

    @property
    def admitted(self) -> bool:
        """Whether a caller on this connection has proven who it is."""
        return self._admitted

    def admit(self) -> None:
        """A caller has proven who it is: the connection may stay."""
        if self._admitted:
            return
        self._admitted = True
        if self._probation is not None:
            self._probation.deadline = math.inf
        self._on_admitted()

    async def receive_some(self, bytes_max: int) -> bytes | bytearray:
        """Some bytes; b"" when the peer has ended. Raises trio.BrokenResourceError, trio.ClosedResourceError."""
        return await self._stream.receive_some(bytes_max)

    async def receive_into(self, view: memoryview) -> int:
        """Put as many bytes into `view` as are here and fit; 0 when the peer has ended. Raises as `receive_some`."""
        return await receive_into(self._stream, view)

    async def send_all(self, data: Buffer) -> None:
        """Send all of it; a peer that takes less than SEND_PIECE_BYTES in SEND_PIECE_SECONDS_MAX is cut off.

        Raises trio.BrokenResourceError. *Cancellation*: the stream cannot be used any more.
        """
        if len(data) <= limits.SEND_PIECE_BYTES:
            await self._send_piece(data)
            return
        whole = memoryview(data)
        for at in range(0, len(whole), limits.SEND_PIECE_BYTES):
            await self._send_piece(whole[at : at + limits.SEND_PIECE_BYTES])

    async def _send_piece(self, piece: Buffer) -> None:
        with trio.move_on_after(limits.SEND_PIECE_SECONDS_MAX) as patience:
            await self._stream.send_all(piece)
        if patience.cancelled_caught:
            await self.drop()
            raise trio.BrokenResourceError("the peer does not take what it asked for")

    async def end_sending(self) -> None:
        """Tell the peer that nothing more will come; it may go on sending. What is below TLS says it, not TLS.

        *Cancellation*: not before it is told, which takes no time.
        """
        below = self._stream.transport_stream if isinstance(self._stream, TlsStream) else self._stream
        with trio.CancelScope(shield=True):
            try:
                if isinstance(below, trio.abc.HalfCloseableStream):
                    await below.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass  # it is gone already

    async def hear_out(self) -> None:
        """End, but take what the peer still sends for a moment: a reset would keep the last answer from it."""
        await self.end_sending()
        taken = 0
        with trio.move_on_after(limits.HTTP_LINGER_SECONDS_MAX):
            try:
                while taken <= limits.HTTP_LINGER_BYTES_MAX and (piece := await self.receive_some(_DISCARD_BYTES)):
                    taken += len(piece)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def drop(self) -> None:
        """Close without a word. Whoever waits on the stream gets trio.ClosedResourceError."""
        await trio.aclose_forcefully(self._stream)
