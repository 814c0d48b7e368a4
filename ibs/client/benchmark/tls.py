"""TLS over the loopback with the settings of this product: what one connection carries when nothing else slows it.

Imported by `client.benchmark.run`. One end is this program's own kind of stream, the other a blocking socket in a disk
thread, with a certificate made for the moment in a temporary folder.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio

from ibs.client.benchmark.figures import Figure
from ibs.core import limits
from ibs.errors import IbsError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.tls import TlsStream
from ibs.security.pinning import pinned_context
from ibs.security.tls import ensure_certificate, server_context
from ibs.wire import frames

_CHACHA = "ECDHE+CHACHA20"
_RECEIVE_BYTES = 1 << 18
_SILENCE_SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class _Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext


def make_contexts() -> list[_Contexts]:
    """The product's settings as they are; and the same with ChaCha20-Poly1305 where this OpenSSL has it. Blocks.

    The suites of TLS 1.3 cannot be chosen through this Python, so that the second pair speaks TLS 1.2; what is
    measured, the cipher, is the same.
    """
    with tempfile.TemporaryDirectory(prefix="ibs-benchmark-") as folder:
        certificate = ensure_certificate(Path(folder), "localhost")
        pairs = [
            _Contexts(
                server_context(certificate, [frames.ALPN]),
                pinned_context(certificate.fingerprint, alpn=[frames.ALPN]),
            )
            for _ in range(2)
        ]
    for context in (pairs[1].server, pairs[1].client):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.set_ciphers(_CHACHA)
        except ssl.SSLError:  # an OpenSSL without it
            return pairs[:1]
    return pairs


async def measure_tls(pool: Pool, clock: Clock, seconds: float) -> tuple[list[Figure], list[str]]:
    """One figure for each cipher, and notes on what could not be measured. *Cancellation*: at any time."""
    figures: list[Figure] = []
    notes: list[str] = []
    for pair in await pool.disk(make_contexts):
        try:
            figures.append(await _measure(pool, clock, pair, seconds))
        except* (OSError, trio.BrokenResourceError, trio.TooSlowError, IbsError) as errors:
            notes.append(f"TLS was not measured: {_cause(errors)}")
    return figures, notes


def _cause(error: BaseException) -> str:
    """What went wrong first, in the words of whoever found it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


async def _measure(pool: Pool, clock: Clock, pair: _Contexts, seconds: float) -> Figure:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(limits.TLS_HANDSHAKE_SECONDS_MAX)
    port: int = listener.getsockname()[1]
    taken: list[tuple[int, str]] = []

    async def take() -> None:
        taken.append(await pool.disk(_take_all, listener, pair.server))

    elapsed = 0.0
    async with trio.open_nursery() as nursery:  # noqa: TID251 - the other end of the connection ends with this one
        nursery.start_soon(take)
        try:
            with trio.fail_after(seconds + _SILENCE_SECONDS_MAX):
                plain = await trio.open_tcp_stream("127.0.0.1", port)
                async with TlsStream(plain, pair.client, server_hostname="localhost") as stream:
                    await stream.do_handshake()
                    began = clock.monotonic()
                    data = bytes(limits.SEND_PIECE_BYTES)
                    while clock.monotonic() - began < seconds:
                        await stream.send_all(data)
                    elapsed = clock.monotonic() - began
        finally:
            listener.close()
    size, cipher = taken[0]
    return Figure.of("tls", cipher, size, elapsed, note="one connection over the loopback")


def _take_all(listener: socket.socket, context: ssl.SSLContext) -> tuple[int, str]:
    """Accept one connection and receive until its end: number of bytes, and the cipher. Blocks, within deadlines."""
    cipher = ""
    try:
        accepted, _ = listener.accept()
    except OSError:
        return 0, cipher
    buffer = bytearray(_RECEIVE_BYTES)
    total = 0
    with accepted:
        accepted.settimeout(_SILENCE_SECONDS_MAX)
        try:
            with context.wrap_socket(accepted, server_side=True) as secure:
                cipher = " ".join(str(part) for part in (secure.cipher() or ())[:2])
                while count := secure.recv_into(buffer):
                    total += count
        except OSError:  # the other end tells what went wrong
            return total, cipher
    return total, cipher
