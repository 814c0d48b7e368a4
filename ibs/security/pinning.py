"""Clients of a pinned server: the certificate is compared as part of the handshake, before any byte is sent.

Used by `client`, `services.sync` and tests. No certificate authority has a say: the peer must present exactly the
pinned certificate (or the next one, which it told over a pinned connection before), and TLS 1.3 proves that it holds
the key. The comparison sits in the context itself (through `sslobject_class` and `sslsocket_class`, the documented way
to extend what a context makes), so nothing that uses the context (httpx, trio, a blocking socket) can forget it.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import Sequence
from typing import Any

import httpx
import trio

from ibs.core import limits
from ibs.core.ids import hex_fingerprint, parse_fingerprint
from ibs.errors import ServerUnreachable, TlsFingerprintMismatch, UsageError
from ibs.runtime.tls import TlsStream

Stream = TlsStream
PINS_MAX = 2
PINS_HEADER = "Ibs-Certificates"
"""In answers of a server: what its clients should pin from now on, as `Pins` writes it."""


class Pins:
    """The certificates that a client accepts of one server: its own, and while it is being changed the next one.

    Written `FINGERPRINT` or `FINGERPRINT,FINGERPRINT`. Who holds them sees what was learned meanwhile.
    """

    def __init__(self, text: str) -> None:
        """Raises UsageError."""
        self._pins = _parse_pins(text)

    def __str__(self) -> str:
        return ",".join(map(hex_fingerprint, self._pins))

    def learn(self, told: str) -> bool:
        """What the server, over a connection that was accepted, says its certificates are. True when that is new.

        What is not understood is ignored: a pin is never lost by it.
        """
        try:
            pins = _parse_pins(told)
        except UsageError:
            return False
        changed, self._pins = pins != self._pins, pins
        return changed

    def check(self, peer: ssl.SSLObject | ssl.SSLSocket) -> None:
        """Raises TlsFingerprintMismatch."""
        offered = hashlib.sha256(peer.getpeercert(binary_form=True) or b"").digest()
        if not any(hmac.compare_digest(offered, pin) for pin in self._pins):
            raise TlsFingerprintMismatch(
                str(peer.server_hostname or "the server"), hex_fingerprint(self._pins[0]), hex_fingerprint(offered)
            )


def _parse_pins(text: str) -> tuple[bytes, ...]:
    parts = text.split(",")
    if len(parts) > PINS_MAX:
        raise UsageError(f"{len(parts)} fingerprints were given", hint=f"at most {PINS_MAX}: the present and the next")
    return tuple(dict.fromkeys(map(parse_fingerprint, parts)))


def pinned_context(
    fingerprint: str | Pins, *, alpn: Sequence[str] = (), minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """A client's context that accepts the certificate with this SHA-256 fingerprint (or one of two) and no other.

    TLS 1.3 only, unless `minimum` is lower: for servers that are not ours; 1.2 proves the key in its handshake, too.
    A handshake with another peer raises TlsFingerprintMismatch, through httpx and trio unchanged. Raises UsageError.
    """
    pins = fingerprint if isinstance(fingerprint, Pins) else Pins(fingerprint)
    context = _open_context(alpn)
    context.minimum_version = minimum

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self, *args: Any) -> None:
            super().do_handshake(*args)
            pins.check(self)

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, *args: Any) -> None:
            super().do_handshake(*args)
            try:
                pins.check(self)
            except TlsFingerprintMismatch:
                self.close()  # `wrap_socket` closes it for errors of its own only
                raise

    context.sslobject_class = PinnedObject
    context.sslsocket_class = PinnedSocket
    return context


class PinnedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport to one pinned server over HTTP/1.1; proxies and settings of the environment play no part."""

    def __init__(self, fingerprint: str | Pins, *, connections: int = 8, keepalive_seconds: float = 30.0) -> None:
        bounds = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=keepalive_seconds
        )
        super().__init__(verify=pinned_context(fingerprint), trust_env=False, limits=bounds)


async def connect_pinned(host: str, port: int, fingerprint: str | Pins, *, alpn: str = "") -> Stream:
    """A stream to the pinned server, its handshake done, speaking the protocol `alpn`.

    Raises TlsFingerprintMismatch, ServerUnreachable (also when the server does not speak `alpn`).
    *Cancellation*: the connection is closed.
    """
    stream = await _connect(host, port, pinned_context(fingerprint, alpn=[alpn] if alpn else []))
    if alpn and stream.selected_alpn_protocol() != alpn:
        await trio.aclose_forcefully(stream)
        hint = "is it the right port, and a server of this product?"
        raise ServerUnreachable(f"{host}:{port} does not speak {alpn}", hint=hint)
    return stream


async def offered_fingerprint(host: str, port: int) -> str:
    """The fingerprint of the certificate that a server offers, for a person to compare; nothing is sent to it.

    Raises ServerUnreachable.
    """
    stream = await _connect(host, port, _open_context(()))
    der = stream.peer_certificate()
    await trio.aclose_forcefully(stream)
    return hex_fingerprint(hashlib.sha256(der).digest())


async def _connect(host: str, port: int, context: ssl.SSLContext) -> Stream:
    try:
        with trio.fail_after(limits.CONNECT_SECONDS_MAX):
            plain = await trio.open_tcp_stream(host, port)
            stream = TlsStream(plain, context, server_hostname=host)
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
        why = "no answer in time" if isinstance(error, trio.TooSlowError) else str(cause) or type(cause).__name__
        hint = "is the server running, and the port open?"
        raise ServerUnreachable(f"{host}:{port} cannot be reached: {why}", hint=hint) from error
    return stream


def _open_context(alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the caller compares the certificate itself
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
