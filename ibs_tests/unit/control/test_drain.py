"""A stop waits for running requests, not for followed logs, and refuses new ones with words."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from ibs.control.drain import Drain
from ibs.control.routing import NDJSON


class Asked:
    """An app whose requests run until told to end, and what it was answered with."""

    def __init__(self, content_type: str = "application/json") -> None:
        self.go_on = trio.Event()
        self.sent: list[dict[str, Any]] = []
        self.drain = Drain(self.app)
        self._type = content_type.encode()

    async def app(self, _scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"Content-Type", self._type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def request(self) -> None:
        async def send(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            self.sent.append(message)

        await self.drain({"type": "http"}, None, send)


async def test_waits_for_the_last_request(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    asked = Asked()
    assert await asked.drain.wait_empty(0)
    nursery.start_soon(asked.request)
    nursery.start_soon(asked.request)
    await trio.testing.wait_all_tasks_blocked()
    assert asked.drain.running == 2
    assert not await asked.drain.wait_empty(5)
    asked.go_on.set()
    assert await asked.drain.wait_empty(5)
    assert asked.drain.running == 0
    nursery.start_soon(asked.request)
    await trio.testing.wait_all_tasks_blocked()
    assert await asked.drain.wait_empty(5)


async def test_new_requests_are_refused_with_words() -> None:
    asked = Asked()
    asked.drain.close()
    await asked.request()
    start, body = asked.sent
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"5"
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    told = json.loads(body["body"])
    assert (told["code"], told["retry"]) == ("unavailable", "later")


async def test_followed_logs_are_not_waited_for(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    asked = Asked(NDJSON)
    nursery.start_soon(asked.request)
    await trio.testing.wait_all_tasks_blocked()
    assert asked.drain.running == 0
    assert await asked.drain.wait_empty(0)
    asked.go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert asked.drain.running == 0


async def test_a_request_that_fails_or_is_cancelled_counts_no_more() -> None:
    async def failing(*_rest: Any) -> None:
        raise ZeroDivisionError

    drain = Drain(failing)
    with pytest.raises(ZeroDivisionError):
        await drain({"type": "http"}, None, None)
    assert drain.running == 0
    asked = Asked()
    with trio.move_on_after(0.01):
        await asked.request()
    assert asked.drain.running == 0
