"""Counts requests in flight so that a stop waits for them. Used by `control.listener` only.

Hypercorn by itself cuts running requests when it is told to stop; this wrapper refuses new ones with 503 and
lets the stop go on when the last has been answered. Followed logs are not waited for: they last as long as a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from ibs.control.routing import NDJSON
from ibs.wire.common import ErrorBody

Asgi = Callable[..., Awaitable[None]]


class Drain:
    """An ASGI wrapper; `wait_empty` returns when no request is running any more."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._running = 0
        self._closing = False
        self._idle = trio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Requests being answered now, followed logs not counted."""
        return self._running

    def close(self) -> None:
        """Refuse new requests from now on."""
        self._closing = True

    async def wait_empty(self, seconds_max: float) -> bool:
        """True when the last request ended within `seconds_max`."""
        with trio.move_on_after(seconds_max):
            while self._running:
                await self._idle.wait()
        return self._running == 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any, *rest: Any) -> None:
        if self._closing:
            await _refuse(send)
            return
        counted = True
        self._enter()

        async def watched_send(message: dict[str, Any]) -> None:
            nonlocal counted
            if counted and message["type"] == "http.response.start" and _is_stream(message):
                counted = False
                self._leave()
            await send(message)

        try:
            await self._app(scope, receive, watched_send, *rest)
        finally:
            if counted:
                self._leave()

    def _enter(self) -> None:
        if self._running == 0:
            self._idle = trio.Event()
        self._running += 1

    def _leave(self) -> None:
        self._running -= 1
        if self._running == 0:
            self._idle.set()


def _is_stream(start: dict[str, Any]) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(NDJSON.encode()) for name, value in start["headers"]
    )


async def _refuse(send: Any) -> None:
    error = ErrorBody(code="unavailable", message="the server is stopping", hint="try again in a moment", retry="later")
    body = msgspec.json.encode(error)
    headers = [
        (b"retry-after", b"5"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
