from __future__ import annotations

import pytest
import trio

from ibs.errors import BusyError
from ibs.runtime.background import spawner


async def test_what_fails_in_the_background_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def refused() -> None:
        raise BusyError("not now", hint="later")

    async def broken() -> None:
        raise ZeroDivisionError

    async def fine() -> None:
        await trio.lowlevel.checkpoint()
        done.append("fine")

    async with trio.open_nursery() as nursery:
        spawn = spawner(nursery)
        for work in (refused, broken, fine):
            spawn(work)
    assert done == ["fine"]
    assert "background work failed" in caplog.text
