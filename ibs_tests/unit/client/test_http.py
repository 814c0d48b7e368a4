"""The HTTP client: what it sends, how it reads answers, what it repeats, and every failure as an error of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from ibs.client.http import ApiClient
from ibs.errors import BusyError, FailedError, FormatError, NotFoundError, ServerUnreachable
from ibs.runtime.retry import Backoff
from ibs.wire.common import ErrorBody, Ping
from ibs.wire.session import LogLine

FINGERPRINT = ":".join(["ab"] * 32)
PING = Ping(product="ironcore-backup", version="1", api="v1")
Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, **options: object) -> ApiClient:
    return ApiClient(
        "https://backup.example:8007",
        fingerprint=FINGERPRINT,
        auth_id="a@ibs!t",
        secret="s3cret",
        transport=httpx.MockTransport(handler),
        backoff=Backoff(attempts=3, seconds_min=0.001, seconds_max=0.001),
        **options,  # type: ignore[arg-type]
    )


def ok(value: object = PING) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(value))


async def test_a_request_carries_identity_path_and_body() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return ok()

    async with client(handler) as api:
        assert await api.get("/tasks/UPID:a%20b:x@ibs!t/log", Ping, params={"from": 3}) == PING
        assert await api.post("/x", Ping, LogLine(level="info", text="ü")) == PING
        await api.delete("/x")
        assert await api.octets("PUT", "/y", content=memoryview(b"\0\1")) == msgspec.json.encode(PING)
    assert str(seen[0].url) == "https://backup.example:8007/api/v1/tasks/UPID:a%2520b:x@ibs!t/log?from=3"
    assert {request.headers["authorization"] for request in seen} == {"Bearer a@ibs!t:s3cret"}
    assert msgspec.json.decode(seen[1].content) == {"level": "info", "text": "ü"}
    assert [request.method for request in seen] == ["GET", "POST", "DELETE", "PUT"]
    assert seen[3].content == b"\0\1"
    assert seen[3].headers["content-type"] == "application/octet-stream"


async def test_errors_keep_the_servers_words() -> None:
    told = ErrorBody(code="not-found", message="no such datastore", hint="list them", details={"store": "x"})

    async with client(lambda _: httpx.Response(404, content=msgspec.json.encode(told))) as api:
        with pytest.raises(NotFoundError, match="no such datastore") as caught:
            await api.get("/datastores/x", Ping)
    assert caught.value.hint == "list them"
    assert caught.value.details == {"store": "x"}


async def test_an_answer_that_is_not_ours_is_told_so() -> None:
    async with client(lambda _: httpx.Response(500, content=b"<html>proxy</html>")) as api:
        with pytest.raises(FailedError, match="the server answered 500"):
            await api.get("/x", Ping)
    async with client(lambda _: httpx.Response(200, content=b"{}")) as api:
        with pytest.raises(FormatError, match="not understood"):
            await api.get("/x", Ping)


class Broken:
    """Breaks the connection some times, then answers."""

    def __init__(self, times: int, error: type[httpx.TransportError] = httpx.ReadError) -> None:
        self.left = times
        self.error = error
        self.calls = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error("broke", request=request)
        return ok()


async def test_a_broken_connection_is_tried_again_only_where_that_is_harmless() -> None:
    broken = Broken(2)
    async with client(broken) as api:
        assert await api.get("/x", Ping) == PING
    assert broken.calls == 3
    once = Broken(1)
    async with client(once) as api:
        with pytest.raises(ServerUnreachable, match=r"backup\.example:8007 broke"):
            await api.post("/x", Ping)
    assert once.calls == 1
    always = Broken(9)
    async with client(always) as api:
        with pytest.raises(ServerUnreachable):
            await api.post("/x", Ping, repeat=True)
    assert always.calls == 3


async def test_a_server_never_reached_is_told_at_once_and_one_that_was_is_waited_for() -> None:
    refused = Broken(1, httpx.ConnectError)
    async with client(refused) as api:
        with pytest.raises(ServerUnreachable, match="cannot be reached"):
            await api.get("/x", Ping)
        assert refused.calls == 1
        assert await api.get("/x", Ping) == PING
        refused.left = 2
        assert await api.post("/x", Ping) == PING
    assert refused.calls == 5


async def test_busy_is_waited_for_where_repeating_is_harmless() -> None:
    busy = ErrorBody(code="busy", message="queue full", retry="later")
    answers = [httpx.Response(503, content=msgspec.json.encode(busy)), ok()]
    async with client(lambda _: answers.pop(0)) as api:
        assert await api.get("/x", Ping) == PING
    async with client(lambda _: httpx.Response(503, content=msgspec.json.encode(busy))) as api:
        with pytest.raises(BusyError, match="queue full"):
            await api.post("/x", Ping)


class Pieces(httpx.AsyncByteStream):
    """A body in pieces that may break."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        self.pieces = pieces
        self.broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await trio.lowlevel.checkpoint()
            yield piece
        if self.broken:
            raise httpx.ReadError("cut")


