"""When jobs ran and run."""

from __future__ import annotations

from ibs.catalog.catalog import Catalog
from ibs.catalog.timetable import TimetableRecord


async def test_rows(catalog: Catalog) -> None:
    await catalog.timetable.save(TimetableRecord("verify:main", None, 10))
    await catalog.timetable.save(TimetableRecord("gc:main"))
    await catalog.timetable.save(TimetableRecord("verify:main", 10, 20))
    assert list(await catalog.timetable.list()) == [
        TimetableRecord("gc:main"),
        TimetableRecord("verify:main", 10, 20),
    ]
    await catalog.timetable.remove("gc:main")
    await catalog.timetable.remove("gc:main")
    assert len(await catalog.timetable.list()) == 1
