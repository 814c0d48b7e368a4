"""What the parts of a datastore share."""

from __future__ import annotations

import gc

from ibs.core.events import EventSource, Severity
from ibs.core.names import Group, Namespace
from ibs.engine.context import Decoders, GroupLocks
from ibs.engine.datastore import Datastore
from ibs.runtime.pool import ThreadPool
from ibs_tests.support.engine import Box


async def test_one_lock_a_group_that_goes_when_unused() -> None:
    locks = GroupLocks()
    first = locks.of(Namespace(), Group("host", "a"))
    assert locks.of(Namespace(), Group("host", "a")) is first
    assert locks.of(Namespace(("x",)), Group("host", "a")) is not first
    del first
    gc.collect()
    assert len(locks._locks) == 0


async def test_each_thread_has_its_own_decoder() -> None:
    decoders, pool = Decoders(), ThreadPool()
    mine = decoders.plain
    assert decoders.plain is mine
    assert await pool.disk(lambda: decoders.plain) is not mine


async def test_facts_name_the_datastore(box: Box, datastore: Datastore) -> None:
    datastore.context.emit(EventSource.BACKUP, Severity.NOTICE, "test.kind", "it happened", number=3)
    assert box.events[-1].fields == {"datastore": "s1", "number": 3}
    assert box.events[-1].time == box.clock.now()


async def test_names_are_fresh_and_the_seed_stays_secret(datastore: Datastore) -> None:
    first, second = datastore.context.new_id(), datastore.context.new_id()
    assert len(first) == 32
    assert first != second
    assert "signing_seed" not in repr(datastore.context)
