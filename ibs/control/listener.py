"""One port, one certificate, two planes: accept, shake hands, and hand the connection over by ALPN.

`http/1.1` (or no ALPN at all) goes to `control.connection`, any other name to the handler given for it. Used by
`control.server` only. Invariants: connections are capped in number before they cost anything, those that have not
proven who they are more tightly, by address too, and in time; nothing that happens in one connection ends another.
"""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio
from hypercorn.trio.worker_context import WorkerContext

from ibs.control.connection import HttpConnection, http_config
from ibs.control.drain import Drain
from ibs.control.peer import Peer
from ibs.core import limits
from ibs.log import get_logger
from ibs.runtime.tls import TlsStream

PlaneHandler = Callable[[Peer], Awaitable[None]]

_CLOSE_SECONDS = 0.5
_ACCEPT_AGAIN_SECONDS = 0.1
_REFUSED_REPORT_SECONDS = 10.0
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_log = get_logger("api")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens; port 0 takes a free one."""

    host: str
    port: int


class Listener:
    """Serves an ASGI app and other planes on one TLS port until cancelled or told to stop.

    `context` is asked for each connection, so that a new certificate is served without ending what runs. `on_refused`
    is told why connections were refused, at most every ten seconds, with their number.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        context: Callable[[], ssl.SSLContext],
        *,
        planes: Mapping[str, PlaneHandler] | None = None,
        on_refused: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self.drain = Drain(app)
        self._tls = context
        self._planes = dict(planes or {})
        self._on_refused = on_refused
        self._connections = 0
        self._strangers: Counter[str] = Counter()
        self._refused = 0
        self._report_at = 0.0
        self._config = http_config()

    @property
    def connections(self) -> int:
        """Open connections, handshakes included."""
        return self._connections

    @property
    def strangers(self) -> int:
        """Connections on which nobody has proven yet who it is."""
        return self._strangers.total()

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
            connections.cancel_scope.deadline = trio.current_time() + _CLOSE_SECONDS

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery, worker: WorkerContext) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # out of descriptors: let running connections free some
                    self._refuse(f"accept failed: {error}")
                    await trio.sleep(_ACCEPT_AGAIN_SECONDS)
                    continue
                address = _address(stream)
                reason = self._reason_to_refuse(address) if address else ""
                if reason or not address:
                    if reason:
                        self._refuse(reason)
                    await trio.aclose_forcefully(stream)
                    continue
                self._connections += 1
                self._strangers[address] += 1
                nursery.start_soon(self._connection, stream, address, worker)

    def _reason_to_refuse(self, address: str) -> str:
        if self._connections >= limits.CONNECTIONS_MAX:
            return "too many connections"
        if self.strangers >= limits.UNAUTHENTICATED_CONNECTIONS_MAX:
            return "too many connections that have not authenticated"
        if self._strangers[address] >= limits.UNAUTHENTICATED_PER_PEER_MAX:
            return f"too many connections from {address} that have not authenticated"
        return ""

    def _refuse(self, reason: str) -> None:
        """Report it, but not each time: a flood of connections must not become a flood of lines."""
        self._refused += 1
        now = trio.current_time()
        if now >= self._report_at:
            self._on_refused(reason if self._refused == 1 else f"{reason} ({self._refused} times)")
            self._refused, self._report_at = 0, now + _REFUSED_REPORT_SECONDS

    async def _connection(self, stream: trio.SocketStream, address: str, worker: WorkerContext) -> None:
        secure = TlsStream(stream, self._tls(), server_side=True)
        probation = trio.CancelScope(deadline=trio.current_time() + limits.UNAUTHENTICATED_SECONDS_MAX)
        peer = Peer(secure, address, probation=probation, on_admitted=lambda: self._known(address))
        try:
            _notice_vanished_peers(stream)
            with probation:
                if await _handshake(secure):
                    await self._serve(secure, peer, worker)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the peer went away; whoever served it has cleaned up
        except* Exception as defects:  # noqa: BLE001 - what goes wrong with one peer must not end the others
            _log.error("connection failed", peer=address, exc_info=defects)
        finally:
            self._connections -= 1
            if not peer.admitted:
                self._known(address)
            await trio.aclose_forcefully(secure)

    async def _serve(self, secure: TlsStream, peer: Peer, worker: WorkerContext) -> None:
        plane = self._planes.get(secure.selected_alpn_protocol() or "")
        if plane is not None:
            await plane(peer)
            return
        here = secure.transport_stream.socket.getsockname()
        await HttpConnection(self.drain, self._config, worker, peer, (str(here[0]), int(here[1]))).serve()

    def _known(self, address: str) -> None:
        """A connection from `address` is no stranger any more, or gone."""
        self._strangers[address] -= 1
        if self._strangers[address] <= 0:
            del self._strangers[address]


def _address(stream: trio.SocketStream) -> str:
    """Where the connection comes from; "" when it is gone already."""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""


async def _handshake(secure: TlsStream) -> bool:
    with trio.move_on_after(limits.TLS_HANDSHAKE_SECONDS_MAX):
        try:
            await secure.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError):
            return False
        return True
    return False


def _notice_vanished_peers(stream: trio.SocketStream) -> None:
    """Ask the kernel to find out when the other machine is gone without a word."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
