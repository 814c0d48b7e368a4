"""SIGTERM and SIGINT: the first asks for an orderly stop, the second for an immediate one. Used by `app.run` only."""

from __future__ import annotations

import signal
from collections.abc import Callable

import trio

_STOPS = (signal.SIGTERM, signal.SIGINT)


async def watch(
    on_first: Callable[[str], None],
    on_second: Callable[[str], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `on_first` with the name of the first stop signal and `on_second` with each later one, until cancelled.

    Main thread only. *Cancellation*: gives the signals back to their former handlers.
    """
    with trio.open_signal_receiver(*_STOPS) as received:
        task_status.started()
        first = True
        async for number in received:
            (on_first if first else on_second)(signal.Signals(number).name)
            first = False
