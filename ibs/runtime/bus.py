"""The bus carries facts that happened to whoever subscribed; never commands.

Made by `app`; publishers get `publish`, subscribers a `Subscription`. Invariants: publishing never waits and never
fails; a subscriber that falls behind loses the newest facts (the first cause stays readable) and is told how many;
each subscriber sees facts in the order they were published.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Self, TypeVar

import trio

from ibs.core import limits

E = TypeVar("E")


class Subscription(Generic[E]):
    """One subscriber's bounded queue. Iterate it with `async for`; `close` it, or use it as a context manager.

    It may outlive the task that reads it: what is published meanwhile waits here for the next reader.
    """

    def __init__(self, bus: Bus[E], name: str, slots: int) -> None:
        self.name = name
        self._bus = bus
        self._slots = slots
        self._facts: deque[E] = deque()
        self._lost = 0
        self._arrived = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._closed = False

    @property
    def lost(self) -> int:
        """How many facts did not fit since the subscription began."""
        return self._lost

    @property
    def waiting(self) -> int:
        """How many facts wait to be read."""
        return len(self._facts)

    def close(self) -> None:
        """Take no more facts; iteration ends when the ones held are read."""
        self._bus._forget(self)  # noqa: SLF001 - bus and subscription are one mechanism
        self._closed = True
        self._arrived.set()

    async def peek(self) -> E:
        """Wait for the oldest fact and leave it here until `confirm`: a reader that dies loses nothing.

        Raises StopAsyncIteration when closed and empty. *Cancellation*: no fact is lost.
        """
        await trio.lowlevel.checkpoint()
        self._token = trio.lowlevel.current_trio_token()
        while not self._facts:
            if self._closed:
                raise StopAsyncIteration
            self._arrived = trio.Event()
            if self._facts:  # another thread published between the two lines above
                break
            await self._arrived.wait()
        return self._facts[0]

    def confirm(self) -> None:
        """The oldest fact is dealt with. For the one reader that peeked it."""
        self._facts.popleft()

    async def __anext__(self) -> E:
        """The next fact. *Cancellation*: no fact is lost."""
        fact = await self.peek()
        self.confirm()
        return fact

    def __aiter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _offer(self, fact: E) -> None:
        if len(self._facts) >= self._slots:
            self._lost += 1
            return
        self._facts.append(fact)
        if trio.lowlevel.in_trio_run():
            self._arrived.set()
        elif self._token is not None:
            try:
                self._token.run_sync_soon(self._wake)
            except trio.RunFinishedError:
                return  # the loop has ended: nobody will read any more

    def _wake(self) -> None:
        self._arrived.set()


class Bus(Generic[E]):
    """Delivers each published fact to every subscription. `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._subscriptions: tuple[Subscription[E], ...] = ()
        self._changing = threading.Lock()

    def subscribe(self, name: str, *, slots: int = limits.BUS_SUBSCRIBER_SLOTS) -> Subscription[E]:
        """A new subscription, from this moment on."""
        subscription = Subscription(self, name, slots)
        with self._changing:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def publish(self, fact: E) -> None:
        """Hand `fact` to every subscriber. Never blocks, never raises."""
        # One lock for all subscribers keeps the order the same for each; it is held for a few appends only.
        with self._changing:
            for subscription in self._subscriptions:
                subscription._offer(fact)  # noqa: SLF001 - bus and subscription are one mechanism

    @property
    def subscriptions(self) -> tuple[Subscription[E], ...]:
        """Who listens now."""
        return self._subscriptions

    def _forget(self, subscription: Subscription[E]) -> None:
        with self._changing:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
