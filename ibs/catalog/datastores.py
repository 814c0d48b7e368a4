"""Configured datastores: the catalog's side of `ports.catalog.DatastoreRecords`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ibs.catalog.database import Database
from ibs.errors import ConflictError, NotFoundError
from ibs.ports.catalog import DatastoreRecord

_COLUMNS = "name, path, uuid, comment"


class DatastoreTable:
    """Implements DatastoreRecords, and keeps each datastore's maintenance note."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[DatastoreRecord]:
        """All of them, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[DatastoreRecord]:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM datastores ORDER BY name")  # noqa: S608 - a constant
            return [DatastoreRecord(*row) for row in rows]

        return await self._database.read(work)

    async def add(self, record: DatastoreRecord) -> None:
        """Raises ConflictError when the name, the path or the uuid is taken."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_taken(connection, record, "datastores.name = ?1 OR path = ?2 OR uuid = ?3")
            values = (record.name, record.path, record.uuid, record.comment)
            connection.execute("INSERT INTO datastores (name, path, uuid, comment) VALUES (?, ?, ?, ?)", values)

        await self._database.write(work)

    async def update(self, record: DatastoreRecord) -> None:
        """Replace the record of that name. Raises NotFoundError; ConflictError when another has its path or uuid."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_taken(connection, record, "datastores.name <> ?1 AND (path = ?2 OR uuid = ?3)")
            values = (record.path, record.uuid, record.comment, record.name)
            _one(
                connection.execute("UPDATE datastores SET path = ?, uuid = ?, comment = ? WHERE name = ?", values),
                record.name,
            )

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            _one(connection.execute("DELETE FROM datastores WHERE name = ?", (name,)), name)

        await self._database.write(work)

    async def maintenance(self, name: str) -> str:
        """Why an operator keeps it from work; "" when nobody does. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> str:
            row = connection.execute("SELECT maintenance FROM datastores WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _not_found(name)
            return str(row[0])

        return await self._database.read(work)

    async def set_maintenance(self, name: str, why: str) -> None:
        """`why` "" ends it. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            _one(connection.execute("UPDATE datastores SET maintenance = ? WHERE name = ?", (why, name)), name)

        await self._database.write(work)


def _refuse_taken(connection: sqlite3.Connection, record: DatastoreRecord, where: str) -> None:
    query = f"SELECT {_COLUMNS} FROM datastores WHERE {where}"  # noqa: S608 - callers give constants
    row = connection.execute(query, (record.name, record.path, record.uuid)).fetchone()
    if row is None:
        return
    other = DatastoreRecord(*row)
    if other.name == record.name:
        raise ConflictError(f"datastore {record.name} exists already", hint="choose another name")
    what = f"path {record.path}" if other.path == record.path else f"uuid {record.uuid}"
    raise ConflictError(f"{what} belongs to datastore {other.name} already", hint="use that one, or another path")


def _one(cursor: sqlite3.Cursor, name: str) -> None:
    if cursor.rowcount != 1:
        raise _not_found(name)


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"datastore {name} does not exist", hint="see: ironcore-backup datastore list")
