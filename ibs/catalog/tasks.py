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

_OWN = (
    "upid",
    "type",
    "id",
    "auth_id",
    "state",
    "started_ns",
    "ended_ns",
    "message",
    "warnings",
    "host",
    "job",
    "work",
)
_NAMES = (*_OWN, "figures")
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
    host: str = ""
    job: str = ""
    work: str = ""
    """JSON of what was asked for, where it can be asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks are wanted; what is empty passes everything. `user` is an auth-id, or one without its token.

    `since_ns` and `until_ns` are of the start, `until_ns` 0 for no bound.
    """

    states: frozenset[str] = frozenset()
    kind: str = ""
    auth_id: str = ""
    user: str = ""
    host: str = ""
    job: str = ""
    since_ns: int = 0
    until_ns: int = 0

    def passes(self, record: TaskRecord) -> bool:
        """Whether it is wanted."""
        return (
            (not self.states or record.state in self.states)
            and self.kind in ("", record.type)
            and self.auth_id in ("", record.auth_id)
            and self.user in ("", record.auth_id, record.auth_id.partition("!")[0])
            and self.host in ("", record.host)
            and self.job in ("", record.job)
            and self.since_ns <= record.started_ns
            and (not self.until_ns or record.started_ns < self.until_ns)
        )

    def sql(self) -> tuple[str, list[Any]]:
        """The same as a condition with its values."""
        where, values = ["started_ns >= ?"], list[Any]([self.since_ns])
        if self.until_ns:
            where.append("started_ns < ?")
            values.append(self.until_ns)
        if self.states:
            where.append(f"state IN ({', '.join('?' * len(self.states))})")
            values += sorted(self.states)
        for column, value in (("type", self.kind), ("auth_id", self.auth_id), ("host", self.host), ("job", self.job)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if self.user:
            where.append("(auth_id = ? OR substr(auth_id, 1, ?) = ?)")
            values += [self.user, len(self.user) + 1, f"{self.user}!"]
        return " AND ".join(where), values


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

    async def list(self, wanted: TaskFilter, *, limit: int) -> Sequence[TaskRecord]:
        """The newest first, at most `limit`."""
        where, values = wanted.sql()
        query = f"SELECT {_COLUMNS} FROM tasks WHERE {where} ORDER BY started_ns DESC, rowid DESC LIMIT ?"  # noqa: S608

        def work(connection: sqlite3.Connection) -> Sequence[TaskRecord]:
            return [_record(row) for row in connection.execute(query, (*values, limit))]

        return await self._database.read(work)

    async def unfinished(self) -> Sequence[TaskRecord]:
        """Tasks without an end, oldest first."""

        def work(connection: sqlite3.Connection) -> Sequence[TaskRecord]:
            query = f"SELECT {_COLUMNS} FROM tasks WHERE ended_ns IS NULL ORDER BY started_ns"  # noqa: S608
            return [_record(row) for row in connection.execute(query)]

        return await self._database.read(work)

    async def trim(self, keep: int, before_ns: int = 0) -> Sequence[str]:
        """Forget the oldest ended tasks beyond `keep`, and those that ended before `before_ns`; return their upids."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            query = """DELETE FROM tasks WHERE ended_ns IS NOT NULL AND (ended_ns < ? OR rowid IN (
                SELECT rowid FROM tasks ORDER BY started_ns DESC, rowid DESC LIMIT -1 OFFSET ?)) RETURNING upid"""
            return [str(row[0]) for row in connection.execute(query, (before_ns, keep)).fetchall()]

        return await self._database.write(work)


def _row(record: TaskRecord) -> tuple[Any, ...]:
    values = [getattr(record, name) for name in _OWN]
    return (*values, msgspec.json.encode(record.figures).decode())


def _record(row: Sequence[Any]) -> TaskRecord:
    values = dict(zip(_NAMES, row, strict=True))
    return TaskRecord(**{**values, "figures": msgspec.json.decode(row[-1], type=TaskFigures)})
