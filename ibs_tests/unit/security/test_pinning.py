"""Pinning against real TLS servers: nothing is sent to a stranger, by httpx, by streams, by blocking sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from ibs.core import limits
from ibs.errors import ServerUnreachable, TlsFingerprintMismatch, UsageError
from ibs.security import pinning, tls
from ibs.security.pinning import PinnedTransport, Pins, connect_pinned, offered_fingerprint, pinned_context

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Server:
    """Answers HTTP requests; keeps every application byte it got."""

    def __init__(self, made: tls.Certificate) -> None:
        self.made = made
        self.got = b""
        self.handshakes = 0
        self.connections = 0
        self.port = 0
        self._context = tls.server_context(made, ["http/1.1", "ibs-data/1"])

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._serve, listeners, task_status=task_status)

    async def _serve(self, plain: trio.SocketStream) -> None:
        self.connections += 1
        stream = trio.SSLStream(plain, self._context, server_side=True, https_compatible=True)
        try:
            await stream.do_handshake()
            self.handshakes += 1
            while data := await stream.receive_some(65536):
                self.got += data
                if b"\r\n\r\n" in data:
                    await stream.send_all(ANSWER)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)


@pytest.fixture
async def server(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Server]:
    server = Server(tls.ensure_certificate(tmp_path, "web01"))
    await nursery.start(lambda task_status: server.run(task_status=task_status))
    yield server
    nursery.cancel_scope.cancel()


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    return tls.ensure_certificate(tmp_path / "other", "web01").fingerprint


async def test_httpx_with_the_right_pin(server: Server) -> None:
    async with httpx.AsyncClient(transport=PinnedTransport(server.made.fingerprint.upper())) as http:
        for host in ("127.0.0.1", "localhost"):
            answer = await http.get(f"https://{host}:{server.port}/x")
            assert answer.text == "hi"
        await http.get(f"https://127.0.0.1:{server.port}/x")
    assert server.connections == 2, "a connection is kept and used again"


async def test_httpx_with_a_wrong_pin_sends_nothing(server: Server, stranger: str) -> None:
    async with httpx.AsyncClient(transport=PinnedTransport(stranger)) as http:
        for _ in range(2):
            with pytest.raises(TlsFingerprintMismatch) as caught:
                await http.post(
                    f"https://127.0.0.1:{server.port}/x",
                    headers={"Authorization": "Bearer a@b:secret"},
                    content=b"body",
                )
            offered, host = server.made.fingerprint, "127.0.0.1"
            assert caught.value.message == f"TLS fingerprint mismatch: {host} offers {offered}, pinned is {stranger}"
    while server.connections < 2:
        await trio.lowlevel.checkpoint()
    assert server.got == b""


async def test_streams(server: Server, stranger: str) -> None:
    stream = await connect_pinned("127.0.0.1", server.port, server.made.fingerprint, alpn="ibs-data/1")
    assert stream.selected_alpn_protocol() == "ibs-data/1"
    await stream.send_all(b"x\r\n\r\n")
    assert await stream.receive_some(1000) == ANSWER
    await trio.aclose_forcefully(stream)
    server.got = b""
    with pytest.raises(TlsFingerprintMismatch):
        await connect_pinned("127.0.0.1", server.port, stranger, alpn="ibs-data/1")
    assert server.got == b""


async def test_a_server_without_the_protocol_is_told(server: Server) -> None:
    with pytest.raises(ServerUnreachable, match="does not speak smtp"):
        await connect_pinned("127.0.0.1", server.port, server.made.fingerprint, alpn="smtp")


async def test_blocking_sockets_check_too(server: Server, stranger: str) -> None:
    def ask(fingerprint: str) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
            pinned_context(fingerprint).wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(b"x\r\n\r\n")
            return secure.recv(1000)

    assert await trio.to_thread.run_sync(ask, server.made.fingerprint) == ANSWER
    server.got = b""
    with pytest.raises(TlsFingerprintMismatch):
        await trio.to_thread.run_sync(ask, stranger)
    assert server.got == b""


async def test_the_offered_fingerprint_is_asked_without_sending(server: Server) -> None:
    assert await offered_fingerprint("127.0.0.1", server.port) == server.made.fingerprint
    assert server.got == b""


async def test_nobody_there(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port} cannot be reached"):
        await offered_fingerprint("127.0.0.1", port)


async def test_a_peer_that_speaks_no_tls_or_nothing(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async def talker(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example.org ESMTP\r\n")
        await stream.aclose()

    for handler, words in ((talker, "cannot be reached"), (lambda _stream: trio.sleep_forever(), "no answer in time")):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        with pytest.raises(ServerUnreachable, match=words):
            await offered_fingerprint("127.0.0.1", listeners[0].socket.getsockname()[1])
    assert trio.current_time() >= limits.CONNECT_SECONDS_MAX
    nursery.cancel_scope.cancel()


async def test_a_server_below_tls_1_3_is_refused(tmp_path: Path, nursery: trio.Nursery) -> None:
    made = tls.ensure_certificate(tmp_path, "old")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(made.path)

    async def serve(plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, context, server_side=True)
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    with pytest.raises(ServerUnreachable):
        await connect_pinned("127.0.0.1", listeners[0].socket.getsockname()[1], made.fingerprint)
    nursery.cancel_scope.cancel()


def test_a_pin_is_a_whole_fingerprint() -> None:
    for text in ("", "aa:bb", "zz" * 32):
        with pytest.raises(UsageError):
            pinned_context(text)


def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Peer:
        server_hostname = None

        def getpeercert(self, binary_form: bool) -> None:
            return None

    def compare(one: bytes, other: bytes) -> bool:
        asked.append((one, other))
        return False

    monkeypatch.setattr(pinning.hmac, "compare_digest", compare)
    with pytest.raises(TlsFingerprintMismatch, match="the server offers"):
        Pins(":".join(["00"] * 32)).check(Peer())  # type: ignore[arg-type]
    assert len(asked) == 1


async def test_the_next_certificate_is_accepted_beside_the_present_one(server: Server, stranger: str) -> None:
    other = "00:" * 31 + "01"
    for text in (f"{stranger},{server.made.fingerprint}", f"{server.made.fingerprint},{stranger}"):
        await trio.aclose_forcefully(await connect_pinned("127.0.0.1", server.port, text))
    with pytest.raises(TlsFingerprintMismatch) as caught:
        await connect_pinned("127.0.0.1", server.port, f"{stranger},{other}")
    assert f"pinned is {stranger}" in caught.value.message


async def test_what_was_learned_holds_for_those_who_share_it(server: Server, stranger: str) -> None:
    pins = Pins(stranger)
    context = pinned_context(pins)
    async with httpx.AsyncClient(transport=PinnedTransport(pins)) as http:
        with pytest.raises(TlsFingerprintMismatch):
            await http.get(f"https://127.0.0.1:{server.port}/x")
        assert pins.learn(f"{stranger},{server.made.fingerprint}")
        assert (await http.get(f"https://127.0.0.1:{server.port}/x")).text == "hi"
    await trio.aclose_forcefully(await connect_pinned("127.0.0.1", server.port, pins))
    plain = await trio.open_tcp_stream("127.0.0.1", server.port)
    stream = trio.SSLStream(plain, context)
    await stream.do_handshake()
    await trio.aclose_forcefully(stream)


def test_pins_are_never_lost_by_what_is_not_understood() -> None:
    one, two, three = (":".join([byte] * 32) for byte in ("01", "02", "03"))
    pins = Pins(one)
    for told in ("", "nonsense", f"{one},", f"{one},{two},{three}", f"{two},zz"):
        assert not pins.learn(told)
        assert str(pins) == one
    assert pins.learn(f"{one},{two}")
    assert not pins.learn(f"{one},{two}")
    assert str(pins) == f"{one},{two}"
    assert pins.learn(two)
    assert str(pins) == two
    assert str(Pins(f"{one},{one}")) == one
    with pytest.raises(UsageError):
        Pins(f"{one},{two},{three}")
