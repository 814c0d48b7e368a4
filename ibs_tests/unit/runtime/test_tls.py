"""The bulk TLS stream against trio's own on the other side, and against peers that break off or talk nonsense."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ibs.runtime.buffers import uninitialised
from ibs.runtime.tls import RECEIVE_BYTES, TlsStream, receive_into
from ibs_tests.support.control import Certificates

Streams = tuple[trio.abc.Stream, trio.abc.Stream]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"), "plane/1")


async def _sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    left, right = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return trio.SocketStream(left), trio.SocketStream(right)


def _trios(
    plain: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool
) -> trio.SSLStream[trio.SocketStream]:
    return trio.SSLStream(plain, context, server_side=server_side, https_compatible=True)


@asynccontextmanager
async def _pair(
    certificates: Certificates, *, client: Callable[..., trio.abc.Stream], server: Callable[..., trio.abc.Stream]
) -> AsyncIterator[Streams]:
    left, right = await _sockets()
    ours = client(left, Certificates.client("plane/1"), server_side=False)
    theirs = server(right, certificates.server, server_side=True)
    try:
        async with trio.open_nursery() as nursery:
            for stream in (ours, theirs):
                nursery.start_soon(stream.do_handshake)  # type: ignore[attr-defined]
        yield ours, theirs
    finally:
        await trio.aclose_forcefully(ours)
        await trio.aclose_forcefully(theirs)


KINDS = [(TlsStream, TlsStream), (TlsStream, _trios), (_trios, TlsStream)]


@pytest.mark.parametrize(("client", "server"), KINDS)
async def test_both_directions_at_once_carry_every_byte(
    certificates: Certificates, client: Callable[..., trio.abc.Stream], server: Callable[..., trio.abc.Stream]
) -> None:
    up, down = bytes(range(256)) * 16_384, bytes(reversed(range(256))) * 8_192 + b"end"
    async with _pair(certificates, client=client, server=server) as (left, right):
        got: dict[str, bytes] = {}

        async def receive(name: str, stream: trio.abc.Stream, size: int) -> None:
            view, at = uninitialised(size), 0
            while at < size:
                at += (taken := await receive_into(stream, view[at : at + 700_001]))
                assert taken
            got[name] = bytes(view)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(left.send_all, up)
                nursery.start_soon(right.send_all, memoryview(bytearray(down)))
                nursery.start_soon(receive, "up", right, len(up))
                nursery.start_soon(receive, "down", left, len(down))
    assert got == {"up": up, "down": down}


async def test_a_receive_takes_all_records_that_are_here(certificates: Certificates) -> None:
    async with _pair(certificates, client=TlsStream, server=TlsStream) as (left, right):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, bytes(100_000))
            view = uninitialised(RECEIVE_BYTES)
            taken: list[int] = []
            while sum(taken) < 100_000:
                taken.append(await receive_into(right, view))
        assert len(taken) < 5  # trio's own would need seven: one for each record


async def test_alpn_and_certificate_are_told(certificates: Certificates) -> None:
    async with _pair(certificates, client=TlsStream, server=TlsStream) as (left, right):
        assert isinstance(left, TlsStream)
        assert isinstance(right, TlsStream)
        assert left.selected_alpn_protocol() == right.selected_alpn_protocol() == "plane/1"
        assert left.peer_certificate()
        assert right.peer_certificate() == b""


@pytest.mark.parametrize("farewell", [True, False])
async def test_the_end_is_told_with_and_without_a_farewell(certificates: Certificates, *, farewell: bool) -> None:
    async with _pair(certificates, client=TlsStream, server=TlsStream) as (left, right):
        await left.send_all(b"last words")
        if farewell:
            await left.aclose()
        else:
            await trio.aclose_forcefully(left)
        view = uninitialised(100)
        assert bytes(view[: await receive_into(right, view)]) == b"last words"
        assert await receive_into(right, view) == 0
        assert await receive_into(right, view) == 0
        assert await right.receive_some(10) == b""


async def test_nonsense_instead_of_records_breaks_the_connection(certificates: Certificates) -> None:
    async with _pair(certificates, client=TlsStream, server=TlsStream) as (left, right):
        assert isinstance(left, TlsStream)
        await left.transport_stream.send_all(b"GET / HTTP/1.0\r\n\r\n" * 10)
        with pytest.raises(trio.BrokenResourceError):
            await receive_into(right, uninitialised(10))


async def test_a_flipped_bit_on_the_way_is_noticed(certificates: Certificates) -> None:
    left, middle_left = await _sockets()
    middle_right, right = await _sockets()
    ours = TlsStream(left, Certificates.client("plane/1"))
    theirs = TlsStream(right, certificates.server, server_side=True)
    spoil = False

    async def carry(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for piece in source:
            await target.send_all(piece[:-1] + bytes([piece[-1] ^ 1]) if spoil else piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, middle_left, middle_right)
        nursery.start_soon(carry, middle_right, middle_left)
        async with trio.open_nursery() as shaking:
            shaking.start_soon(ours.do_handshake)
            shaking.start_soon(theirs.do_handshake)
        spoil = True
        await ours.send_all(b"x" * 1000)
        with pytest.raises(trio.BrokenResourceError, match="TLS"):
            await receive_into(theirs, uninitialised(1000))
        nursery.cancel_scope.cancel()
    for stream in (ours, theirs, middle_left, middle_right):
        await trio.aclose_forcefully(stream)


async def test_a_peer_that_hangs_up_during_the_handshake(certificates: Certificates) -> None:
    left, right = await _sockets()
    stream = TlsStream(left, certificates.server, server_side=True)
    await right.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
    await stream.aclose()


async def test_a_closed_stream_says_so(certificates: Certificates) -> None:
    async with _pair(certificates, client=TlsStream, server=TlsStream) as (left, _right):
        await left.aclose()
        await left.aclose()
        with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
            await left.send_all(b"too late")


async def test_cancelled_receiving_loses_nothing(certificates: Certificates) -> None:
    async with _pair(certificates, client=TlsStream, server=TlsStream) as (left, right):
        view = uninitialised(10)
        with trio.CancelScope() as scope:
            scope.cancel()
            await receive_into(right, view)
        assert scope.cancelled_caught
        await left.send_all(b"0123456789")
        assert await receive_into(right, view) == 10
        assert bytes(view) == b"0123456789"


def test_the_stream_is_what_its_users_expect(tmp_path: Path) -> None:
    assert issubclass(TlsStream, trio.abc.Stream)
    assert Certificates.make(tmp_path).server.minimum_version == ssl.TLSVersion.TLSv1_3
