"""A process that backs up, forgets, collects garbage and takes it back, until it is done or kills itself at some step.

Run as `python -m ibs_tests.support.gc_child STORE FIRST COUNT KILL_AT`, see `session_child`. What was acknowledged, and
what was about to be forgotten, is a line on stdout.
"""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import timedelta

import trio

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.engine.gc.plan import Options as GcOptions
from ibs.errors import BusyError, NotFoundError
from ibs.runtime.clock import START, ManualClock
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs.storage.local import Options
from ibs_tests.support.engine import Box
from ibs_tests.support.session_child import Fuse, back_up, light, say


async def forget_oldest(datastore: Datastore) -> None:
    """The store's oldest snapshot goes, by way of the bin."""
    names = sorted(await datastore.snapshots.every(), key=lambda name: str(name.time))
    if len(names) < 2:
        return
    say("will-forget", names[0])
    entry = await datastore.bin.put(names[0], "root@ibs")
    await datastore.bin.purge(entry.entry)
    say("forgot", names[0])


async def collect(datastore: Datastore, number: int) -> None:
    outcome = await datastore.gc.run(GcOptions(share_percent=100, reclaim_now=number % 4 == 1))
    say("collected", number, outcome.retired.chunks, outcome.freed_chunks)


async def work(path: str, first: int, count: int, kill_at: int) -> int:
    fuse = Fuse(kill_at)
    light(fuse)
    clock = ManualClock(START + timedelta(seconds=first * 10))
    pool = ThreadPool() if first % 2 else InlinePool()
    box = Box(path, clock=clock, pool=pool, entropy=os.urandom, options=Options(hook=fuse.step))
    datastore = await box.open()
    if datastore.context.time.frozen:
        datastore.context.time.confirm("test")
    for number in range(first, first + count):
        try:
            await back_up(datastore, number)
        except BusyError:
            clock.advance(limits.SESSION_SUPERSEDE_IDLE_SECONDS)
            await back_up(datastore, number)
        await forget_oldest(datastore)
        await collect(datastore, number)
        if number % 3 == 1:
            with contextlib.suppress(NotFoundError):
                await datastore.gc.undo(everything=number % 2 == 0)
        if number % 4 == 2:
            clock.advance(limits.GC_TRASH_GRACE_SECONDS)
            await datastore.gc.expire()
    await datastore.close("done")
    return fuse.steps


if __name__ == "__main__":
    store, *numbers = sys.argv[1:]
    say("done", trio.run(work, store, *map(int, numbers)))
