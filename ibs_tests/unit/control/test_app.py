"""The guard around every route, over real TLS: who, then what, then the handler; every answer in one form."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from ibs.control.app import create_app
from ibs.control.routing import NDJSON, OCTETS, OPEN, Call, Octets, Query, Route, Routes, authenticated, needs
from ibs.core.access import Privilege
from ibs.errors import BusyError, ConflictError, NoSpace, NotAuthorised
from ibs.wire.common import ErrorBody, Ping, Wire
from ibs_tests.support.control import Certificates, FakeContext, Served, raw_request, read_all, serving

SMALL = 1000
ANYBODY = authenticated("anybody")


class Thing(Wire, frozen=True, kw_only=True):
    text: str = ""


class Handlers:
    """Routes of every form, and what reached them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failure: BaseException | None = None
        self.next_line = trio.Event()
        routes = Routes("test")

        @routes.route("GET", "/open", access=OPEN, answer=Ping)
        async def open_(call: Call) -> Ping:
            """Open."""
            self.note(call)
            return Ping(product="p", version="v", api="v1")

        @routes.route(
            "GET", "/guarded/{name}", access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{name}"), answer=Thing
        )
        async def guarded(call: Call) -> Thing:
            """Guarded."""
            self.note(call)
            return Thing(text=call.path["name"])

        @routes.route("POST", "/json", access=ANYBODY, body=Thing, answer=Thing, status=201, query=[Query("q")])
        async def json_(call: Call) -> Thing:
            """JSON in and out."""
            self.note(call)
            return Thing(text=call.body.text)

        @routes.route("PUT", "/octets", access=ANYBODY, body=OCTETS, answer=None, body_bytes_max=SMALL)
        async def octets(call: Call) -> None:
            """Octets in, nothing out."""
            self.note(call)

        @routes.route("POST", "/nothing", access=ANYBODY, answer=None)
        async def nothing(call: Call) -> None:
            """Nothing in, nothing out."""
            self.note(call)

        @routes.route("GET", "/download", access=ANYBODY, answer=OCTETS)
        async def download(call: Call) -> Octets:
            """Octets in parts."""
            self.note(call)
            return Octets(self.parts())

        @routes.route("GET", "/whole", access=ANYBODY, answer=OCTETS)
        async def whole(call: Call) -> memoryview:
            """Octets at once."""
            self.note(call)
            return memoryview(b"whole")

        @routes.route("GET", "/lines", access=ANYBODY, answer=NDJSON)
        async def lines(call: Call) -> AsyncIterator[Thing]:
            """Lines as they come."""
            self.note(call)
            return self.lines()

        self.routes: list[Route] = list(routes)

    def note(self, call: Call) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure

    async def parts(self) -> AsyncIterator[bytes]:
        for part in (b"one", b"two"):
            await trio.lowlevel.checkpoint()
            yield part
        if self.failure is not None:
            raise self.failure

    async def lines(self) -> AsyncIterator[Thing]:
        yield Thing(text="first")
        await self.next_line.wait()
        yield Thing(text="second")


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


@pytest.fixture
async def served(handlers: Handlers, context: FakeContext, certificates: Certificates) -> AsyncIterator[Served]:
    async with serving(create_app(context, handlers.routes), certificates) as running:  # type: ignore[arg-type]
        yield running


