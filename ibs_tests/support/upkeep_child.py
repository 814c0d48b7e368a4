"""A process that backs up, verifies everything and prunes, until it is done or kills itself at some step.

Run as `python -m ibs_tests.support.upkeep_child STORE FIRST COUNT KILL_AT`, see `session_child`. What was acknowledged
(snapshots made, results of verification noted, prunes begun) is a line on stdout.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import trio

from ibs.core import limits
from ibs.core.retention import Policy
from ibs.engine import prune
from ibs.engine.datastore import Datastore
from ibs.engine.verify import VerifyRun, verify_snapshot
from ibs.errors import BusyError
from ibs.runtime.clock import START, ManualClock
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs.storage.local import Options
from ibs_tests.support.engine import Box
from ibs_tests.support.session_child import Fuse, back_up, light, say

KEPT = 3
"""Snapshots that a prune leaves in each group."""


async def verify_all(datastore: Datastore) -> None:
    run = VerifyRun()
    for name in await datastore.snapshots.every():
        report = await verify_snapshot(datastore, name, run=run)
        say("verified", name, report.result)


async def prune_all(datastore: Datastore) -> None:
    scope = prune.Scope(policy=Policy(keep_last=KEPT))
    planned = await prune.plan(datastore.context, datastore.retention, scope)
    say("will-prune", *(name for one in planned.groups for name in (each.candidate.name for each in one.removals)))
    done = await prune.execute(
        datastore.context,
        datastore.bin,
        planned,
        "root@ibs",
        lambda _level, _text: None,
        retention=datastore.retention,
        override=True,
    )
    say("pruned", *done.removed)


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
        await verify_all(datastore)
        if number % 3 == 1:
            await prune_all(datastore)
    await datastore.close("done")
    return fuse.steps


if __name__ == "__main__":
    store, *numbers = sys.argv[1:]
    say("done", trio.run(work, store, *map(int, numbers)))
