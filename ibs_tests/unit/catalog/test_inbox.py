"""The inbox."""

from __future__ import annotations

from ibs.catalog.catalog import Catalog
from ibs.catalog.inbox import InboxRecord, InboxTable


async def test_newest_first_and_bounded(catalog: Catalog) -> None:
    inbox = InboxTable(catalog.database, rows_max=3)
    for number in range(5):
        fields = {"n": number, "none": None}
        kept = await inbox.add(
            time_ns=number, severity="info", source="system", kind="test.kind", text=f"text {number}", fields=fields
        )
        assert kept == number + 1
    rows = await inbox.list()
    assert [row.id for row in rows] == [5, 4, 3]
    assert rows[0] == InboxRecord(5, 4, "info", "system", "test.kind", "text 4", {"n": 4, "none": None})
    assert [row.id for row in await inbox.list(after=4)] == [5]
    assert [row.id for row in await inbox.list(limit=2)] == [5, 4]


async def test_only_what_was_asked_for(catalog: Catalog) -> None:
    inbox = InboxTable(catalog.database)
    for severity, source in (("error", "system"), ("notice", "system"), ("error", "backup"), ("critical", "system")):
        await inbox.add(time_ns=1, severity=severity, source=source, kind="k", text="t", fields={})
    assert [row.id for row in await inbox.list(severities=["error", "critical"])] == [4, 3, 1]
    assert [row.id for row in await inbox.list(severities=["error", "critical"], source="system")] == [4, 1]
    assert [row.id for row in await inbox.list(source="backup")] == [3]
