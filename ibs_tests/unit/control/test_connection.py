"""HTTP/1.1 and nothing else on a connection, with an end to everything a peer can draw out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.trio.worker_context import WorkerContext

from ibs.control.connection import HttpConnection, http_config
from ibs.control.peer import Peer
from ibs.core import limits
from ibs_tests.support.control import raw_request, read_all

Client = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class App:
    """Answers with what it was asked for; `behave` may do something else."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.cancelled = 0
        self.behave: Callable[..., Awaitable[None]] = self.echo

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        try:
            await self.behave(scope, receive, send)
        except trio.Cancelled:
            self.cancelled += 1
            raise

    async def echo(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        answer = json.dumps([scope["method"], scope["path"], scope["raw_path"].decode()]).encode()
        await self.answer(send, answer)

    @staticmethod
    async def answer(send: Any, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class CountingPeer(Peer):
    """Knows how much was received."""

    taken = 0

    async def receive_some(self, bytes_max: int) -> bytes | bytearray:
        data = await super().receive_some(bytes_max)
        CountingPeer.taken += len(data)
        return data


@asynccontextmanager
async def connected(app: Any) -> AsyncIterator[tuple[Client, trio.Event]]:
    """A client's end of a connection that `app` answers, and what is set when the connection has ended."""
    client, server = trio.testing.memory_stream_pair()
    ended = trio.Event()

    async def serve() -> None:
        peer = CountingPeer(server, "1.2.3.4")
        await HttpConnection(app, http_config(), WorkerContext(None), peer, ("h", 1)).serve()
        await trio.aclose_forcefully(server)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield client, ended  # type: ignore[misc]
        nursery.cancel_scope.cancel()


async def one_answer(client: Client) -> tuple[int, bytes]:
    """Status and body of one answer that has a length."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = await client.receive_some()
        assert piece, got
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += await client.receive_some()
    return int(head.split(b" ")[1]), body


async def test_requests_one_after_the_other() -> None:
    app = App()
    async with connected(app) as (client, _ended):
        for number in range(3):
            await client.send_all(raw_request("GET", f"/a%20b/{number}?q=1"))
            status, body = await one_answer(client)
            assert (status, json.loads(body)) == (200, ["GET", f"/a b/{number}", f"/a%20b/{number}"])
    assert app.scopes[0]["client"][0] == "1.2.3.4"
    assert app.scopes[0]["scheme"] == "https"
    assert isinstance(app.scopes[0]["state"]["peer"], Peer)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with connected(App()) as (client, _ended):
        await client.send_all(raw_request("GET", "/1") + raw_request("GET", "/2"))
        answers = [await one_answer(client) for _ in range(2)]
    assert [json.loads(body)[1] for _status, body in answers] == ["/1", "/2"]


async def test_a_large_body_goes_in_whole() -> None:
    app = App()
    body = bytes(range(256)) * 8192
    async with connected(app) as (client, _ended):
        await client.send_all(raw_request("PUT", "/x", f"Content-Length: {len(body)}", body=body))
        assert (await one_answer(client))[0] == 200
    assert [len(one) for one in app.bodies] == [len(body)]


@pytest.mark.parametrize(
    "headers",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
    ],
)
async def test_no_header_changes_the_protocol(headers: tuple[str, ...]) -> None:
    app = App()
    async with connected(app) as (client, _ended):
        await client.send_all(raw_request("GET", "/x", *headers))
        assert await one_answer(client) == (200, b'["GET", "/x", "/x"]')
    assert app.scopes[0]["type"] == "http"


async def test_http_2_with_prior_knowledge_is_no_protocol_here() -> None:
    app = App()
    async with connected(app) as (client, _ended):
        await client.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        answer = await read_all(client)
    assert answer.startswith(b"HTTP/1.1 ")
    assert b"SETTINGS" not in answer


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("https://other.example/x?y", "/x"),
        ("HTTP://other.example", "/"),
        ("*", "/*"),
        ("x", "/x"),
        ("?x", "/"),
        ("https://[::1", "/"),
    ],
)
async def test_every_target_has_a_path(target: str, path: str) -> None:
    async with connected(App()) as (client, _ended):
        await client.send_all(raw_request("GET", target))
        assert json.loads((await one_answer(client))[1])[1] == path


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * (limits.HTTP_HEAD_BYTES_MAX + 100),
    ],
)
async def test_what_is_no_http_is_told_so_and_ends(sent: bytes, autojump_clock: trio.testing.MockClock) -> None:
    app = App()
    async with connected(app) as (client, ended):
        await client.send_all(sent)
        answer = await read_all(client)
        if answer:
            assert answer.split(b" ")[1] in {b"400", b"431", b"200"}
        await ended.wait()


@pytest.mark.parametrize(
    ("head", "status", "said"),
    [
        (b"A: " + b"b" * (limits.HTTP_HEAD_BYTES_MAX + 100), b"431", "the request's head is larger than"),
        (b"Bad header\r\n\r\n", b"400", "the request is not valid HTTP"),
    ],
)
async def test_what_is_refused_before_a_route_is_told_as_json_too(head: bytes, status: bytes, said: str) -> None:
    async with connected(App()) as (client, _ended):
        await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n" + head)
        told, _, body = (await read_all(client)).partition(b"\r\n\r\n")
    assert told.split(b" ")[1] == status
    assert b"content-type: application/json" in told
    error = json.loads(body)
    assert error["message"].startswith(said)
    assert error["hint"]


async def test_http_1_0_is_answered_and_closed() -> None:
    async with connected(App()) as (client, ended):
        await client.send_all(b"GET /old HTTP/1.0\r\n\r\n")
        assert b"/old" in await read_all(client)
        await ended.wait()


async def test_a_head_sent_byte_by_byte_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    """One byte a second is not silence, and yet no way to keep a connection."""
    async with connected(App()) as (client, ended):
        begin = trio.current_time()
        try:
            for byte in raw_request("GET", "/x", *(f"Header-{n}: x" for n in range(100))):
                await client.send_all(bytes([byte]))
                await trio.sleep(1)
        except trio.BrokenResourceError:
            pass
        await ended.wait()
        assert trio.current_time() - begin <= limits.HTTP_IDLE_SECONDS_MAX + 1


async def test_silence_between_requests_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(App()) as (client, ended):
        await trio.sleep(limits.HTTP_IDLE_SECONDS_MAX - 1)
        await client.send_all(raw_request("GET", "/x"))
        assert (await one_answer(client))[0] == 200
        begin = trio.current_time()
        assert await client.receive_some() == b""
        await ended.wait()
        assert trio.current_time() - begin == pytest.approx(limits.HTTP_IDLE_SECONDS_MAX)


async def test_a_long_answer_is_not_silence(autojump_clock: trio.testing.MockClock) -> None:
    app = App()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await trio.sleep(10 * limits.HTTP_IDLE_SECONDS_MAX)
        await app.answer(send, b"done")

    app.behave = slow
    async with connected(app) as (client, _ended):
        await client.send_all(raw_request("GET", "/x"))
        assert await one_answer(client) == (200, b"done")


async def test_an_early_answer_is_read_before_the_end(autojump_clock: trio.testing.MockClock) -> None:
    """A body that nobody wants is taken for a moment, so that the answer is not lost with a reset."""
    app = App()

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await app.answer(send, b"no")

    app.behave = refuse
    async with connected(app) as (client, ended):
        await client.send_all(raw_request("PUT", "/x", "Content-Length: 1000000", body=bytes(500_000)))
        status, body = await one_answer(client)
        assert (status, body) == (200, b"no")
        assert await client.receive_some() == b""
        await client.send_all(bytes(500_000))
        assert not ended.is_set()
        await trio.sleep(limits.HTTP_LINGER_SECONDS_MAX * 2)
        assert ended.is_set()


async def test_an_unwanted_body_is_not_taken_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    app = App()

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await app.answer(send, b"no")

    app.behave = refuse
    CountingPeer.taken = 0
    async with connected(app) as (client, ended):
        await client.send_all(raw_request("PUT", "/x", "Content-Length: 1000000000"))
        assert (await one_answer(client))[0] == 200
        await client.send_all(bytes(2 * limits.HTTP_LINGER_BYTES_MAX))
        await ended.wait()
    assert limits.HTTP_LINGER_BYTES_MAX <= CountingPeer.taken <= limits.HTTP_LINGER_BYTES_MAX + (1 << 18)


async def test_an_app_that_never_reads_does_not_keep_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    app = App()

    async def deaf(_scope: Any, _receive: Any, send: Any) -> None:
        await trio.sleep(1)
        await app.answer(send, b"late")

    app.behave = deaf
    async with connected(app) as (client, ended):
        await client.send_all(raw_request("PUT", "/x", "Content-Length: 3000000", body=bytes(2_000_000)))
        assert await one_answer(client) == (200, b"late")
        await ended.wait()


async def test_a_peer_that_leaves_ends_the_work_for_it() -> None:
    app = App()

    async def endless(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        app.cancelled += 1

    app.behave = endless
    async with connected(app) as (client, ended):
        await client.send_all(raw_request("GET", "/x"))
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
        with trio.fail_after(5):
            await ended.wait()
    assert app.cancelled == 1


async def test_a_peer_that_reads_nothing_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    app = App()
    client, server = trio.testing.lockstep_stream_pair()

    async def serve() -> None:
        peer = Peer(server, "1.2.3.4")
        await HttpConnection(app, http_config(), WorkerContext(None), peer, ("h", 1)).serve()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await client.send_all(raw_request("GET", "/x"))
        begin = trio.current_time()
    assert trio.current_time() - begin == pytest.approx(limits.SEND_PIECE_SECONDS_MAX)
