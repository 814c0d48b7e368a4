"""Refusals are answers; anything else kills the actor, and nobody waits in vain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import trio

from ibs.errors import NotFoundError, UnavailableError
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Handle, Mailbox, Message


@dataclass(frozen=True)
class Say(Message[str]):
    what: str


class Parrot(Actor):
    role: ClassVar[str] = "parrot"
    duty: ClassVar[str] = "repeats"

    async def handle(self, message: Message[Any]) -> str:
        assert isinstance(message, Say)
        if message.what == "missing":
            raise NotFoundError("no such word")
        if message.what == "bug":
            raise ZeroDivisionError("a bug")
        if message.what == "wait":
            await trio.sleep_forever()
        return message.what


def seat() -> Seat:
    return Seat("parrot", Mailbox("parrot"), trio.Event())


async def test_it_answers_until_its_mailbox_is_closed_and_empty() -> None:
    place = seat()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: Parrot(place).run(task_status=task_status))
        assert await Handle(place.mailbox).ask(Say("hello")) == "hello"
        with pytest.raises(NotFoundError, match="no such word"):
            await Handle(place.mailbox).ask(Say("missing"))
        place.mailbox.close("done")


async def test_a_bug_kills_it_and_refuses_the_question_in_its_hands() -> None:
    place, answers = seat(), []

    async def ask() -> None:
        with pytest.raises(UnavailableError, match="failed while it answered"):
            await Handle(place.mailbox).ask(Say("bug"))
        answers.append(True)

    async def live() -> None:
        async with trio.open_nursery() as nursery, trio.open_nursery() as actors:
            nursery.start_soon(ask)
            actors.start_soon(Parrot(place).run)

    with pytest.raises(ExceptionGroup) as caught:
        await live()
    assert caught.group_contains(ZeroDivisionError, match="a bug")
    assert answers == [True]


async def test_cancelling_refuses_the_question_in_its_hands() -> None:
    place = seat()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with trio.CancelScope(shield=True), pytest.raises(UnavailableError):
                    await Handle(place.mailbox).ask(Say("wait"))

            nursery.start_soon(ask)
            nursery.start_soon(Parrot(place).run)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert place.mailbox.waiting == 0


async def test_an_actor_without_messages_refuses_all() -> None:
    with pytest.raises(NotImplementedError):
        await Actor.handle(Parrot(seat()), Say("x"))
