"""Rows of tasks: one for each, with its last known figures. The lines of a task's log are files, not rows.

Used by `engine.tasks` only, which owns the running ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ibs.catalog.database import Database
from ibs.wire.session import StageFigures

_NAMES = ("upid", "type", "id", "auth_id", "state", "started_ns", "ended_ns", "message", "warnings", "figures")
_COLUMNS = ", ".join(_NAMES)

_CHANGING = ("state", "ended_ns", "message", "warnings", "figures")
_SAVE = f"""INSERT INTO tasks ({_COLUMNS}) VALUES ({", ".join("?" * len(_NAMES))})
    ON CONFLICT (upid) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _CHANGING)}"""  # noqa: S608


class TaskFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Progress of a task. `total_bytes` 0: unknown; `waits_for` "": it does not wait."""

    done_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    waits_for: str = ""
    stages: dict[str, StageFigures] = {}


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as kept. `state` in the words of SPEC.md; times in ns since the epoch; `ended_ns` None: not yet."""

    upid: str
    type: str
    id: str
    auth_id: str
    state: str
    started_ns: int
    ended_ns: int | None = None
    message: str = ""
    warnings: int = 0
    figures: TaskFigures = field(default_factory=TaskFigures)


class TaskTable:
    """The rows of all tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, records: Iterable[TaskRecord]) -> None:
        """Add, or bring up to date, all in one transaction. *Durability*: kept when this returns."""
        rows = [_row(record) for record in records]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_SAVE, rows)

        await self._database.write(work)

    async def get(self, upid: str) -> TaskRecord | None:
        def work(connection: sqlite3.Connection) -> TaskRecord | None:
            row = connection.execute(f"SELECT {_COLUMNS} FROM tasks WHERE upid = ?", (upid,)).fetchone()  # noqa: S608
            return None if row is None else _record(row)

        return await self._database.read(work)

    async def list(
        self, *, states: Sequence[str] = (), kind: str = "", auth_id: str = "", limit: int
    ) -> Sequence[TaskRecord]:
        """The newest first, at most `limit`; empty filters pass everything."""
        where, values = ["1"], list[Any]()
        if states:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if kind:
            where.append("type = ?")
            values.append(kind)
        if auth_id:
            where.append("auth_id = ?")
            values.append(auth_id)
        query = f"SELECT {_COLUMNS} FROM tasks WHERE {' AND '.join(where)} ORDER BY started_ns DESC, rowid DESC LIMIT ?"  # noqa: S608

        def work(connection: sqlite3.Connection) -> Sequence[TaskRecord]:
            return [_record(row) for row in connection.execute(query, (*values, limit))]

        return await self._database.read(work)

    async def unfinished(self) -> Sequence[TaskRecord]:
        """Tasks without an end, oldest first."""

        def work(connection: sqlite3.Connection) -> Sequence[TaskRecord]:
            query = f"SELECT {_COLUMNS} FROM tasks WHERE ended_ns IS NULL ORDER BY started_ns"  # noqa: S608
            return [_record(row) for row in connection.execute(query)]

        return await self._database.read(work)

    async def trim(self, keep: int) -> Sequence[str]:
        """Forget the oldest ended tasks beyond `keep`; return their upids."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            query = """DELETE FROM tasks WHERE ended_ns IS NOT NULL AND rowid IN (
                SELECT rowid FROM tasks ORDER BY started_ns DESC, rowid DESC LIMIT -1 OFFSET ?) RETURNING upid"""
            return [str(row[0]) for row in connection.execute(query, (keep,)).fetchall()]

        return await self._database.write(work)


def _row(record: TaskRecord) -> tuple[Any, ...]:
    values = [getattr(record, name) for name in _NAMES[:-1]]
    return (*values, msgspec.json.encode(record.figures).decode())


def _record(row: Sequence[Any]) -> TaskRecord:
    values = dict(zip(_NAMES, row, strict=True))
    return TaskRecord(**{**values, "figures": msgspec.json.decode(row[-1], type=TaskFigures)})
