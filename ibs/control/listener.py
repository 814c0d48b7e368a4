"""One port, one certificate, two planes: accept, shake hands, and hand the stream over by ALPN.

`http/1.1` (or no ALPN at all) goes to hypercorn's connection handler, any other name to the handler given for it.
Connections are capped in number before they cost anything; a handshake that dawdles is dropped. Used by
`control.server` only. Hypercorn's `TCPServer` and `WorkerContext` are not part of its documented interface,
so its version is pinned and `ibs_tests/unit/control/test_listener.py` proves that they still fit.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from ibs.control.drain import Drain
from ibs.core import limits

Stream = trio.SSLStream[trio.SocketStream]
PlaneHandler = Callable[[Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens; port 0 takes a free one."""

    host: str
    port: int


class Listener:
    """Serves an ASGI app and other planes on one TLS port until cancelled or told to stop."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        context: ssl.SSLContext,
        *,
        planes: Mapping[str, PlaneHandler] | None = None,
        on_refused: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self.drain = Drain(app)
        self._tls = context
        self._planes = dict(planes or {})
        self._on_refused = on_refused
        self._connections = 0
        self._handshaking = 0
        self._config = Config()
        self._config.graceful_timeout = 0.5
        self._config.keep_alive_timeout = 60
        self._config.keep_alive_max_requests = 1_000_000
        self._config.include_server_header = False
        self._config.errorlog = None
        self._config.h11_max_incomplete_size = 64 * limits.KIB

    @property
    def connections(self) -> int:
        """Open connections, handshakes included."""
        return self._connections

    async def serve(
        self,
        address: Address,
        *,
        stop: trio.Event,
        grace_seconds: float = 10.0,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until `stop`; then refuse new requests, wait for running ones, and close.

        `task_status` gets the bound address. *Cancellation*: closes all connections at once.
        Raises OSError when the address cannot be bound.
        """
        listeners = await trio.open_tcp_listeners(address.port, host=address.host)
        bound = listeners[0].socket.getsockname()
        worker = WorkerContext(None)
        # The owner of every connection task: they end with this call, and never outlive the server.
        async with trio.open_nursery() as connections:  # noqa: TID251 - see above
            async with trio.open_nursery() as accepting:  # noqa: TID251 - stops accepting before connections end
                for listener in listeners:
                    accepting.start_soon(self._accept, listener, connections, worker)
                task_status.started(Address(bound[0], bound[1]))
                await stop.wait()
                self.drain.close()
                accepting.cancel_scope.cancel()
            await self.drain.wait_empty(grace_seconds)
            await worker.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + self._config.graceful_timeout

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery, worker: WorkerContext) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # out of descriptors: let running connections free some
                    self._on_refused(f"accept failed: {error}")
                    await trio.sleep(0.1)
                    continue
                busy = self._connections >= limits.CONNECTIONS_MAX
                if busy or self._handshaking >= limits.UNAUTHENTICATED_CONNECTIONS_MAX:
                    self._on_refused("too many connections")
                    await trio.aclose_forcefully(stream)
                    continue
                self._connections += 1
                nursery.start_soon(self._connection, stream, worker)

    async def _connection(self, stream: trio.SocketStream, worker: WorkerContext) -> None:
        secure: Stream = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        try:
            if await self._handshake(secure):
                plane = self._planes.get(secure.selected_alpn_protocol() or "")
                if plane is not None:
                    await plane(secure)
                else:
                    state: Any = {}
                    await TCPServer(ASGIWrapper(cast(Any, self.drain)), self._config, worker, state, secure)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the peer went away; whoever served it has cleaned up
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(secure)

    async def _handshake(self, secure: Stream) -> bool:
        self._handshaking += 1
        try:
            with trio.move_on_after(limits.TLS_HANDSHAKE_SECONDS_MAX):
                await secure.do_handshake()
                return True
            return False
        except (trio.BrokenResourceError, ssl.SSLError):
            return False
        finally:
            self._handshaking -= 1
