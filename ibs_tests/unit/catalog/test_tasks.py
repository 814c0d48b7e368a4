"""Rows of tasks."""

from __future__ import annotations

from dataclasses import replace

from ibs.catalog.catalog import Catalog
from ibs.catalog.tasks import TaskFigures, TaskFilter, TaskRecord
from ibs.wire.session import StageFigures


def record(number: int, **changes: object) -> TaskRecord:
    base = TaskRecord(f"UPID:{number}", "backup", "main", "root@ibs", "running", number)
    return replace(base, **changes)  # type: ignore[arg-type]


async def test_saved_whole_and_brought_up_to_date(catalog: Catalog) -> None:
    first = record(1)
    await catalog.tasks.save([first])
    assert await catalog.tasks.get("UPID:1") == first
    figures = TaskFigures(
        done_bytes=5, total_bytes=9, files=2, waits_for="x", stages={"read": StageFigures(busy_seconds=1.5, bytes=5)}
    )
    last = replace(first, state="WARNING", ended_ns=7, message="m", warnings=3, figures=figures)
    await catalog.tasks.save([last])
    assert await catalog.tasks.get("UPID:1") == last
    assert await catalog.tasks.get("UPID:2") is None


async def test_filters(catalog: Catalog) -> None:
    one = record(1, state="OK", ended_ns=2)
    two = record(2, type="verify", auth_id="a@ibs", state="FAILED", ended_ns=3)
    three = record(2, upid="UPID:3")
    await catalog.tasks.save([one, two, three])
    assert list(await catalog.tasks.list(TaskFilter(), limit=9)) == [three, two, one]
    assert list(await catalog.tasks.list(TaskFilter(), limit=1)) == [three]
    assert list(await catalog.tasks.list(TaskFilter(states=frozenset({"OK", "FAILED"})), limit=9)) == [two, one]
    assert list(await catalog.tasks.list(TaskFilter(kind="verify"), limit=9)) == [two]
    assert list(
        await catalog.tasks.list(TaskFilter(auth_id="a@ibs", kind="verify", states=frozenset({"FAILED"})), limit=9)
    ) == [two]
    assert list(await catalog.tasks.unfinished()) == [three]


async def test_trim_forgets_the_oldest_ended(catalog: Catalog) -> None:
    await catalog.tasks.save([record(1), *(record(n, ended_ns=n, state="OK") for n in range(2, 8))])
    assert sorted(await catalog.tasks.trim(3)) == ["UPID:2", "UPID:3", "UPID:4"]
    assert [row.upid for row in await catalog.tasks.list(TaskFilter(), limit=9)] == [
        "UPID:7",
        "UPID:6",
        "UPID:5",
        "UPID:1",
    ]
    assert await catalog.tasks.trim(3) == []


async def test_tasks_are_found_by_whose_and_when(catalog: Catalog) -> None:
    one = record(1, host="web01", job="nightly", auth_id="a@ibs!t", state="OK", ended_ns=9)
    await catalog.tasks.save([one, record(2), record(3, host="web02", auth_id="a@ibs")])

    async def found(wanted: TaskFilter) -> list[str]:
        rows = await catalog.tasks.list(wanted, limit=9)
        assert all(wanted.passes(row) for row in rows)
        return [row.upid for row in rows]

    assert await found(TaskFilter(host="web01")) == [one.upid]
    assert await found(TaskFilter(job="nightly")) == [one.upid]
    assert one.upid in await found(TaskFilter(user="a@ibs"))
    assert await found(TaskFilter(user="a@ib")) == []
    assert one.upid not in await found(TaskFilter(since_ns=one.started_ns + 1))
    assert await found(TaskFilter(until_ns=one.started_ns + 1)) == [one.upid]
    assert await catalog.tasks.trim(9, before_ns=10) == [one.upid]
