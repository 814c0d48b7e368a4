"""Sync jobs as they are kept, with the times of their runs. Used by `services.syncjobs`.

*Durability*: a change is kept when its call returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from ibs.catalog.database import Database
from ibs.core import limits_sync
from ibs.errors import ConflictError, NotFoundError
from ibs.wire.sync import SyncSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJobRow:
    """The names are those of the columns. Times in ns since the epoch; `last_upid` "" before the first run."""

    name: str
    spec: SyncSpec
    enabled: bool
    changed_ns: int
    changed_by: str
    last_run_ns: int | None = None
    next_run_ns: int | None = None
    last_upid: str = ""


_FIELDS = tuple(SyncJobRow.__dataclass_fields__)
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM sync_jobs"  # noqa: S608 - our own names
_INSERT = f"INSERT INTO sync_jobs ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608 - as above


class SyncJobTable:
    """One row a job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[SyncJobRow]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[SyncJobRow]:
            return [_row(row) for row in connection.execute(f"{_SELECT} ORDER BY name")]

        return await self._database.read(work)

    async def get(self, name: str) -> SyncJobRow:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> SyncJobRow:
            row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _unknown(name)
            return _row(row)

        return await self._database.read(work)

    async def add(self, row: SyncJobRow) -> None:
        """Raises ConflictError when the name is taken, or there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(_INSERT, _values(row))
            except sqlite3.IntegrityError as error:
                raise ConflictError(f"sync job {row.name} exists already", hint="see: sync update --name") from error
            if connection.execute("SELECT count(*) FROM sync_jobs").fetchone()[0] > limits_sync.SYNC_JOBS_MAX:
                raise ConflictError(
                    f"there are {limits_sync.SYNC_JOBS_MAX} sync jobs already", hint="remove unused ones"
                )

        await self._database.write(work)

    async def change(self, row: SyncJobRow) -> None:
        """Replace what people set; what is known of runs stays, but for the next one. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            done = connection.execute(
                """UPDATE sync_jobs SET spec = ?, enabled = ?, changed_ns = ?, changed_by = ?, next_run_ns = ?
                WHERE name = ?""",
                (*_values(row)[1:5], row.next_run_ns, row.name),
            )
            if done.rowcount != 1:
                raise _unknown(row.name)

        await self._database.write(work)

    async def ran(self, name: str, upid: str, time_ns: int) -> None:
        """Note that a run began. An unknown name is passed over: it was removed meanwhile."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sync_jobs SET last_upid = ?, last_run_ns = ? WHERE name = ?", (upid, time_ns, name)
            )

        await self._database.write(work)

    async def plan(self, row: SyncJobRow, next_ns: int | None) -> None:
        """Set the next run, unless somebody changed the job since `row` was read."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sync_jobs SET next_run_ns = ? WHERE name = ? AND changed_ns = ?",
                (next_ns, row.name, row.changed_ns),
            )

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("DELETE FROM sync_jobs WHERE name = ?", (name,)).rowcount != 1:
                raise _unknown(name)

        await self._database.write(work)


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"no sync job {name[:64]}", hint="see: ironcore-backup sync list")


def _row(values: Sequence[object]) -> SyncJobRow:
    row = SyncJobRow(**dict(zip(_FIELDS, values, strict=True)))  # type: ignore[arg-type]
    return replace(row, spec=msgspec.json.decode(str(row.spec), type=SyncSpec), enabled=bool(row.enabled))


def _values(row: SyncJobRow) -> tuple[object, ...]:
    spec = msgspec.json.encode(row.spec).decode()
    return (row.name, spec, int(row.enabled), *(getattr(row, name) for name in _FIELDS[3:]))
