"""The api actor: runs the control plane and tells where it listens. What it runs is handed in by `app`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol

import trio

from ibs.log import get_logger
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Message

_log = get_logger("api")


class Bound(Protocol):
    """The address the control plane got."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


ServeApi = Callable[[trio.Event, trio.TaskStatus[Any]], Awaitable[None]]
"""Serve until the event is set, then drain and return; the status gets a `Bound` once it listens."""


class Api(Actor):
    """Listens on the server's port. `on_listening` gets the address each time it does."""

    role: ClassVar[str] = "api"
    duty: ClassVar[str] = "HTTP control plane and chunk data plane on one TLS port"

    def __init__(self, seat: Seat, serve_api: ServeApi, on_listening: Callable[[Bound], None]) -> None:
        super().__init__(seat)
        self._serve_api = serve_api
        self._on_listening = on_listening

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the control plane's tasks
            bound = await nursery.start(self._serve)
            self._on_listening(bound)
            _log.info("listening", host=bound.host, port=bound.port)
            nursery.start_soon(self.serve)
            task_status.started()

    async def _serve(self, *, task_status: trio.TaskStatus[Bound]) -> None:
        await self._serve_api(self.seat.stopping, task_status)

    async def handle(self, message: Message[Any]) -> Any:
        raise NotImplementedError(type(message).__name__)
