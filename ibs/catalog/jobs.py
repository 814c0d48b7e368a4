"""Jobs as they are kept, with the times of their runs. Used by `services.jobs`.

A run that is due, its next time, and the tasks it comes to are one transaction: whatever kills the server, each due
run is queued once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ibs.catalog.database import Database
from ibs.catalog.queue import QueueRecord, insert
from ibs.core import limits
from ibs.errors import ConflictError, NotFoundError
from ibs.wire.jobs import JobSpec

_COLUMNS = "name, spec, enabled, created_ns, changed_ns, changed_by, last_run_ns, next_run_ns"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Times in ns since the epoch; `last_run_ns` None: never; `next_run_ns` None: not by itself."""

    name: str
    spec: JobSpec
    enabled: bool
    created_ns: int
    changed_ns: int
    changed_by: str
    last_run_ns: int | None = None
    next_run_ns: int | None = None


class JobTable:
    """One row a job. *Durability*: a change is kept when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[JobRecord]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[JobRecord]:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY name").fetchall()  # noqa: S608
            return [_record(row) for row in rows]

        return await self._database.read(work)

    async def get(self, name: str) -> JobRecord:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> JobRecord | None:
            row = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE name = ?", (name,)).fetchone()  # noqa: S608
            return None if row is None else _record(row)

        found = await self._database.read(work)
        if found is None:
            raise _unknown(name)
        return found

    async def add(self, record: JobRecord) -> None:
        """Raises ConflictError when the name is taken, or there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM jobs WHERE name = ?", (record.name,)).fetchone():
                raise ConflictError(f"there is a job {record.name} already", hint="see: ironcore-backup job list")
            if connection.execute("SELECT count(*) FROM jobs").fetchone()[0] >= limits.JOBS_MAX:
                raise ConflictError(f"there are {limits.JOBS_MAX} jobs already", hint="remove unused ones")
            _put(connection, record)

        await self._database.write(work)

    async def update(self, record: JobRecord) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if not connection.execute("SELECT 1 FROM jobs WHERE name = ?", (record.name,)).fetchone():
                raise _unknown(record.name)
            _put(connection, record)

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("DELETE FROM jobs WHERE name = ?", (name,)).rowcount == 0:
                raise _unknown(name)

        await self._database.write(work)

    async def fire(self, due: JobRecord, last_ns: int, next_ns: int | None, queue: Sequence[QueueRecord]) -> bool:
        """Queue a due run's tasks and plan the next run; False, changing nothing, when the job is another by now."""

        def work(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                """UPDATE jobs SET last_run_ns = ?, next_run_ns = ?
                WHERE name = ? AND enabled = 1 AND changed_ns = ? AND next_run_ns IS ?""",
                (last_ns, next_ns, due.name, due.changed_ns, due.next_run_ns),
            )
            if done.rowcount == 0:
                return False
            insert(connection, queue)
            return True

        return await self._database.write(work)


def _put(connection: sqlite3.Connection, record: JobRecord) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our names
        (
            record.name,
            msgspec.json.encode(record.spec).decode(),
            int(record.enabled),
            record.created_ns,
            record.changed_ns,
            record.changed_by,
            record.last_run_ns,
            record.next_run_ns,
        ),
    )


def _record(row: Sequence[object]) -> JobRecord:
    name, spec, enabled, created, changed, by, last, due = row
    return JobRecord(
        name=str(name),
        spec=msgspec.json.decode(str(spec), type=JobSpec),
        enabled=bool(enabled),
        created_ns=int(str(created)),
        changed_ns=int(str(changed)),
        changed_by=str(by),
        last_run_ns=None if last is None else int(str(last)),
        next_run_ns=None if due is None else int(str(due)),
    )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"no job {name[:64]}", hint="see: ironcore-backup job list")
