"""The way to a datastore: what is sent comes back, and the session is always discarded."""

from __future__ import annotations

import re

import httpx
import msgspec
import pytest

from ibs.client.benchmark.server import Wish, measure_server
from ibs.client.http import ApiClient
from ibs.core import limits
from ibs.core.blob import split_blobs
from ibs.errors import IbsError
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.runtime.retry import Backoff
from ibs.wire.session import Received, SessionOpen, SessionOpened

WISH = Wish("main", "a/b", "host/benchmark-1", "me", 4 * limits.MIB, 60.0)
OPENED = SessionOpened(
    session_id="s1",
    upid="UPID:x",
    datastore_uuid="u",
    snapshot="host/benchmark-1/2026-11-22T19:00:00Z",
    sequence=1,
    previous_manifest_digest="",
    bases=[],
)


class Datastore:
    """A server without a data plane that holds what it is sent."""

    def __init__(self) -> None:
        self.chunks: dict[str, bytes] = {}
        self.opened: SessionOpen | None = None
        self.ended: list[str] = []
        self.failing: dict[str, int] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        if (failure := self.failing.get(f"{request.method} {path}")) is not None:
            body = {"code": "no-space", "message": "the datastore is full", "hint": "", "retry": "never"}
            return httpx.Response(failure, json=body)
        answer: object = None
        if path == "/ping":
            answer = {"pong": True}
        elif path == "/datastores/main/sessions":
            self.opened = msgspec.json.decode(request.content, type=SessionOpen)
            answer = OPENED
        elif path == "/sessions/s1/chunks":
            blobs = split_blobs(request.content)
            self.chunks.update({header.id.hex(): bytes(view) for header, view in blobs})
            answer = Received(received=len(blobs))
        elif match := re.fullmatch("/sessions/s1/chunks/([0-9a-f]{64})", path):
            return httpx.Response(200, content=self.chunks[match[1]])
        elif request.method == "DELETE":
            self.ended.append(str(request.url.query, "ascii"))
        return httpx.Response(200, content=msgspec.json.encode(answer)) if answer else httpx.Response(204)

    def api(self) -> ApiClient:
        return ApiClient(
            "https://127.0.0.1:1",  # nobody listens for the data plane
            fingerprint=":".join(["ab"] * 32),
            auth_id="a@ibs",
            secret="s",
            transport=httpx.MockTransport(self),
            backoff=Backoff(attempts=2, seconds_min=0.001, seconds_max=0.001),
        )


async def test_up_and_down_and_nothing_left() -> None:
    server = Datastore()
    async with server.api() as api:
        (up, down), round_trip, notes = await measure_server(api, WISH, pool=ThreadPool(), clock=SystemClock())
    assert len(server.chunks) == 4
    assert up.bytes == down.bytes == sum(map(len, server.chunks.values())) > WISH.size
    assert (up.part, down.part) == ("upload", "download")
    assert round_trip > 0
    assert server.opened == SessionOpen(
        store="main",
        group="host/benchmark-1",
        namespace="a/b",
        archives=["benchmark.tree"],
        use_base=False,
        client_version="me",
    )
    assert server.ended == ["reason=cancelled&discard=1"]
    assert "no snapshot was made" in notes[0]


async def test_no_two_runs_send_the_same() -> None:
    servers = [Datastore(), Datastore()]
    for server in servers:
        async with server.api() as api:
            await measure_server(api, WISH, pool=ThreadPool(), clock=SystemClock())
    assert not servers[0].chunks.keys() & servers[1].chunks.keys()


async def test_a_refusal_is_an_error_and_the_session_is_discarded() -> None:
    server = Datastore()
    server.failing["POST /sessions/s1/chunks"] = 507
    async with server.api() as api:
        with pytest.raises(IbsError, match="the datastore is full"):
            await measure_server(api, WISH, pool=ThreadPool(), clock=SystemClock())
    assert len(server.ended) == 1


async def test_a_session_that_cannot_be_discarded_is_told() -> None:
    server = Datastore()
    server.failing["DELETE /sessions/s1"] = 507
    async with server.api() as api:
        _, _, notes = await measure_server(api, WISH, pool=ThreadPool(), clock=SystemClock())
    assert "could not be discarded (the datastore is full)" in notes[0]
    assert "after a day" in notes[0]
