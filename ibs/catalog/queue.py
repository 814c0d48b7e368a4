"""The worker's queue as it outlives the server: tasks that wait, and those that had begun.

Used by `services.workqueue` and, to queue what a job wants in one transaction with the job's next time, by
`catalog.jobs`. A row is there before its task is, and goes when the task has ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from ibs.catalog.database import Database
from ibs.wire.system import BackupRun

_COLUMNS = "upid, id, auth_id, queued_ns, not_before_ns, attempt, began, run"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecord:
    """A task in the queue. `not_before_ns` 0: at once; `attempt` counts from 1; times in ns since the epoch."""

    upid: str
    id: str
    auth_id: str
    queued_ns: int
    run: BackupRun
    not_before_ns: int = 0
    attempt: int = 1
    began: bool = False


class QueueTable:
    """All rows of the queue. *Durability*: a change is kept when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[QueueRecord]:
        """All, the oldest first."""

        def work(connection: sqlite3.Connection) -> Sequence[QueueRecord]:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM queue ORDER BY queued_ns, upid")  # noqa: S608
            return [_record(row) for row in rows]

        return await self._database.read(work)

    async def waiting(self) -> Collection[str]:
        """The upids of those that have not begun."""

        def work(connection: sqlite3.Connection) -> Collection[str]:
            return {str(row[0]) for row in connection.execute("SELECT upid FROM queue WHERE began = 0")}

        return await self._database.read(work)

    async def add(self, records: Iterable[QueueRecord]) -> None:
        """Put them in, all or none."""
        rows = list(records)
        await self._database.write(lambda connection: insert(connection, rows))

    async def begin(self, upid: str) -> None:
        """It gets a slot now: whatever happens, it is not begun a second time."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE queue SET began = 1 WHERE upid = ?", (upid,))

        await self._database.write(work)

    async def settle(self, upid: str, again: QueueRecord | None = None) -> None:
        """It has ended; `again` takes its place."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM queue WHERE upid = ?", (upid,))
            insert(connection, [again] if again is not None else [])

        await self._database.write(work)


def insert(connection: sqlite3.Connection, records: Iterable[QueueRecord]) -> None:
    """Add rows inside a transaction of somebody's."""
    connection.executemany(
        f"INSERT INTO queue ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our names
        [
            (
                one.upid,
                one.id,
                one.auth_id,
                one.queued_ns,
                one.not_before_ns,
                one.attempt,
                int(one.began),
                msgspec.json.encode(one.run).decode(),
            )
            for one in records
        ],
    )


def _record(row: Sequence[object]) -> QueueRecord:
    upid, id_, auth_id, queued_ns, not_before_ns, attempt, began, run = row
    return QueueRecord(
        upid=str(upid),
        id=str(id_),
        auth_id=str(auth_id),
        queued_ns=int(str(queued_ns)),
        not_before_ns=int(str(not_before_ns)),
        attempt=int(str(attempt)),
        began=bool(began),
        run=msgspec.json.decode(str(run), type=BackupRun),
    )
