"""When jobs last ran and when they are due: so that a restart neither forgets nor repeats a run.

Used by `services.scheduler`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from ibs.catalog.database import Database


@dataclass(frozen=True, slots=True)
class TimetableRecord:
    """A job's runs in ns since the epoch; None: never ran, or not planned."""

    job: str
    last_run_ns: int | None = None
    next_run_ns: int | None = None


class TimetableTable:
    """One row a job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[TimetableRecord]:
        """All, by job."""

        def work(connection: sqlite3.Connection) -> Sequence[TimetableRecord]:
            rows = connection.execute("SELECT job, last_run_ns, next_run_ns FROM timetable ORDER BY job")
            return [TimetableRecord(*row) for row in rows]

        return await self._database.read(work)

    async def save(self, record: TimetableRecord) -> None:
        """Add or replace the job's row. *Durability*: kept when this returns."""

        def work(connection: sqlite3.Connection) -> None:
            query = "INSERT OR REPLACE INTO timetable (job, last_run_ns, next_run_ns) VALUES (?, ?, ?)"
            connection.execute(query, (record.job, record.last_run_ns, record.next_run_ns))

        await self._database.write(work)

    async def remove(self, job: str) -> None:
        """The job is gone; not an error when it had no row."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM timetable WHERE job = ?", (job,))

        await self._database.write(work)
