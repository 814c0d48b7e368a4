"""HTTP/1.1 on one connection: hypercorn's protocol engine with our bounds around it. Used by `control.listener` only.

Hypercorn's own connection handler sends without a deadline and shielded from cancellation, changes to HTTP/2 or
WebSocket when a header asks for it, and resets a connection whose request body it does not want, which can take
the answer with it. Here a send has an end, there is one protocol, and a refused sender is listened to for a moment.
`H11Protocol` is not part of hypercorn's documented interface, so its version is pinned and
`ibs_tests/unit/control/test_connection.py` proves that it still fits.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import Any, cast

import h11
import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, H11SendableEvent

from ibs.control.peer import Peer
from ibs.core import limits
from ibs.wire.common import ErrorBody

_RECEIVE_BYTES = 1 << 16
_HEAD_TOO_LARGE = 431
_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


def http_config() -> Config:
    """Hypercorn's settings for every connection."""
    config = Config()
    config.include_server_header = False
    config.errorlog = None
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = limits.HTTP_HEAD_BYTES_MAX
    return config


class _Http11(H11Protocol):
    """HTTP/1.1 and nothing else: requests to upgrade are answered as if they had not asked."""

    _torn = False
    """A send was cut off: nothing that follows could be understood."""

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if self._torn:
            return
        try:
            await super()._send_h11_event(event)
        except BaseException:
            self._torn = True
            raise

    async def _send_error_response(self, status_code: int) -> None:
        """What is no request, or has too large a head, is told like everything else: in a sentence, as JSON."""
        message, hint = "the request is not valid HTTP", "see the API's description at /api/v1/openapi.json"
        if status_code == _HEAD_TOO_LARGE:
            message, hint = f"the request's head is larger than {limits.HTTP_HEAD_BYTES_MAX} bytes", "send less in it"
        body = msgspec.json.encode(ErrorBody(code="usage", message=message, hint=hint))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _check_protocol(self, event: h11.Request) -> None:
        """No change to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        kept = [(name, value) for name, value in request.headers if name != b"upgrade"]
        target = _AUTHORITY.sub(b"", request.target, count=1)
        if not target.startswith(b"/"):
            target = b"/" + target
        if len(kept) != len(request.headers) or target != request.target:
            request = h11.Request(method=request.method, target=target, headers=kept, http_version=request.http_version)
        await super()._create_stream(request)

    async def _close_stream(self) -> None:
        # The app is told; one that does not listen must not keep the connection.
        with trio.move_on_after(limits.HTTP_LINGER_SECONDS_MAX):
            await super()._close_stream()
        self.stream = None

    @property
    def peer_is_sending(self) -> bool:
        """Whether the peer is in the middle of a request, as far as it can be understood."""
        return self.connection.their_state in {h11.SEND_BODY, h11.ERROR}


class HttpConnection:
    """Serves requests of one peer, one after the other, to an ASGI app. `app` finds the peer in its scope's state."""

    def __init__(self, app: Any, config: Config, worker: WorkerContext, peer: Peer, server: tuple[str, int]) -> None:
        self._peer = peer
        self._app = ASGIWrapper(app)
        self._config = config
        self._worker = worker
        self._server = server
        self._protocol: _Http11
        self._sending = trio.Lock()
        self._scope = trio.CancelScope()
        self._ending = False
        self._lingering = False
        self._idle_until = math.inf
        self._patience = trio.CancelScope()

    async def serve(self) -> None:
        """Until the peer ends, is silent for HTTP_IDLE_SECONDS_MAX between requests, or breaks the protocol."""
        group = TaskGroup()
        # Hypercorn's task group is a nursery for the app's tasks: they end with the connection.
        with self._scope:
            async with group:
                self._protocol = _Http11(
                    self._app,
                    self._config,
                    cast(Any, self._worker),
                    cast(Any, group),
                    ConnectionState({"peer": self._peer}),
                    True,
                    (self._peer.address, 0),
                    self._server,
                    self._send,
                )
                self._now_idle()
                await self._receive()
                self._scope.cancel()

    def _now_idle(self) -> None:
        self._idle_until = trio.current_time() + limits.HTTP_IDLE_SECONDS_MAX
        self._patience.deadline = self._idle_until

    async def _receive(self) -> None:
        unwanted = 0
        while unwanted <= limits.HTTP_LINGER_BYTES_MAX:
            # The deadline moves while this waits: it holds between requests only, heads included.
            self._patience = trio.CancelScope(deadline=self._idle_until)
            data: bytes | bytearray = b""
            with self._patience, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                data = await self._peer.receive_some(_RECEIVE_BYTES)
            if self._ending:
                unwanted += len(data)
            else:
                await self._protocol.handle(RawData(bytes(data)))
            if not data or (self._ending and not self._lingering):
                break
        await self._protocol.handle(Closed())

    async def _send(self, event: Event) -> None:
        """What the protocol wants to happen to the connection."""
        if isinstance(event, RawData):
            try:
                async with self._sending:
                    await self._peer.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._scope.cancel()  # nobody is left to work for
        elif isinstance(event, Updated):
            if event.idle:
                self._now_idle()
            else:
                self._idle_until = self._patience.deadline = math.inf
        elif isinstance(event, Closed) and not self._ending:
            self._ending = True
            self._lingering = self._protocol.peer_is_sending
            if self._lingering:
                # Closing now would reset the connection, and the peer might never read the answer.
                self._scope.deadline = trio.current_time() + limits.HTTP_LINGER_SECONDS_MAX
                await self._peer.end_sending()
            else:
                self._patience.cancel()
