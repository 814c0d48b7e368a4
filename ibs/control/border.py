"""The outermost ASGI layer: bodies wait until somebody wants them, and no exception leaves unanswered or unlogged.

Used by `control.app`. Quart takes a body into memory as it comes in; here its first byte is handed over only when the
caller is known and the route asks for it (`open_body`), so that an unknown sender fills nothing but socket buffers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import trio

from ibs.log import get_logger
from ibs.wire.common import ErrorBody

Asgi = Callable[..., Awaitable[None]]
Scope = MutableMapping[str, Any]

_BODY = "ibs.body"
_log = get_logger("api")


def internal_error() -> ErrorBody:
    """What a caller is told of a defect; the log has the rest."""
    return ErrorBody(code="error", message="internal error; the api log has the details")


def open_body(scope: Scope) -> None:
    """Let the request's body in."""
    gate: trio.Event | None = scope.get(_BODY)
    if gate is not None:
        gate.set()


class Border:
    """An ASGI wrapper for HTTP requests only."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any, *rest: Any) -> None:
        if scope["type"] != "http":
            return  # nothing else is spoken here
        gate = scope[_BODY] = trio.Event()
        started = False

        async def receive_wanted() -> Any:
            await gate.wait()
            return await receive()

        async def watched_send(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                gate.set()  # what still comes is thrown away, and a disconnect is noticed
            await send(message)

        try:
            await self._app(scope, receive_wanted, watched_send, *rest)
        except trio.Cancelled:
            raise
        except BaseExceptionGroup as group:
            _cancelled, failures = group.split(trio.Cancelled)
            if failures is None or not isinstance(failures, Exception):
                raise
            await _tell(scope, send, failures, started=started)
        except Exception as error:  # noqa: BLE001 - the outermost border: logged whole, told in one sentence
            await _tell(scope, send, error, started=started)


async def _tell(scope: Scope, send: Any, error: Exception, *, started: bool) -> None:
    """Log it; answer it unless an answer has begun, which is then cut short so that the caller notices."""
    _log.error("request failed", method=scope["method"], path=scope["path"], exc_info=error)
    if started:
        return
    body = msgspec.json.encode(internal_error())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
