"""Registered data keys, a row for each scope, and the policies that demand encryption.

Used by `services.keys`. Only public halves are here. *Durability*: a change is kept when its call returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from ibs.catalog.database import Database
from ibs.core import limits_keys
from ibs.errors import ConflictError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key in one scope; the names are those of the columns. Times in ns since the epoch."""

    fingerprint: str
    datastore: str
    namespace: str
    signer: str
    comment: str
    state: str
    replaced_by: str = ""
    added_ns: int
    added_by: str
    retired_ns: int | None = None
    retired_by: str = ""
    public: str
    last_seen_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """`required`: only encrypted snapshots may be made there."""

    datastore: str
    namespace: str
    required: bool
    set_ns: int
    set_by: str


_KEY = tuple(KeyRow.__dataclass_fields__)
_POLICY = tuple(PolicyRow.__dataclass_fields__)
_KEYS = f"SELECT {', '.join(_KEY)} FROM data_keys"  # noqa: S608 - our own names
_PUT_KEY = f"INSERT OR REPLACE INTO data_keys ({', '.join(_KEY)}) VALUES ({', '.join('?' * len(_KEY))})"  # noqa: S608
_POLICIES = f"SELECT {', '.join(_POLICY)} FROM key_policies ORDER BY datastore, namespace"  # noqa: S608 - as above
_PUT_POLICY = f"INSERT OR REPLACE INTO key_policies ({', '.join(_POLICY)}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608


class KeyTable:
    """Both tables: they are small and belong together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, fingerprint: str = "") -> Sequence[KeyRow]:
        """All rows, or those of one key, in a steady order."""

        def work(connection: sqlite3.Connection) -> Sequence[KeyRow]:
            where, given = (" WHERE fingerprint = ?", (fingerprint,)) if fingerprint else ("", ())
            rows = connection.execute(f"{_KEYS}{where} ORDER BY added_ns, fingerprint, datastore, namespace", given)
            return [KeyRow(**dict(zip(_KEY, row, strict=True))) for row in rows]

        return await self._database.read(work)

    async def put(self, rows: Sequence[KeyRow]) -> None:
        """Add or replace, all of them or none. Raises ConflictError when there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_PUT_KEY, [astuple(row) for row in rows])
            if _count(connection, "data_keys") > limits_keys.REGISTERED_KEYS_MAX:
                raise ConflictError(
                    f"there are {limits_keys.REGISTERED_KEYS_MAX} registered keys already",
                    hint="remove some that no snapshot needs: ironcore-backup key remove",
                )

        await self._database.write(work)

    async def seen(self, fingerprint: str, datastore: str, namespace: str, now_ns: int) -> None:
        """Note when a backup came with the key in that scope; nothing when the row is gone."""

        def work(connection: sqlite3.Connection) -> None:
            where = "fingerprint = ? AND datastore = ? AND namespace = ?"
            query = f"UPDATE data_keys SET last_seen_ns = ? WHERE {where}"  # noqa: S608 - a constant
            connection.execute(query, (now_ns, fingerprint, datastore, namespace))

        await self._database.write(work)

    async def remove(self, fingerprint: str) -> None:
        """All rows of a key; none is no error."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM data_keys WHERE fingerprint = ?", (fingerprint,))

        await self._database.write(work)

    async def policies(self) -> Sequence[PolicyRow]:
        """All policies, by place."""

        def work(connection: sqlite3.Connection) -> Sequence[PolicyRow]:
            return [_policy(row) for row in connection.execute(_POLICIES)]

        return await self._database.read(work)

    async def put_policy(self, row: PolicyRow) -> None:
        """Set one. Raises ConflictError when there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT_POLICY, astuple(row))
            if _count(connection, "key_policies") > limits_keys.KEY_POLICIES_MAX:
                raise ConflictError(f"there are {limits_keys.KEY_POLICIES_MAX} policies already", hint="unset some")

        await self._database.write(work)

    async def remove_policy(self, datastore: str, namespace: str) -> bool:
        """Unset one; False when there was none."""

        def work(connection: sqlite3.Connection) -> bool:
            query = "DELETE FROM key_policies WHERE datastore = ? AND namespace = ?"
            return connection.execute(query, (datastore, namespace)).rowcount == 1

        return await self._database.write(work)


def _policy(row: Sequence[object]) -> PolicyRow:
    values = dict(zip(_POLICY, row, strict=True))
    return PolicyRow(**{**values, "required": bool(values["required"])})  # type: ignore[arg-type]


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names
