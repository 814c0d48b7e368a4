"""The queue's rows: order, what waits and what had begun, and one row in another's place."""

from __future__ import annotations

from ibs.catalog.catalog import Catalog
from ibs.catalog.queue import QueueRecord
from ibs.wire.system import BackupRun


def row(upid: str, queued_ns: int, **more: object) -> QueueRecord:
    run = BackupRun(store="main", sources=["a.tree:/a"], host="web01", retries=2)
    return QueueRecord(upid=upid, id="main:host/web01", auth_id="root@ibs", queued_ns=queued_ns, run=run, **more)  # type: ignore[arg-type]


async def test_rows_wait_begin_and_are_settled(catalog: Catalog) -> None:
    one, two = row("UPID:2", 1), row("UPID:1", 2, not_before_ns=7, attempt=2)
    await catalog.queue.add([two, one])
    assert list(await catalog.queue.list()) == [one, two]
    await catalog.queue.begin("UPID:2")
    assert await catalog.queue.waiting() == {"UPID:1"}
    assert [each.began for each in await catalog.queue.list()] == [True, False]
    again = row("UPID:3", 3, attempt=2)
    await catalog.queue.settle("UPID:2", again)
    await catalog.queue.settle("UPID:1")
    assert list(await catalog.queue.list()) == [again]
