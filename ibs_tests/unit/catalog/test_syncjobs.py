"""Sync jobs come back as they were; a change and a run do not undo each other."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from ibs.catalog.catalog import Catalog
from ibs.catalog.syncjobs import SyncJobRow
from ibs.core import limits_sync
from ibs.errors import ConflictError, NotFoundError
from ibs.wire.sync import SyncSpec

SPEC = SyncSpec(remote="b", source="far", store="main", groups=["host/*"], max_age_seconds=60.0, schedule="daily")
ROW = SyncJobRow(name="n", spec=SPEC, enabled=True, changed_ns=1, changed_by="a@ibs", next_run_ns=9)


async def test_rows(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    table = catalog.sync_jobs
    await table.add(ROW)
    await table.add(replace(ROW, name="a", enabled=False))
    assert await table.get("n") == ROW
    assert [row.name for row in await table.list()] == ["a", "n"]
    with pytest.raises(ConflictError, match="exists already"):
        await table.add(ROW)
    await table.ran("n", "UPID:x", 7)
    changed = replace(ROW, spec=msgspec.structs.replace(SPEC, newest=2), changed_ns=2, next_run_ns=11)
    await table.change(changed)
    assert await table.get("n") == replace(changed, last_upid="UPID:x", last_run_ns=7)
    await table.plan(ROW, 100)
    assert (await table.get("n")).next_run_ns == 11, "planned for a job that is another by now"
    await table.plan(changed, 100)
    assert (await table.get("n")).next_run_ns == 100
    await table.ran("nobody", "UPID:x", 7)
    monkeypatch.setattr(limits_sync, "SYNC_JOBS_MAX", 2)
    with pytest.raises(ConflictError, match="2 sync jobs already"):
        await table.add(replace(ROW, name="c"))
    await table.remove("n")
    for call in (table.get("n"), table.remove("n"), table.change(ROW)):
        with pytest.raises(NotFoundError, match="no sync job n"):
            await call
