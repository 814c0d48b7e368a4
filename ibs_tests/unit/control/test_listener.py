"""One TLS port: HTTP, other planes by ALPN; bounded in number and time; one peer's trouble is its own; orderly stop."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from ibs.control import listener as module
from ibs.control.peer import Peer
from ibs.control.routing import NDJSON
from ibs.core import limits
from ibs_tests.support.control import Certificates, Served, logged, raw_request, read_all, serving


class App:
    """`/slow` answers when the gate opens, `/follow` sends one line and waits, the rest answers with its path."""

    def __init__(self) -> None:
        self.gate, self.entered = trio.Event(), trio.Event()
        self.admit = True

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any, *_rest: Any) -> None:
        if self.admit:
            scope["state"]["peer"].admit()
        if scope["path"] == "/follow":
            headers = [(b"content-type", NDJSON.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"{}\n", "more_body": True})
            self.entered.set()
            await trio.sleep_forever()
        if scope["path"] == "/slow":
            self.entered.set()
            await self.gate.wait()
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def get(served: Served, path: str) -> httpx.Response:
    async with served.http() as http:
        return await http.get(f"{served.url}{path}")


async def until(what: Any) -> None:
    """Wait for something that other tasks bring about."""
    with trio.fail_after(10):
        while not what():
            await trio.sleep(0.001)


async def test_http_and_another_plane_share_the_port(certificates: Certificates) -> None:
    async def plane(peer: Peer) -> None:
        assert peer.address == "127.0.0.1"
        await peer.send_all(b"plane:" + await peer.receive_some(10))

    async with serving(App(), certificates, planes={"test-plane": plane}) as served:
        assert (await get(served, "/hello")).text == "/hello"
        async with served.raw("test-plane") as stream:
            assert stream.selected_alpn_protocol() == "test-plane"
            await stream.send_all(b"x")
            assert await read_all(stream) == b"plane:x"
        async with served.raw("http/1.1") as stream:
            await stream.send_all(raw_request("GET", "/alpn", "Connection: close"))
            assert (await read_all(stream)).endswith(b"/alpn")
        await until(lambda: served.listener.connections == 0)


async def test_stop_waits_for_running_requests_and_refuses_new_ones(certificates: Certificates) -> None:
    app = App()
    answers: list[str] = []
    async with serving(app, certificates) as served, trio.open_nursery() as nursery, served.http() as kept:
        assert (await kept.get(f"{served.url}/first")).status_code == 200

        async def slow() -> None:
            answers.append((await get(served, "/slow")).text)

        nursery.start_soon(slow)
        await app.entered.wait()
        served.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        late = await kept.get(f"{served.url}/late")
        assert (late.status_code, late.json()["code"]) == (503, "unavailable")
        assert not served.ended.is_set()
        app.gate.set()
        with trio.fail_after(10):
            await served.ended.wait()
    assert answers == ["/slow"]


async def test_stop_does_not_wait_for_followed_logs_or_idle_connections(certificates: Certificates) -> None:
    app = App()
    async with serving(app, certificates, grace_seconds=60) as served, served.raw() as idle, served.raw() as follower:
        await idle.send_all(raw_request("GET", "/x"))
        assert await idle.receive_some(1000)
        await follower.send_all(raw_request("GET", "/follow"))
        await app.entered.wait()
        served.stop.set()
        with trio.fail_after(10):
            await served.ended.wait()


async def test_stop_is_not_held_up_by_a_peer_that_reads_nothing(certificates: Certificates) -> None:
    async def plane(peer: Peer) -> None:
        peer.admit()
        await peer.send_all(bytes(1 << 28))

    async with serving(App(), certificates, planes={"test-plane": plane}) as served, served.raw("test-plane"):
        await trio.testing.wait_all_tasks_blocked(0.01)
        served.stop.set()
        with trio.fail_after(10):
            await served.ended.wait()


async def test_a_flood_of_silent_connections_is_capped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNAUTHENTICATED_CONNECTIONS_MAX", 3)
    refused: list[str] = []
    async with serving(App(), certificates, on_refused=refused.append) as served:
        silent = [await trio.open_tcp_stream("127.0.0.1", served.port) for _ in range(3)]
        await until(lambda: served.listener.strangers == 3)
        for _ in range(3):
            with pytest.raises(httpx.TransportError):
                await get(served, "/x")
        assert refused == ["too many connections that have not authenticated"]  # once, not three times
        for stream in silent:
            await stream.aclose()
        await until(lambda: served.listener.strangers == 0)
        assert (await get(served, "/x")).status_code == 200


async def test_one_address_cannot_take_all_places_of_strangers(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNAUTHENTICATED_PER_PEER_MAX", 1)
    refused: list[str] = []
    async with serving(App(), certificates, on_refused=refused.append) as served, served.raw():
        with pytest.raises(httpx.TransportError):
            await get(served, "/x")
        assert refused == ["too many connections from 127.0.0.1 that have not authenticated"]


async def test_known_callers_do_not_count_as_strangers(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNAUTHENTICATED_CONNECTIONS_MAX", 2)
    async with serving(App(), certificates) as served, trio.open_nursery() as nursery:
        opened = []
        for _ in range(5):
            http = served.http()
            opened.append(http)
            assert (await http.get(f"{served.url}/x")).status_code == 200
        assert (served.listener.connections, served.listener.strangers) == (5, 0)
        for http in opened:
            await http.aclose()
        nursery.cancel_scope.cancel()


async def test_the_number_of_connections_is_capped(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 1)
    refused: list[str] = []
    async with serving(App(), certificates, on_refused=refused.append) as served, served.raw() as first:
        with pytest.raises(httpx.TransportError):
            await get(served, "/x")
        assert refused == ["too many connections"]
        await first.send_all(raw_request("GET", "/x"))
        assert await first.receive_some(1000)


async def send_slowly(stream: trio.abc.SendStream) -> None:
    """A head that never ends, byte by byte."""
    await stream.send_all(b"GET /x HTTP/1.1\r\nLong: ")
    while True:
        await stream.send_all(b"x")
        await trio.sleep(0.01)


@pytest.mark.parametrize("handshake", [False, True])
async def test_a_stranger_is_cut_off_in_time(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, handshake: bool
) -> None:
    """Whatever it does, and even if it does something all the time."""
    monkeypatch.setattr(limits, "UNAUTHENTICATED_SECONDS_MAX", 0.3)
    app = App()
    app.admit = False
    async with serving(app, certificates) as served, trio.open_nursery() as nursery:
        if handshake:
            async with served.raw() as stream:
                with trio.fail_after(10), pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                    await send_slowly(stream)
        else:
            plain = await trio.open_tcp_stream("127.0.0.1", served.port)
            with trio.fail_after(10):
                assert await read_all(plain) == b""
            await plain.aclose()
        await until(lambda: served.listener.connections == 0)
        nursery.cancel_scope.cancel()


async def test_a_known_caller_stays_longer(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNAUTHENTICATED_SECONDS_MAX", 0.2)
    async with serving(App(), certificates) as served, served.http() as http:
        assert (await http.get(f"{served.url}/x")).status_code == 200
        await trio.sleep(0.4)
        assert served.listener.connections == 1
        assert (await http.get(f"{served.url}/x")).status_code == 200


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("defect"),
        ExceptionGroup("", [ZeroDivisionError("defect"), trio.BrokenResourceError()]),
        ExceptionGroup("", [trio.BrokenResourceError(), OSError()]),
        trio.ClosedResourceError(),
    ],
)
async def test_trouble_of_one_connection_is_its_own(
    certificates: Certificates, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def plane(_peer: Peer) -> None:
        raise error

    with caplog.at_level(logging.INFO, "ibs.api"):
        async with serving(App(), certificates, planes={"test-plane": plane}) as served:
            async with served.raw("test-plane") as stream:
                assert await read_all(stream) == b""
            assert (await get(served, "/x")).status_code == 200
            await until(lambda: served.listener.connections == 0)
    assert ("defect" in logged(caplog.records)) == ("ZeroDivision" in repr(error))


async def test_a_peer_that_resets_at_any_moment_harms_nobody(certificates: Certificates) -> None:
    """Before, in and after the handshake, in a head and in a body."""
    async with serving(App(), certificates) as served:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01"
        for sent in (b"", hello, b"GET / HTTP/1.1\r\n"):
            with socket.create_connection(("127.0.0.1", served.port)) as plain:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                plain.sendall(sent)
        for sent in (b"", b"GET /", raw_request("PUT", "/x", "Content-Length: 10", body=b"123")):
            async with served.raw() as stream:
                stream.transport_stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await stream.send_all(sent)
        assert (await get(served, "/x")).status_code == 200
        await until(lambda: served.listener.connections == 0)


async def test_running_out_of_descriptors_is_told_and_passes(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    failures = [OSError(24, "Too many open files")]
    accept = trio.SocketListener.accept

    async def failing(listener: trio.SocketListener) -> trio.SocketStream:
        if failures:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", failing)
    async with serving(App(), certificates, on_refused=refused.append) as served:
        assert (await get(served, "/x")).status_code == 200
    assert "Too many open files" in refused[0]


async def test_a_flood_of_refusals_is_few_lines(autojump_clock: trio.testing.MockClock) -> None:
    refused: list[str] = []
    listener = module.Listener(App(), lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), on_refused=refused.append)
    for _ in range(60):
        listener._refuse("full")
        await trio.sleep(0.25)
    assert refused == ["full", "full (40 times)"]


async def test_tls_below_1_3_is_refused(certificates: Certificates) -> None:
    old = certificates.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(App(), certificates) as served:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", served.port, ssl_context=old)
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(stream)


async def test_a_port_in_use_is_an_os_error(certificates: Certificates) -> None:
    async with serving(App(), certificates) as served:
        second = module.Listener(App(), lambda: certificates.server)
        with pytest.raises(OSError, match="in use"):
            await second.serve(module.Address("127.0.0.1", served.port), stop=trio.Event())


async def test_the_kernel_looks_for_vanished_peers(certificates: Certificates) -> None:
    seen: list[int] = []

    async def plane(peer: Peer) -> None:
        below: Any = peer._stream
        seen.append(below.transport_stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async with serving(App(), certificates, planes={"test-plane": plane}) as served, served.raw("test-plane") as stream:
        await read_all(stream)
    assert seen == [1]
