"""A TLS stream for bulk data: large reads into the caller's memory, large writes, few steps of the event loop.

Used by `control` and `client` (through `security.pinning`). trio.SSLStream hands out one TLS record (16 KiB) a call,
each a bytes object of its own and some forty steps of Python; here one socket read takes up to RECEIVE_BYTES and all
its records are decrypted straight into the buffer that wants them. The cryptography is OpenSSL's as before, through
`ssl.SSLObject` and memory BIOs: the documented way to do TLS without a socket.

Invariants: bytes go out in the order they were encrypted (one lock around taking them from OpenSSL and sending them);
an end without close_notify counts as an end, because HTTP and the data plane know their lengths themselves.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Final, TypeVar, cast

import trio

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")

RECEIVE_BYTES: Final = 1 << 18
"""Read from the socket at once: sixteen full records."""

SEND_BYTES: Final = 1 << 19
"""Encrypted at once: few turns of the loop, and what waits to be sent still fits the processor's cache."""

_RECORD_BYTES: Final = 1 << 14
_ENDED = (ssl.SSLZeroReturnError, ssl.SSLEOFError)


class TlsStream(trio.abc.Stream):
    """TLS over a connected `trio.SocketStream`. One task receives and one sends at a time.

    Raises trio.BrokenResourceError when the connection breaks or the peer breaks TLS (its cause is the error of OpenSSL
    or of the system), trio.ClosedResourceError after closing. *Cancellation* while sending leaves the stream unusable.
    """

    def __init__(
        self,
        transport: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self.transport_stream = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._flushing = trio.StrictFIFOLock()
        self._buffer: memoryview | None = None

    def selected_alpn_protocol(self) -> str | None:
        """The protocol both sides agreed on; None when neither named one they share."""
        return self._tls.selected_alpn_protocol()

    def peer_certificate(self) -> bytes:
        """The peer's certificate, DER; empty when it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    async def do_handshake(self) -> None:
        """Shake hands; once, before anything else. What the context itself raises comes unchanged."""
        try:
            await self._until(self._tls.do_handshake)
        except _ENDED as error:
            raise trio.BrokenResourceError("the peer closed the connection during the handshake") from error
        await self._flush()

    # --- receiving ---

    async def receive_into(self, view: memoryview) -> int:
        """Put as many bytes into `view` as are here and fit, at least one; 0 when the peer has ended."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return await self._until(lambda: self._take(view))
        except _ENDED:
            return 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, at most one record; b"" when the peer has ended."""
        await trio.lowlevel.checkpoint_if_cancelled()
        size = _RECORD_BYTES if max_bytes is None else max_bytes
        try:
            return await self._until(lambda: self._tls.read(size))
        except _ENDED:
            return b""

    def _take(self, view: memoryview) -> int:
        """Decrypt what is here into `view`. Raises ssl.SSLWantReadError when that is nothing, `_ENDED`."""
        at = self._read(view)
        with contextlib.suppress(ssl.SSLWantReadError, *_ENDED):  # an end shows again at the next call
            while at < len(view) and (got := self._read(view[at:])):
                at += got
        return at

    def _read(self, view: memoryview) -> int:
        """One record, or the rest of one. The stubs know no other buffer than bytearray, and no count as its answer."""
        return cast("int", self._tls.read(len(view), cast("bytearray", view)))

    async def _until(self, step: Callable[[], T]) -> T:
        """Repeat `step` until it has what it wants from the peer. Raises `_ENDED` when that will not come."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            except _ENDED:
                raise
            except ssl.SSLError as error:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._flush()  # OpenSSL's alert, so that the peer learns why
                raise trio.BrokenResourceError(f"TLS: {error.reason or error}") from error
            # Who is sending now takes ours along. Waiting for it here would stop both sides when both send.
            if self._outgoing.pending and not self._flushing.locked():
                await self._flush()
            await self._receive()

    async def _receive(self) -> None:
        """Take what the socket has; raises trio.BrokenResourceError, trio.ClosedResourceError."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        with _translated():
            got = await self.transport_stream.socket.recv_into(self._buffer)
        if got:
            self._incoming.write(self._buffer[:got])
        else:
            self._incoming.write_eof()

    # --- sending ---

    async def send_all(self, data: Buffer) -> None:
        """Send all of it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        view = memoryview(data).cast("B")
        for at in range(0, len(view), SEND_BYTES):
            try:
                self._tls.write(view[at : at + SEND_BYTES])
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(f"TLS: {error.reason or error}") from error
            await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def _flush(self) -> None:
        """Send what OpenSSL wants sent; when this returns, all of it that was there has been handed to the system."""
        if not self._outgoing.pending and not self._flushing.locked():
            return
        try:
            self._flushing.acquire_nowait()  # nearly always free; waiting for it costs a turn of the loop even then
        except trio.WouldBlock:
            await self._flushing.acquire()
        try:
            while self._outgoing.pending:
                await self.transport_stream.send_all(self._outgoing.read())
        finally:
            self._flushing.release()

    # --- the end ---

    async def aclose(self) -> None:
        """Tell the peer, without waiting for its answer, and close. Never raises what the connection may raise."""
        try:
            with contextlib.suppress(ssl.SSLError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
                await self._flush()
        finally:
            await self.transport_stream.aclose()


async def receive_into(stream: trio.abc.ReceiveStream, view: memoryview) -> int:
    """What `TlsStream.receive_into` does, from any stream."""
    if isinstance(stream, TlsStream):
        return await stream.receive_into(view)
    data = await stream.receive_some(len(view))
    view[: len(data)] = data
    return len(data)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise trio.BrokenResourceError(f"the connection broke: {error.strerror or error}") from error
