"""A server as agents meet it, behind httpx's transport, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import trio

from ibs.client.agent.identity import AgentIdentity
from ibs.client.http import ApiClient
from ibs.errors import IbsError
from ibs.runtime.clock import LoopClock
from ibs.runtime.retry import Backoff
from ibs.wire.common import ErrorBody
from ibs.wire.hosts import AgentOrders

PIN = ":".join(["ab"] * 32)
ME = AgentIdentity(name="web01", server="b:8007", fingerprint=PIN, auth_id="agent-web01@ibs!agent", secret="s3cret")
Answer = Any
"""A struct, an error of ours, an httpx error, or an async function of the body that gives one."""


class FakeServer(httpx.AsyncBaseTransport):
    """Answers by path; `asked` holds paths and decoded bodies."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Answer] = {}
        self.orders: list[AgentOrders] = []
        self.times: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        body = msgspec.json.decode(await request.aread() or b"null")
        self.asked.append((path, body))
        self.times.append(trio.current_time())
        answer = self.answers.get(path)
        if callable(answer):
            made: Callable[[Any], Awaitable[Any]] = answer
            answer = await made(body)
        if isinstance(answer, IbsError):
            told = ErrorBody(code=answer.code, message=answer.message, hint=answer.hint, details=answer.details)
            return httpx.Response(answer.http_status, content=msgspec.json.encode(told))
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, content=b"" if answer is None else msgspec.json.encode(answer))

    def client(self, attempts: int = 1) -> ApiClient:
        return ApiClient(
            "https://b:8007",
            fingerprint=PIN,
            auth_id=ME.auth_id,
            secret=ME.secret,
            clock=LoopClock(),
            transport=self,
            backoff=Backoff(attempts=attempts, seconds_min=0.01, seconds_max=0.01),
        )

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body in self.asked if asked == path]
