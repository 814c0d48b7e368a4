"""Bounded, answered or refused, never left waiting."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
import trio.testing

from ibs.errors import BusyError, UnavailableError
from ibs.runtime.mailbox import Envelope, Handle, Mailbox, Message


@dataclass(frozen=True)
class Double(Message[int]):
    number: int


async def test_a_question_is_answered() -> None:
    mailbox = Mailbox("worker")

    async def actor() -> None:
        envelope = await mailbox.take()
        assert envelope is not None
        assert isinstance(envelope.message, Double)
        envelope.answer(envelope.message.number * 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor)
        assert await Handle(mailbox).ask(Double(21)) == 42


async def test_a_full_mailbox_answers_busy_at_once_and_does_not_grow() -> None:
    mailbox = Mailbox("worker", slots=2)
    handle = Handle(mailbox)
    handle.tell(Double(1))
    handle.tell(Double(2))
    with pytest.raises(BusyError, match="worker is busy"):
        handle.tell(Double(3))
    with pytest.raises(BusyError):
        await handle.ask(Double(3))
    assert mailbox.waiting == 2


async def test_a_question_has_a_deadline_and_is_not_started_after_it(autojump_clock: trio.testing.MockClock) -> None:
    mailbox = Mailbox("worker")
    with pytest.raises(UnavailableError, match="worker did not answer within 3 s"):
        await Handle(mailbox).ask(Double(1), timeout=3)
    Handle(mailbox).tell(Double(2))
    envelope = await mailbox.take()
    assert envelope is not None
    assert envelope.message == Double(2)


async def test_a_cancelled_asker_is_not_served() -> None:
    mailbox = Mailbox("worker")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Handle(mailbox).ask, Double(1))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    mailbox.close("test")
    assert await mailbox.take() is None


async def test_closing_refuses_new_messages_and_lets_queued_ones_be_taken() -> None:
    mailbox = Mailbox("worker")
    handle = Handle(mailbox)
    handle.tell(Double(1))
    mailbox.close("the server is stopping")
    with pytest.raises(UnavailableError, match="the server is stopping"):
        handle.tell(Double(2))
    assert (await mailbox.take()) is not None
    assert await mailbox.take() is None


async def test_refusing_all_wakes_every_asker() -> None:
    mailbox, refused = Mailbox("worker"), []

    async def ask() -> None:
        with pytest.raises(UnavailableError, match="it failed"):
            await Handle(mailbox).ask(Double(1))
        refused.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.refuse_all("it failed and restarts") == 2
    assert refused == [True, True]


async def test_only_the_first_answer_counts() -> None:
    envelope = Envelope(Double(1), wants_answer=True)
    envelope.answer(2)
    envelope.refuse(BusyError("too late"))
    assert envelope.settled
    assert await envelope.wait() == 2


def test_a_handle_is_frozen() -> None:
    handle = Handle(Mailbox("worker"))
    assert handle.role == "worker"
    with pytest.raises(AttributeError):
        handle._mailbox = Mailbox("other")  # type: ignore[misc]


async def test_a_closed_mailbox_can_be_opened_again_for_the_same_handles() -> None:
    mailbox = Mailbox("sync", slots=1)
    handle = Handle(mailbox)
    mailbox.close("it failed 11 times in a row")
    with pytest.raises(UnavailableError, match="11 times"):
        handle.tell(Double(1))
    assert await mailbox.take() is None
    mailbox.reopen()
    handle.tell(Double(4))
    with pytest.raises(BusyError):
        handle.tell(Double(5))
    envelope = await mailbox.take()
    assert envelope is not None
    assert envelope.message == Double(4)
