"""A process that backs up, over and over, until it is done or ends itself at a chosen step. For crash tests.

Run as `python -m ibs_tests.support.session_child STORE FIRST COUNT KILL_AT`: backups FIRST … FIRST+COUNT-1; at step
number KILL_AT (0: never) of all that touches the disk it kills itself. What was acknowledged is a line on stdout.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import trio

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.errors import BusyError
from ibs.runtime.clock import START, ManualClock
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs.storage.local import Options, WorkArea, WorkFolder
from ibs_tests.support.engine import Box, start

GROUPS = ("host/a", "vm/1")


def group_of(number: int) -> str:
    return GROUPS[number % len(GROUPS)]


def chunks_of(number: int) -> list[bytes]:
    """What backup `number` holds: some shared with every other, some with the one before, some its own."""
    common = [b"common %d" % n * 50 for n in range(3)]
    rolling = [b"rolling %d" % n * 70 for n in range(number, number + 3)]
    return [*common, *rolling, b"root of %d" % number]


class Fuse:
    """Counts steps, and kills the process at one of them."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.steps = 0

    def step(self, _: str = "") -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **options: Any) -> Any:
            self.step()
            result = work(*args, **options)
            self.step()
            return result

        return stepped


def light(fuse: Fuse) -> None:
    """Make every change of a work folder a step, before and after."""
    for name in ("append", "write", "link", "unlink", "truncate"):
        setattr(WorkFolder, name, fuse.around(getattr(WorkFolder, name)))
    for name in ("create", "remove"):
        setattr(WorkArea, name, fuse.around(getattr(WorkArea, name)))


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


async def back_up(datastore: Datastore, number: int) -> None:
    writer = await start(datastore, group=group_of(number), auth_id="root@ibs")
    chunks = chunks_of(number)
    resumed = await writer.session.resumed_ids()
    known = {resumed[at : at + 32] for at in range(0, len(resumed), 32)}
    base = writer.session.opened.bases != []
    say("opened", number, len(known), base)
    if number % 3 == 2:
        await writer.send(b"never used by %d" % number)
    for data in chunks:
        if writer.id(data) not in known:
            await writer.send(data)
    if number % 4 == 3:
        await writer.session.abort("on purpose")
        say("aborted", number)
        return
    await writer.append("etc.tree", chunks)
    await writer.close("etc.tree", chunks)
    await writer.put_blob("number", b"%d" % number)
    result = await writer.commit()
    say("committed", number, result.snapshot)


async def work(path: str, first: int, count: int, kill_at: int) -> int:
    fuse = Fuse(kill_at)
    light(fuse)
    # A run starts where the clock of the one before it may have been.
    clock = ManualClock(START + timedelta(seconds=first * 10))
    pool = ThreadPool() if first % 2 else InlinePool()
    box = Box(path, clock=clock, pool=pool, entropy=os.urandom, options=Options(hook=fuse.step))
    datastore = await box.open()
    for number in range(first, first + count):
        try:
            await back_up(datastore, number)
        except BusyError:
            clock.advance(limits.SESSION_SUPERSEDE_IDLE_SECONDS)
            await back_up(datastore, number)
        if number % 5 == 4:
            await datastore.cleanup()
            say("cleaned", number)
    await datastore.close("done")
    return fuse.steps


if __name__ == "__main__":
    say("done", trio.run(work, sys.argv[1], *(int(word) for word in sys.argv[2:5])))
