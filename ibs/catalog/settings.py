"""Named values of the server that outlive it, such as its uuid. Used through `Catalog.settings`."""

from __future__ import annotations

import sqlite3
from functools import partial

from ibs.catalog.database import Database


class Settings:
    """A durable map of names to texts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> str | None:
        """The value, or None."""
        return await self._database.read(partial(_get, name=name))

    async def set(self, name: str, value: str) -> None:
        """*Durability*: kept when this returns."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, value))

        await self._database.write(work)

    async def ensure(self, name: str, value: str) -> str:
        """The value of `name`; it becomes `value` if it had none."""

        def work(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT OR IGNORE INTO settings (name, value) VALUES (?, ?)", (name, value))
            return _get(connection, name=name) or value

        return await self._database.write(work)


def _get(connection: sqlite3.Connection, *, name: str) -> str | None:
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])