def error_of(response: Any, status: int, code: str) -> ErrorBody:
    """The answer is an error of ours in its one form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = msgspec.json.decode(response.content, type=ErrorBody)
    assert body.code == code
    assert body.message
    return body


async def test_an_open_route_needs_nobody(served: Served, handlers: Handlers) -> None:
    async with served.http() as http:
        assert (await http.get("/open")).json() == {"product": "p", "version": "v", "api": "v1"}
        assert (await http.get("/openapi.json")).json()["openapi"] == "3.1.0"
    assert handlers.calls[0].principal.auth_id == ""


@pytest.mark.parametrize("credential", ["", "a@ibs!t:wrong", "nonsense"])
async def test_without_a_good_credential_nothing_is_reached(
    served: Served, handlers: Handlers, context: FakeContext, credential: str
) -> None:
    context.access.token("a@ibs!t")
    async with served.http(credential) as http:
        for route in handlers.routes:
            if not route.access.open:
                answer = await http.request(route.method, route.path.replace("{name}", "x"))
                error_of(answer, 401, "not-authenticated")
                assert answer.headers["www-authenticate"] == "Bearer"
    assert handlers.calls == []


async def test_a_missing_right_is_named(served: Served, handlers: Handlers, context: FakeContext) -> None:
    async with served.http(context.access.grant("a@ibs!t", "Datastore.Audit", "/datastore/mine")) as http:
        assert (await http.get("/guarded/mine")).json() == {"text": "mine"}
        body = error_of(await http.get("/guarded/other"), 403, "not-authorised")
    assert body.message == "not authorised: a@ibs!t lacks role Datastore.Audit on /datastore/other"
    assert body.details == {"auth_id": "a@ibs!t", "role": "Datastore.Audit", "path": "/datastore/other"}
    assert len(handlers.calls) == 1


async def test_no_byte_of_a_body_is_taken_before_the_caller_is_known(opened: AsyncExitStack, served: Served) -> None:
    """Of 100 MB that a stranger sends, no more than the socket's buffers are taken; then the answer comes."""
    stream = await opened.enter_async_context(served.raw())
    await stream.send_all(raw_request("PUT", "/api/v1/octets", "Content-Length: 100000000"))
    sent = 0
    with trio.fail_after(30):
        try:
            while sent < 100_000_000:
                await stream.send_all(bytes(100_000))
                sent += 100_000
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    assert sent < 40_000_000


async def test_a_stranger_with_a_large_body_reads_its_401(served: Served) -> None:
    """The connection is not reset before the answer was read."""
    for _ in range(10):
        async with served.http("nobody@ibs!t:x") as http:
            error_of(await http.put("/octets", content=bytes(4_000_000)), 401, "not-authenticated")


