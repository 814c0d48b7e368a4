"""The inbox: events kept for people to look at. Used by `services.notify` and `control`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ibs.catalog.database import Database
from ibs.core import limits


@dataclass(frozen=True, slots=True)
class InboxRecord:
    """An event in the inbox. `id` grows; `time_ns` since the epoch; `fields` JSON types only."""

    id: int
    time_ns: int
    severity: str
    source: str
    kind: str
    text: str
    fields: Mapping[str, Any]


class InboxTable:
    """At most `limits.INBOX_ROWS_MAX` events; the oldest give way."""

    def __init__(self, database: Database, rows_max: int = limits.INBOX_ROWS_MAX) -> None:
        self._database = database
        self._rows_max = rows_max

    async def add(
        self, *, time_ns: int, severity: str, source: str, kind: str, text: str, fields: Mapping[str, Any]
    ) -> int:
        """Keep an event; return its id. *Durability*: kept when this returns."""
        row = (time_ns, severity, source, kind, text, msgspec.json.encode(fields).decode())

        def work(connection: sqlite3.Connection) -> int:
            return insert(connection, row, self._rows_max)

        return await self._database.write(work)

    async def list(
        self, *, after: int = 0, limit: int = limits.LIST_ROWS_MAX, severities: Collection[str] = (), source: str = ""
    ) -> Sequence[InboxRecord]:
        """The newest first; only those with an id over `after`, of these `severities` (none: all), of one `source`."""

        def work(connection: sqlite3.Connection) -> Sequence[InboxRecord]:
            query = """SELECT id, time_ns, severity, source, kind, text, fields FROM inbox
                WHERE id > ?1 AND (?2 = '[]' OR severity IN (SELECT value FROM json_each(?2)))
                AND (?3 = '' OR source = ?3) ORDER BY id DESC LIMIT ?4"""
            wanted = msgspec.json.encode(list(severities)).decode()
            rows = connection.execute(query, (after, wanted, source, limit))
            return [_record(row) for row in rows]

        return await self._database.read(work)


def insert(connection: sqlite3.Connection, row: tuple[Any, ...], rows_max: int) -> int:
    """Keep (time_ns, severity, source, kind, text, fields as JSON) within a caller's transaction; its id."""
    columns = "time_ns, severity, source, kind, text, fields"
    query = f"INSERT INTO inbox ({columns}) VALUES (?, ?, ?, ?, ?, ?) RETURNING id"  # noqa: S608 - a constant
    number = int(connection.execute(query, row).fetchone()[0])
    connection.execute("DELETE FROM inbox WHERE id <= ?", (number - rows_max,))
    return number


def _record(row: Sequence[Any]) -> InboxRecord:
    number, time_ns, severity, source, kind, text, fields = row
    return InboxRecord(number, time_ns, severity, source, kind, text, msgspec.json.decode(fields))
