"""Jobs are kept; a due run and its tasks are one step, taken once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ibs.catalog.catalog import Catalog
from ibs.catalog.jobs import JobRecord
from ibs.errors import ConflictError, NotFoundError
from ibs.wire.jobs import JobSpec
from ibs_tests.unit.catalog.test_queue import row

SPEC = JobSpec(store="main", sources=["a.tree:/a"], schedule="daily", tags=["web"])
JOB = JobRecord(
    name="nightly", spec=SPEC, enabled=True, created_ns=1, changed_ns=1, changed_by="root@ibs", next_run_ns=10
)


async def test_jobs_are_kept_changed_and_removed(catalog: Catalog) -> None:
    await catalog.jobs.add(JOB)
    with pytest.raises(ConflictError, match="there is a job nightly already"):
        await catalog.jobs.add(JOB)
    changed = replace(JOB, enabled=False, changed_ns=2)
    await catalog.jobs.update(changed)
    assert await catalog.jobs.get("nightly") == changed
    assert list(await catalog.jobs.list()) == [changed]
    await catalog.jobs.remove("nightly")
    for work in (catalog.jobs.get("nightly"), catalog.jobs.remove("nightly"), catalog.jobs.update(JOB)):
        with pytest.raises(NotFoundError, match="no job nightly"):
            await work


async def test_a_due_run_is_queued_once_or_not_at_all(catalog: Catalog) -> None:
    await catalog.jobs.add(JOB)
    assert await catalog.jobs.fire(JOB, 10, 20, [row("UPID:1", 1)])
    assert not await catalog.jobs.fire(JOB, 10, 20, [row("UPID:2", 1)]), "that run is queued already"
    now = await catalog.jobs.get("nightly")
    assert (now.last_run_ns, now.next_run_ns) == (10, 20)
    await catalog.jobs.update(replace(now, enabled=False))
    assert not await catalog.jobs.fire(now, 20, 30, [row("UPID:3", 1)])
    assert await catalog.queue.waiting() == {"UPID:1"}