async def test_a_rights_question_comes_before_the_body(context: FakeContext, certificates: Certificates) -> None:
    """A malformed body of somebody without rights is answered with 403, not with advice on its form."""

    routes = Routes("test")

    @routes.route("POST", "/guarded", access=needs(Privilege.SYSTEM_MODIFY, "/system"), body=Thing, answer=None)
    async def guarded(_call: Call) -> None:
        """Guarded."""

    user = context.access.token("a@ibs!t")
    app = create_app(context, routes)  # type: ignore[arg-type]
    async with serving(app, certificates) as other, other.http(user) as http:
        error_of(await http.post("/guarded", content=b"{"), 403, "not-authorised")


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """Closes what a test opened, whatever comes of it."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def user(context: FakeContext) -> str:
    return context.access.token("a@ibs!t")


async def test_json_in_and_out(served: Served, handlers: Handlers, user: str) -> None:
    async with served.http(user) as http:
        answer = await http.post("/json?q=%C3%BC", json={"text": "hello"})
        assert (answer.status_code, answer.json()) == (201, {"text": "hello"})
        assert answer.headers["content-type"] == "application/json"
        call = handlers.calls[0]
        assert (call.principal.auth_id, call.query, call.peer) == ("a@ibs!t", {"q": "ü"}, "127.0.0.1")
        assert (await http.post("/json")).json() == {"text": ""}
        error_of(await http.post("/json", content=b"{"), 400, "usage")
        error_of(await http.post("/json", content=b'{"text": 5}'), 400, "usage")
        error_of(await http.post("/json?q=1&q=2", json={}), 400, "usage")
        error_of(await http.post("/json?unknown=1", json={}), 400, "usage")


async def test_other_answers(served: Served, user: str) -> None:
    async with served.http(user) as http:
        empty = await http.post("/nothing")
        assert (empty.status_code, empty.content) == (204, b"")
        download = await http.get("/download")
        assert (download.content, download.headers["content-type"]) == (b"onetwo", OCTETS)
        assert (await http.get("/whole")).content == b"whole"


async def test_a_body_may_be_exactly_as_large_as_allowed(served: Served, handlers: Handlers, user: str) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(100)

    async with served.http(user) as http:
        assert (await http.put("/octets", content=bytes(SMALL))).status_code == 204
        assert (await http.put("/octets", content=pieces(SMALL // 100))).status_code == 204
        assert (await http.put("/octets", content=b"")).status_code == 204
        assert [len(call.body) for call in handlers.calls] == [SMALL, SMALL, 0]
        error_of(await http.put("/octets", content=bytes(SMALL + 1)), 400, "usage")
        error_of(await http.put("/octets", content=pieces(SMALL // 100 + 1)), 400, "usage")
        error_of(await http.put("/octets", content=pieces(5_000)), 400, "usage")
        error_of(await http.post("/nothing", content=b"x"), 400, "usage")
    assert len(handlers.calls) == 3


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (("Content-Length: 10", "Content-Length: 11"), b"x" * 10),
        (("Content-Length: -1",), b"x"),
        (("Content-Length: ten",), b"x"),
        (("Content-Length: 99999999999999999999999999",), b"x"),
        (("Content-Length: 5", "Transfer-Encoding: chunked"), b"zz\r\n"),
        (("Transfer-Encoding: chunked",), b"ffffffffffffffffffffff\r\n"),
        (("Transfer-Encoding: chunked",), b"-5\r\nhello"),
        (("Transfer-Encoding: gzip, chunked",), b"x"),
    ],
)
async def test_a_lying_length_ends_the_connection_and_nothing_else(
    opened: AsyncExitStack, served: Served, handlers: Handlers, user: str, head: tuple[str, ...], body: bytes
) -> None:
    stream = await opened.enter_async_context(served.raw())
    authorization = f"Authorization: Bearer {user}"
    await stream.send_all(raw_request("PUT", "/api/v1/octets", authorization, *head, body=body))
    with trio.fail_after(30):
        answer = await read_all(stream)
    assert answer.split(b" ", 2)[1] in {b"400", b"501"}
    assert handlers.calls == []
    async with served.http(user) as http:
        assert (await http.put("/octets", content=b"x")).status_code == 204


async def test_a_body_cut_short_reaches_no_handler(
    opened: AsyncExitStack, served: Served, handlers: Handlers, user: str
) -> None:
    stream = await opened.enter_async_context(served.raw())
    request = raw_request(
        "PUT", "/api/v1/octets", f"Authorization: Bearer {user}", "Content-Length: 100", body=b"x" * 50
    )
    await stream.send_all(request)
    async with served.http(user) as http:
        assert (await http.put("/octets", content=b"y")).status_code == 204
    assert [call.body for call in handlers.calls] == [b"y"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing-here", 404, "not-found"),
        ("GET", "/guarded", 404, "not-found"),
        ("GET", "/guarded/", 404, "not-found"),
        ("GET", "/guarded/a/b", 404, "not-found"),
        ("GET", "/guarded/a/", 404, "not-found"),
        ("GET", "//guarded/a", 404, "not-found"),
        ("GET", "/open/", 404, "not-found"),
        ("GET", "/guarded/a%00b", 404, "not-found"),
        ("GET", "/guarded/" + "x" * 1025, 404, "not-found"),
        ("GET", "/guarded/%ff%fe", 403, "not-authorised"),
        ("GET", "/guarded/..", 403, "not-authorised"),
        ("GET", "/guarded/%2e%2e%2fx", 404, "not-found"),
        ("DELETE", "/open", 405, "usage"),
        ("OPTIONS", "/open", 405, "usage"),
        ("TRACE", "/open", 405, "usage"),
        ("PATCH", "/json", 405, "usage"),
        ("BREW", "/open", 405, "usage"),
    ],
)
async def test_what_is_not_there_is_told_in_the_one_form(
    opened: AsyncExitStack, served: Served, user: str, method: str, path: str, status: int, code: str
) -> None:
    stream = await opened.enter_async_context(served.raw())
    await stream.send_all(raw_request(method, f"/api/v1{path}", f"Authorization: Bearer {user}", "Connection: close"))
    with trio.fail_after(30):
        head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
    assert int(head.split(b" ", 2)[1]) == status, head
    assert json.loads(body)["code"] == code
    assert b"location:" not in head.lower()
    if status == 405:
        assert b"\r\nallow: " in head.lower()


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (ConflictError("it is there", hint="take another name"), 409, None),
        (NoSpace("main", "bytes"), 507, None),
        (BusyError("full"), 503, "5"),
        (ExceptionGroup("", [ExceptionGroup("", [BusyError("full")])]), 503, "5"),
        (NotAuthorised("a@ibs", "Admin", "/"), 403, None),
    ],
)
async def test_errors_of_ours_keep_class_and_words(
    served: Served, handlers: Handlers, user: str, error: Exception, status: int, retry_after: str | None
) -> None:
    handlers.failure = error
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    async with served.http(user) as http:
        answer = await http.post("/nothing")
    body = error_of(answer, status, getattr(error, "code", ""))
    assert body.message == str(error)
    assert body.retry == str(getattr(error, "retry", ""))
    assert answer.headers.get("retry-after") == retry_after


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("the secret of the house"), ExceptionGroup("g", [KeyError("x"), ValueError("y")])]
)
async def test_a_defect_is_told_in_one_sentence_and_logged_whole(
    served: Served, handlers: Handlers, user: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    handlers.failure = error
    with caplog.at_level(logging.INFO, "ibs.api"):
        async with served.http(user) as http:
            answer = await http.post("/nothing")
            assert "secret" not in answer.text
            assert "Traceback" not in answer.text
            body = error_of(answer, 500, "error")
            assert body.message.startswith("internal error")
            handlers.failure = None
            assert (await http.post("/nothing")).status_code == 204
    assert "request failed" in caplog.text
    assert "Traceback" in caplog.text
    assert "the secret of the house" in caplog.text or "KeyError" in caplog.text


async def test_a_stream_that_fails_is_cut_short_and_logged(
    opened: AsyncExitStack, served: Served, handlers: Handlers, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served.http(user) as http:
        assert (await http.get("/whole")).content == b"whole"
    stream = await opened.enter_async_context(served.raw())
    request = raw_request("GET", "/api/v1/download", f"Authorization: Bearer {user}")

    async def failing() -> AsyncIterator[bytes]:
        yield b"one"
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    handlers.parts = failing  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, "ibs.api"), trio.fail_after(30):
        await stream.send_all(request)
        answer = await read_all(stream)
    assert b"one" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert "request failed" in caplog.text


async def test_lines_arrive_one_by_one(served: Served, handlers: Handlers, user: str) -> None:
    async with served.http(user) as http, http.stream("GET", "/lines") as answer:
        assert answer.headers["content-type"] == NDJSON
        lines = answer.aiter_lines()
        with trio.fail_after(30):
            assert json.loads(await anext(lines)) == {"text": "first"}
            handlers.next_line.set()
            assert json.loads(await anext(lines)) == {"text": "second"}
            with pytest.raises(StopAsyncIteration):
                await anext(lines)


async def test_a_handler_ends_when_its_caller_has_gone(
    served: Served, handlers: Handlers, user: str, context: FakeContext
) -> None:
    ended = trio.Event()

    async def endless() -> AsyncIterator[Thing]:
        try:
            yield Thing(text="first")
            await trio.sleep_forever()
        finally:
            ended.set()

    handlers.lines = endless  # type: ignore[method-assign]
    async with served.raw() as stream:
        await stream.send_all(raw_request("GET", "/api/v1/lines", f"Authorization: Bearer {user}"))
        assert b"200" in await stream.receive_some(4096)
    with trio.fail_after(30):
        await ended.wait()


async def test_a_head_request_has_no_body(served: Served, user: str) -> None:
    async with served.http(user) as http:
        answer = await http.head("/whole")
        assert (answer.status_code, answer.content) == (200, b"")
    async with served.http() as http:
        assert (await http.head("/whole")).status_code == 401


async def test_the_peer_address_cannot_be_forged(served: Served, handlers: Handlers, user: str) -> None:
    forged = {"Remote-Addr": "1.2.3.4", "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4"}
    async with served.http(user) as http:
        await http.post("/nothing", headers=forged)
    assert handlers.calls[0].peer == "127.0.0.1"


async def test_a_slow_body_is_given_up(
    opened: AsyncExitStack, served: Served, handlers: Handlers, user: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ibs.core.limits.BODY_STALL_SECONDS_MAX", 0.05)
    stream = await opened.enter_async_context(served.raw())
    request = raw_request("PUT", "/api/v1/octets", f"Authorization: Bearer {user}", "Content-Length: 100", body=b"x")
    await stream.send_all(request)
    with trio.fail_after(30):
        answer = await read_all(stream)
    assert b" 400 " in answer.split(b"\r\n", 1)[0] + b" "
    assert b"did not arrive in time" in answer
    assert handlers.calls == []
