"""Remotes: other servers, how to reach them, and as whom. Used by `services.remotes`.

The secret is sealed before it comes here. *Durability*: a change is kept when its call returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from ibs.catalog.database import Database
from ibs.core import limits_sync
from ibs.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRow:
    """The names are those of the columns. `signer` "" until the first contact. Times in ns since the epoch."""

    name: str
    host: str
    port: int
    auth_id: str
    sealed: bytes = field(repr=False)
    fingerprint: str
    comment: str = ""
    signer: str = ""
    contact_ns: int | None = None
    trouble: str = ""


_FIELDS = tuple(RemoteRow.__dataclass_fields__)
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM remotes"  # noqa: S608 - our own names
_INSERT = f"INSERT INTO remotes ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608 - as above
_UPDATE = f"UPDATE remotes SET {', '.join(f'{name} = ?' for name in _FIELDS[1:])} WHERE name = ?"  # noqa: S608 - as above


class RemoteTable:
    """One row a remote."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[RemoteRow]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[RemoteRow]:
            return [_row(row) for row in connection.execute(f"{_SELECT} ORDER BY name")]

        return await self._database.read(work)

    async def get(self, name: str) -> RemoteRow:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> RemoteRow:
            row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _unknown(name)
            return _row(row)

        return await self._database.read(work)

    async def add(self, row: RemoteRow) -> None:
        """Raises ConflictError when the name is taken, or there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(_INSERT, _values(row))
            except sqlite3.IntegrityError as error:
                raise ConflictError(f"remote {row.name} exists already", hint="see: remote update --name") from error
            if connection.execute("SELECT count(*) FROM remotes").fetchone()[0] > limits_sync.REMOTES_MAX:
                raise ConflictError(f"there are {limits_sync.REMOTES_MAX} remotes already", hint="remove unused ones")

        await self._database.write(work)

    async def update(self, row: RemoteRow) -> None:
        """Replace the row of that name. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(_UPDATE, (*_values(row)[1:], row.name)).rowcount != 1:
                raise _unknown(row.name)

        await self._database.write(work)

    async def contact(self, name: str, time_ns: int | None, trouble: str) -> None:
        """Note how a contact went; `time_ns` None when it did not come about. An unknown name is passed over."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE remotes SET contact_ns = coalesce(?, contact_ns), trouble = ? WHERE name = ?",
                (time_ns, trouble, name),
            )

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("DELETE FROM remotes WHERE name = ?", (name,)).rowcount != 1:
                raise _unknown(name)

        await self._database.write(work)


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"no remote {name[:100]}", hint="see: ironcore-backup remote list")


def _row(values: Sequence[object]) -> RemoteRow:
    return RemoteRow(**dict(zip(_FIELDS, values, strict=True)))  # type: ignore[arg-type]


def _values(row: RemoteRow) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _FIELDS)
