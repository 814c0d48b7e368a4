"""How actors are spoken to: a bounded mailbox and frozen handles on it.

The supervisor makes one mailbox a role and keeps it across restarts of the actor, so a handle stays good for the life
of the server. Used by `runtime.actor`, `runtime.supervisor`, the services, and everyone who holds a handle.
Invariants: a full mailbox answers BusyError at once and never grows; every question is answered, refused or timed
out; a question whose asker has gone is not started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import outcome
import trio

from ibs.core import limits
from ibs.errors import BusyError, IbsError, UnavailableError

R = TypeVar("R")


class Message(Generic[R]):
    """Base of all messages (frozen dataclasses); `R` is the type of the answer."""


class Envelope:
    """A message on its way, and the place where its answer is put. Owned by one asker and one actor."""

    def __init__(self, message: Message[Any], *, wants_answer: bool) -> None:
        self.message = message
        self.wanted = True
        self._wants_answer = wants_answer
        self._result: outcome.Outcome[Any] | None = None
        self._settled = trio.Event()

    @property
    def settled(self) -> bool:
        """Whether it has been answered or refused."""
        return self._result is not None

    def answer(self, value: Any) -> None:
        """Give the answer; later calls change nothing."""
        self._settle(outcome.Value(value))

    def refuse(self, error: IbsError) -> None:
        """Give an error as the answer; later calls change nothing."""
        self._settle(outcome.Error(error))

    async def wait(self) -> Any:
        """The answer. Raises the error it was refused with."""
        await self._settled.wait()
        assert self._result is not None  # noqa: S101 - set before the event is
        return self._result.unwrap()

    def _settle(self, result: outcome.Outcome[Any]) -> None:
        if self._result is None and self._wants_answer:
            self._result = result
            self._settled.set()


class Mailbox:
    """A bounded queue of envelopes for one role. All calls are from the loop's thread."""

    def __init__(self, role: str, *, slots: int = limits.MAILBOX_SLOTS) -> None:
        self.role = role
        self._slots = slots
        self._send, self._receive = trio.open_memory_channel[Envelope](slots)
        self._refusal: str | None = None

    @property
    def waiting(self) -> int:
        """Messages not yet taken."""
        return self._receive.statistics().current_buffer_used

    def put(self, envelope: Envelope) -> None:
        """Queue it. Raises BusyError when full, UnavailableError when the role takes nothing any more."""
        if self._refusal is not None:
            raise UnavailableError(f"{self.role} does not answer: {self._refusal}", hint="try again in a moment")
        try:
            self._send.send_nowait(envelope)
        except trio.WouldBlock:
            raise BusyError(f"{self.role} is busy: its mailbox is full", hint="try again in a moment") from None

    async def take(self) -> Envelope | None:
        """The next envelope whose asker still waits; None when the mailbox was closed and is empty."""
        while True:
            try:
                envelope = await self._receive.receive()
            except trio.EndOfChannel:
                return None
            if envelope.wanted:
                return envelope

    def close(self, reason: str) -> None:
        """Refuse new messages from now on; those queued can still be taken."""
        self._refusal = self._refusal or reason
        self._send.close()

    def reopen(self) -> None:
        """Take messages again after `close`. Only when nobody takes from it any more and it is empty."""
        self._send.close()
        self._receive.close()
        self._send, self._receive = trio.open_memory_channel[Envelope](self._slots)
        self._refusal = None

    def refuse_all(self, reason: str) -> int:
        """Refuse what is queued with UnavailableError; return how many messages that were."""
        count = 0
        while True:
            try:
                envelope = self._receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return count
            envelope.refuse(UnavailableError(f"{self.role} does not answer: {reason}", hint="try again in a moment"))
            count += 1


@dataclass(frozen=True, slots=True)
class Handle:
    """All that others hold of an actor. Stays good when the actor is restarted."""

    _mailbox: Mailbox = field(repr=False)

    @property
    def role(self) -> str:
        """Whose handle it is."""
        return self._mailbox.role

    async def ask(self, message: Message[R], *, timeout: float = limits.ASK_SECONDS_MAX) -> R:
        """Put a question and wait at most `timeout` seconds for its answer.

        Raises BusyError when the mailbox is full; UnavailableError when no answer came in time, the actor died with
        the question in its hands, or has stopped; and what the actor answers with. *Cancellation*: the question is
        dropped if the actor has not begun with it.
        """
        envelope = Envelope(message, wants_answer=True)
        self._mailbox.put(envelope)
        try:
            with trio.move_on_after(timeout):
                return cast("R", await envelope.wait())
        finally:
            envelope.wanted = False
        raise UnavailableError(f"{self.role} did not answer within {timeout:g} s", hint="try again in a moment")

    def tell(self, message: Message[Any]) -> None:
        """Send without waiting. A told message is lost when the actor dies before it comes to it.

        Raises BusyError when the mailbox is full, UnavailableError when the actor has stopped.
        """
        self._mailbox.put(Envelope(message, wants_answer=False))
