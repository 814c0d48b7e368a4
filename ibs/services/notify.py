"""The notify actor: brings what happened from the bus into the inbox, where people find it, and on to targets.

Its subscription is made by `app` and outlives the actor: an event is taken off only when the catalog has it, so a crash
or a full disk delays events and may repeat one, but loses none that fitted the subscription's bounded queue.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import trio

from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.errors import IbsError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.bus import Subscription
from ibs.services.deliveries import Deliveries

_log = get_logger("notify")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Inbox(Protocol):
    """Where events are kept. Implemented by the catalog."""

    async def add(
        self, *, time_ns: int, severity: str, source: str, kind: str, text: str, fields: dict[str, Any]
    ) -> int: ...


class Notify(Actor):
    """Writes events from severity `notice` on into the inbox, in order, and milder ones for who asks for them."""

    role: ClassVar[str] = "notify"
    duty: ClassVar[str] = "delivers events to the inbox and to targets"

    def __init__(
        self,
        seat: Seat,
        events: Subscription[Event],
        inbox: Inbox,
        clock: Clock,
        deliveries: Deliveries | None = None,
    ) -> None:
        super().__init__(seat)
        self._events = events
        self._inbox = inbox
        self._clock = clock
        self._deliveries = deliveries
        self._lost_told = events.lost

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the tasks below
            nursery.start_soon(self.serve)
            nursery.start_soon(self._close_when_stopping)
            carrying = trio.CancelScope()
            if self._deliveries is not None:
                nursery.start_soon(self._deliveries.run, carrying)
            task_status.started()
            await self._deliver_all()
            carrying.cancel()  # what is still to be sent is in the outbox, for the next start

    async def _close_when_stopping(self) -> None:
        await self.seat.stopping.wait()
        self._events.close()

    async def _deliver_all(self) -> None:
        while True:
            try:
                event = await self._events.peek()
            except StopAsyncIteration:
                return
            if await self._is_wanted(event):
                await self._deliver(event)
            self._events.confirm()
            await self._tell_lost()

    async def _is_wanted(self, event: Event) -> bool:
        """Mild ones only when a rule asks for them; while that cannot be looked up nobody misses them."""
        if event.severity.rank >= Severity.NOTICE.rank or self._deliveries is None:
            return event.severity.rank >= Severity.NOTICE.rank
        try:
            return await self._deliveries.wants(event.severity)
        except IbsError as error:
            _log.error("rules cannot be read", error=error.message)
            return False

    async def _deliver(self, event: Event) -> None:
        """Keep the event, trying for as long as the catalog cannot take it; a stopping server tries once."""
        while True:
            try:
                await self._inbox.add(
                    time_ns=int((event.time - _EPOCH).total_seconds() * 1_000_000) * 1000,
                    severity=str(event.severity),
                    source=str(event.source),
                    kind=event.kind,
                    text=event.text,
                    fields=dict(event.fields),
                )
            except IbsError as error:
                _log.error("event not kept", kind=event.kind, text=event.text, error=error.message)
                if self.seat.stopping.is_set():
                    return
                with trio.move_on_after(limits.NOTIFY_RETRY_SECONDS):
                    await self.seat.stopping.wait()
                continue
            _log.info("event kept", kind=event.kind, severity=str(event.severity), text=event.text)
            return

    async def _tell_lost(self) -> None:
        """Events that came faster than they could be kept are at least counted where people look."""
        missing = self._events.lost - self._lost_told
        if missing:
            self._lost_told = self._events.lost
            text = f"{missing} events came faster than they could be kept and are missing here; see the logs"
            fields = {"events": missing}
            kind = "notify.events-lost"
            await self._deliver(Event(self._clock.now(), EventSource.SYSTEM, Severity.WARNING, kind, text, fields))
