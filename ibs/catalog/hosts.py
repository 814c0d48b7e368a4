"""Hosts with an agent, and the invitations of those that have not joined yet.

Used by `services.hosts_book`. Of a join token only a keyed digest is kept, and its use is one statement: whoever comes
second with the same token finds it used, whatever happened to the first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ibs.catalog.database import Database
from ibs.core import limits
from ibs.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True)
class HostRecord:
    """`auth_id` "" and `joined_ns` None: it has not joined yet. Times in ns since the epoch."""

    name: str
    created_ns: int
    tags: tuple[str, ...] = ()
    project: str = ""
    auth_id: str = ""
    joined_ns: int | None = None
    version: str = ""
    system: str = ""
    address: str = ""
    last_contact_ns: int | None = None
    invite_digest: bytes | None = field(default=None, repr=False)
    invite_expires_ns: int | None = None
    invite_used_ns: int | None = None


_COLUMNS = (
    "name, created_ns, tags, project, auth_id, joined_ns, version, system, address, last_contact_ns, "
    "invite_digest, invite_expires_ns, invite_used_ns"
)


class HostTable:
    """One row a host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[HostRecord]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[HostRecord]:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM hosts ORDER BY name")  # noqa: S608 - a constant
            return [_record(row) for row in rows]

        return await self._database.read(work)

    async def put(self, record: HostRecord) -> None:
        """Add or replace. *Durability*: kept when this returns. Raises ConflictError when there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            known = connection.execute("SELECT 1 FROM hosts WHERE name = ?", (record.name,)).fetchone()
            if known is None and _count(connection) >= limits.HOSTS_MAX:
                raise ConflictError(f"there are {limits.HOSTS_MAX} hosts already", hint="remove unused ones")
            marks = ", ".join("?" * len(_values(record)))
            query = f"INSERT OR REPLACE INTO hosts ({_COLUMNS}) VALUES ({marks})"  # noqa: S608 - our names
            connection.execute(query, _values(record))

        await self._database.write(work)

    async def use_invite(self, name: str, digest: bytes, now_ns: int) -> bool:
        """Use the invitation up; False when it is not there, another one, used or expired. *Durability*: kept."""

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                """UPDATE hosts SET invite_used_ns = ?1
                WHERE name = ?2 AND invite_digest = ?3 AND invite_used_ns IS NULL AND invite_expires_ns > ?1""",
                (now_ns, name, digest),
            )
            return cursor.rowcount == 1

        return await self._database.write(work)

    async def contacts(self, times: Mapping[str, int]) -> None:
        """Note when hosts were last heard; unknown ones are passed over."""
        rows = [(time, name) for name, time in times.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE hosts SET last_contact_ns = ? WHERE name = ?", rows)

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("DELETE FROM hosts WHERE name = ?", (name,)).rowcount != 1:
                raise NotFoundError(f"no host {name}", hint="see: ironcore-backup host list")

        await self._database.write(work)


def _record(row: Sequence[object]) -> HostRecord:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["tags"] = tuple(msgspec.json.decode(str(values["tags"]), type=list[str]))
    return HostRecord(**values)  # type: ignore[arg-type]


def _values(record: HostRecord) -> tuple[object, ...]:
    tags = msgspec.json.encode(record.tags).decode()
    return tuple(tags if name == "tags" else getattr(record, name) for name in _COLUMNS.split(", "))


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM hosts").fetchone()[0])
