"""Bounded tries, growing pauses, jitter from the entropy given."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ibs.errors import BusyError, NotAuthenticated
from ibs.runtime.clock import LoopClock
from ibs.runtime.retry import Backoff, may_pass, retry


def low(count: int) -> bytes:
    return bytes(count)


def high(count: int) -> bytes:
    return b"\xff" * count


def test_pauses_grow_to_the_bound_and_jitter_is_half_of_each() -> None:
    backoff = Backoff(attempts=6, seconds_min=1, seconds_max=5)
    assert list(backoff.pauses(high)) == [1, 2, 4, 5, 5]
    assert list(backoff.pauses(low)) == [0.5, 1, 2, 2.5, 2.5]


async def test_it_tries_until_it_works(autojump_clock: trio.testing.MockClock) -> None:
    tries, told = [], []

    async def work() -> str:
        tries.append(trio.current_time())
        if len(tries) < 3:
            raise BusyError("not yet")
        return "done"

    result = await retry(
        work,
        clock=LoopClock(),
        entropy=high,
        backoff=Backoff(seconds_min=1),
        on_failure=lambda error, pause: told.append((str(error), pause)),
    )
    assert result == "done"
    assert told == [("not yet", 1.0), ("not yet", 2.0)]
    assert tries[2] - tries[0] == pytest.approx(3.0)


async def test_it_gives_up_with_the_last_error(autojump_clock: trio.testing.MockClock) -> None:
    tries = []

    async def work() -> None:
        tries.append(1)
        raise BusyError(f"try {len(tries)}")

    with pytest.raises(BusyError, match="try 3"):
        await retry(work, clock=LoopClock(), entropy=low, backoff=Backoff(attempts=3))


async def test_what_cannot_pass_is_not_tried_again() -> None:
    tries = []

    async def work() -> None:
        tries.append(1)
        raise NotAuthenticated("no")

    with pytest.raises(NotAuthenticated):
        await retry(work, clock=LoopClock(), entropy=low)
    assert len(tries) == 1
    assert may_pass(BusyError("x"))
    assert not may_pass(ValueError("x"))