async def collect(items: AsyncIterator[Any], into: list[Any]) -> None:
    async for item in items:
        into.append(item)


async def test_lines_come_one_by_one() -> None:
    stream = Pieces(b'{"level":"info","text":"a"}\n{"lev', b'el":"error","text":"b\\n"}\n\n')
    async with client(lambda _: httpx.Response(200, stream=stream)) as api:
        assert [line async for line in api.lines("/log", LogLine)] == [
            LogLine(level="info", text="a"),
            LogLine(level="error", text="b\n"),
        ]


async def test_a_stream_that_breaks_or_is_refused_is_told() -> None:
    got: list[bytes] = []
    async with client(lambda _: httpx.Response(200, stream=Pieces(b"abc", broken=True))) as api:
        with pytest.raises(ServerUnreachable):
            await collect(api.stream("/octets"), got)
    assert got == [b"abc"]
    told = msgspec.json.encode(ErrorBody(code="not-found", message="no file"))
    async with client(lambda _: httpx.Response(404, content=told)) as api:
        with pytest.raises(NotFoundError, match="no file"):
            await collect(api.lines("/octets", LogLine), [])


async def test_cancelling_a_request_leaves_the_client_usable(tmp_path: Path) -> None:
    started = trio.Event()

    class Slow(httpx.AsyncBaseTransport):
        hang = True

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if self.hang:
                started.set()
                await trio.sleep_forever()
            return ok()

    slow = Slow()
    api = ApiClient("https://backup.example:8007", fingerprint=FINGERPRINT, auth_id="a@ibs", secret="s", transport=slow)
    async with api:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(api.get, "/x", Ping)
            await started.wait()
            nursery.cancel_scope.cancel()
        slow.hang = False
        assert await api.get("/x", Ping) == PING


def test_the_secret_is_not_shown() -> None:
    api = client(lambda _: ok())
    assert "s3cret" not in repr(api)
    assert api.authorization == "a@ibs!t:s3cret"
    assert (api.host, api.port) == ("backup.example", 8007)


async def test_a_coming_certificate_is_learned_kept_and_told_once() -> None:
    other = ":".join(["cd"] * 32)
    told, kept = [f"{FINGERPRINT},{other}"] * 2 + ["nonsense", other], list[str]()

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=msgspec.json.encode(PING), headers={"Ibs-Certificates": told.pop(0)})

    async with client(handler, learned=kept.append) as api:
        for _ in range(4):
            await api.get("/ping", Ping)
        assert str(api.pins) == other
    assert kept == [f"{FINGERPRINT},{other}", other]


async def test_a_fixed_pin_learns_nothing() -> None:
    other = ":".join(["cd"] * 32)

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=msgspec.json.encode(PING), headers={"Ibs-Certificates": other})

    async with client(handler) as api:
        await api.get("/ping", Ping)
        assert str(api.pins) == FINGERPRINT
