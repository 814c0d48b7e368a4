"""The shape of every service: a task with a mailbox, its own state, and a duty that can be told in one line.

Subclassed in `services`, run by `runtime.supervisor` only. Invariants: an actor's state lives in its instance and
dies with it (a restart builds a new one); it is touched by the actor's tasks alone; refusals (`IbsError`) are answers,
anything else kills the actor and the supervisor starts a new one.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar

import trio

from ibs.errors import IbsError, UnavailableError
from ibs.runtime.mailbox import Mailbox, Message


@dataclass(frozen=True)
class Seat:
    """What a role keeps across restarts of its actor. `stopping` is set when the server wants to stop."""

    role: str
    mailbox: Mailbox
    stopping: trio.Event


class Actor(ABC):
    """A supervised service."""

    role: ClassVar[str]
    duty: ClassVar[str]

    def __init__(self, seat: Seat) -> None:
        self.seat = seat

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the duty until the mailbox is closed and empty. `task_status` is started when messages are served.

        Returning before a stop was asked for counts as a failure. *Cancellation*: leaves no task behind.
        """
        task_status.started()
        await self.serve()

    async def serve(self) -> None:
        """Answer messages one after the other until the mailbox is closed and empty."""
        while (envelope := await self.seat.mailbox.take()) is not None:
            try:
                envelope.answer(await self.handle(envelope.message))
            except IbsError as error:
                envelope.refuse(error)
            finally:
                # Without effect when answered above; on a crash or cancellation the asker must not wait in vain.
                hint = "it restarts by itself; try again"
                envelope.refuse(UnavailableError(f"{self.seat.role} failed while it answered", hint=hint))

    async def handle(self, message: Message[Any]) -> Any:
        """Answer one message. Must not wait long: later messages wait behind it."""
        raise NotImplementedError(type(message).__name__)
