"""The first signal asks, the next insist."""

from __future__ import annotations

import os
import signal

import trio

from ibs.runtime import signals


async def test_the_first_signal_stops_in_order_and_later_ones_at_once() -> None:
    seen, arrived = list[str](), [trio.Event(), trio.Event()]

    def note(kind: str, number: int) -> None:
        seen.append(kind)
        arrived[number].set()

    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: signals.watch(
                lambda name: note(f"first {name}", 0), lambda name: note(f"second {name}", 1), task_status=task_status
            )
        )
        os.kill(os.getpid(), signal.SIGTERM)
        await arrived[0].wait()
        os.kill(os.getpid(), signal.SIGINT)
        await arrived[1].wait()
        nursery.cancel_scope.cancel()
    assert seen == ["first SIGTERM", "second SIGINT"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
