"""Users, tokens, roles, groups and access rules as rows: `ports.access.AccessRecords` on SQLite.

What they mean is decided in `core.access` and `security`; here only counts and references are guarded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ibs.catalog.database import Database
from ibs.core import limits, limits_access
from ibs.errors import ConflictError, NotFoundError
from ibs.ports.access import AclRecord, FailureRecord, GroupRecord, LoginRecord, RoleRecord, TokenRecord, UserRecord


class AccessTable:
    """Implements AccessRecords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def users(self) -> Sequence[UserRecord]:
        """All, by auth-id."""

        def work(connection: sqlite3.Connection) -> Sequence[UserRecord]:
            rows = connection.execute("SELECT auth_id, enabled, comment, created_ns FROM users ORDER BY auth_id")
            return [UserRecord(auth_id, bool(enabled), comment, created) for auth_id, enabled, comment, created in rows]

        return await self._database.read(work)

    async def add_user(self, record: UserRecord) -> None:
        """Raises ConflictError when it exists, or there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_present(connection, "users", record.auth_id)
            _refuse_full(connection, "users", limits.USERS_MAX)
            values = (record.auth_id, int(record.enabled), record.comment, record.created_ns)
            connection.execute("INSERT INTO users (auth_id, enabled, comment, created_ns) VALUES (?, ?, ?, ?)", values)

        await self._database.write(work)

    async def set_user(self, auth_id: str, *, enabled: bool) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            cursor = connection.execute("UPDATE users SET enabled = ? WHERE auth_id = ?", (int(enabled), auth_id))
            _one(cursor, f"user {auth_id}")

        await self._database.write(work)

    async def remove_user(self, auth_id: str) -> None:
        """With its tokens (by the foreign key) and all rules that name it or them. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            of_it = "auth_id = ?1 OR auth_id IN (SELECT auth_id FROM tokens WHERE user = ?1)"
            connection.execute(f"DELETE FROM acl WHERE {of_it}", (auth_id,))  # noqa: S608 - a constant
            _one(connection.execute("DELETE FROM users WHERE auth_id = ?", (auth_id,)), f"user {auth_id}")

        await self._database.write(work)

    async def tokens(self) -> Sequence[TokenRecord]:
        """All, by auth-id."""

        def work(connection: sqlite3.Connection) -> Sequence[TokenRecord]:
            rows = connection.execute(
                """SELECT auth_id, user, digest, enabled, comment, created_ns, expires_ns, last_used_ns
                FROM tokens ORDER BY auth_id"""
            )
            return [TokenRecord(row[0], row[1], bytes(row[2]), bool(row[3]), *row[4:]) for row in rows]

        return await self._database.read(work)

    async def add_token(self, record: TokenRecord) -> None:
        """Raises ConflictError when it exists, or there are too many; NotFoundError without the user."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_present(connection, "tokens", record.auth_id)
            _refuse_full(connection, "tokens", limits.TOKENS_MAX)
            _put_token(connection, record)

        await self._database.write(work)

    async def put_token(self, record: TokenRecord) -> None:
        """Add, or replace the token of that auth-id; its rules stay. Raises NotFoundError without the user."""
        await self._database.write(lambda connection: _put_token(connection, record))

    async def set_token(self, auth_id: str, *, enabled: bool) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            cursor = connection.execute("UPDATE tokens SET enabled = ? WHERE auth_id = ?", (int(enabled), auth_id))
            _one(cursor, f"token {auth_id}")

        await self._database.write(work)

    async def remove_token(self, auth_id: str) -> None:
        """With the rules that name it. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM acl WHERE auth_id = ?", (auth_id,))
            _one(connection.execute("DELETE FROM tokens WHERE auth_id = ?", (auth_id,)), f"token {auth_id}")

        await self._database.write(work)

    async def tokens_used(self, times: Mapping[str, int]) -> None:
        """Note when tokens last came in; unknown ones are passed over."""
        rows = [(time, auth_id) for auth_id, time in times.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE tokens SET last_used_ns = ? WHERE auth_id = ?", rows)

        await self._database.write(work)

    async def rules(self) -> Sequence[AclRecord]:
        """All, by path."""

        def work(connection: sqlite3.Connection) -> Sequence[AclRecord]:
            rows = connection.execute("SELECT path, auth_id, role, propagate FROM acl ORDER BY path, auth_id, role")
            return [AclRecord(path, auth_id, role, bool(propagate)) for path, auth_id, role, propagate in rows]

        return await self._database.read(work)

    async def grant(self, rule: AclRecord) -> None:
        """Add, or replace the rule of the same path, auth-id and role. Raises ConflictError: too many."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_full(connection, "acl", limits.ACL_RULES_MAX)
            connection.execute(
                "INSERT OR REPLACE INTO acl (path, auth_id, role, propagate) VALUES (?, ?, ?, ?)",
                (rule.path, rule.auth_id, rule.role, int(rule.propagate)),
            )

        await self._database.write(work)

    async def revoke(self, path: str, auth_id: str, role: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM acl WHERE path = ? AND auth_id = ? AND role = ?"
            _one(connection.execute(query, (path, auth_id, role)), f"the rule {role} on {path} for {auth_id}")

        await self._database.write(work)

    async def roles(self) -> Sequence[RoleRecord]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[RoleRecord]:
            rows = connection.execute("SELECT name, privileges, comment FROM roles ORDER BY name")
            return [RoleRecord(name, tuple(privileges.split()), comment) for name, privileges, comment in rows]

        return await self._database.read(work)

    async def add_role(self, record: RoleRecord) -> None:
        """Raises ConflictError when it exists, or there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_present(connection, "roles", record.name, "name")
            _refuse_full(connection, "roles", limits_access.ROLES_MAX)
            values = (record.name, " ".join(record.privileges), record.comment)
            connection.execute("INSERT INTO roles (name, privileges, comment) VALUES (?, ?, ?)", values)

        await self._database.write(work)

    async def set_role(self, record: RoleRecord) -> None:
        """Replace the role of that name. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            values = (" ".join(record.privileges), record.comment, record.name)
            cursor = connection.execute("UPDATE roles SET privileges = ?, comment = ? WHERE name = ?", values)
            _one(cursor, f"role {record.name}")

        await self._database.write(work)

    async def remove_role(self, name: str) -> None:
        """Raises NotFoundError; ConflictError while a rule gives it."""

        def work(connection: sqlite3.Connection) -> None:
            query = "SELECT count(*), min(path || ' for ' || auth_id) FROM acl WHERE role = ?"
            used, first = connection.execute(query, (name,)).fetchone()
            if used:
                hint = "revoke it first: ironcore-backup acl list, acl revoke"
                rules = "1 rule:" if used == 1 else f"{used} rules, such as"
                raise ConflictError(f"role {name} is given by {rules} {first}", hint=hint)
            _one(connection.execute("DELETE FROM roles WHERE name = ?", (name,)), f"role {name}")

        await self._database.write(work)

    async def groups(self) -> Sequence[GroupRecord]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[GroupRecord]:
            members: dict[str, list[str]] = {}
            for name, auth_id in connection.execute("SELECT name, auth_id FROM user_group_members ORDER BY 1, 2"):
                members.setdefault(name, []).append(auth_id)
            rows = connection.execute("SELECT name, comment FROM user_groups ORDER BY name")
            return [GroupRecord(name, tuple(members.get(name, ())), comment) for name, comment in rows]

        return await self._database.read(work)

    async def add_group(self, record: GroupRecord) -> None:
        """Raises ConflictError when it exists, or there are too many; NotFoundError for a member that is no user."""

        def work(connection: sqlite3.Connection) -> None:
            _refuse_present(connection, "user_groups", record.name, "name")
            _refuse_full(connection, "user_groups", limits_access.GROUPS_MAX)
            values = (record.name, record.comment)
            connection.execute("INSERT INTO user_groups (name, comment) VALUES (?, ?)", values)
            _put_members(connection, record)

        await self._database.write(work)

    async def set_group(self, record: GroupRecord) -> None:
        """Replace the group of that name. Raises NotFoundError, also for a member that is no user."""

        def work(connection: sqlite3.Connection) -> None:
            values = (record.comment, record.name)
            cursor = connection.execute("UPDATE user_groups SET comment = ? WHERE name = ?", values)
            _one(cursor, f"group of users {record.name}")
            connection.execute("DELETE FROM user_group_members WHERE name = ?", (record.name,))
            _put_members(connection, record)

        await self._database.write(work)

    async def remove_group(self, name: str, holder: str) -> None:
        """With the rules for `holder`, the name that rules know it by. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM acl WHERE auth_id = ?", (holder,))
            _one(connection.execute("DELETE FROM user_groups WHERE name = ?", (name,)), f"group of users {name}")

        await self._database.write(work)

    async def login(self, auth_id: str) -> LoginRecord | None:
        """None when the user has none, or does not exist."""

        def work(connection: sqlite3.Connection) -> LoginRecord | None:
            query = "SELECT auth_id, password, totp, totp_step, recovery FROM logins WHERE auth_id = ?"
            row = connection.execute(query, (auth_id,)).fetchone()
            return None if row is None else LoginRecord(row[0], row[1], bytes(row[2]), row[3], row[4])

        return await self._database.read(work)

    async def failures(self) -> Sequence[FailureRecord]:
        """Wrong logins of late, the oldest first."""

        def work(connection: sqlite3.Connection) -> Sequence[FailureRecord]:
            rows = connection.execute("SELECT kind, name, count, last_ns FROM login_failures ORDER BY last_ns")
            return [FailureRecord(*row) for row in rows]

        return await self._database.read(work)

    async def note_failures(self, records: Sequence[FailureRecord], *, since_ns: int, rows_max: int) -> None:
        """Add or replace; those before `since_ns` go, and the oldest of more than `rows_max` of a kind."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_failures WHERE last_ns < ?", (since_ns,))
            for record in records:
                connection.execute(
                    """INSERT OR REPLACE INTO login_failures (kind, name, count, last_ns)
                    VALUES (:kind, :name, :count, :last_ns)""",
                    asdict(record),
                )
                connection.execute(
                    """DELETE FROM login_failures WHERE kind = ?1 AND name IN (SELECT name FROM login_failures
                    WHERE kind = ?1 ORDER BY last_ns DESC, name LIMIT -1 OFFSET ?2)""",
                    (record.kind, rows_max),
                )

        await self._database.write(work)

    async def forget_failures(self, kind: str, name: str) -> None:
        """Somebody got in. Nothing when there is none."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_failures WHERE kind = ? AND name = ?", (kind, name))

        await self._database.write(work)

    async def set_login(self, record: LoginRecord) -> None:
        """Add or replace. Raises NotFoundError without the user."""

        def work(connection: sqlite3.Connection) -> None:
            if not _present(connection, "users", record.auth_id):
                raise _not_found(f"user {record.auth_id}")
            connection.execute(
                """INSERT OR REPLACE INTO logins (auth_id, password, totp, totp_step, recovery)
                VALUES (:auth_id, :password, :totp, :totp_step, :recovery)""",
                asdict(record),
            )

        await self._database.write(work)


def _put_members(connection: sqlite3.Connection, record: GroupRecord) -> None:
    for member in record.members:
        if not _present(connection, "users", member):
            raise _not_found(f"user {member}")
        connection.execute("INSERT INTO user_group_members (name, auth_id) VALUES (?, ?)", (record.name, member))


def _put_token(connection: sqlite3.Connection, record: TokenRecord) -> None:
    if not _present(connection, "users", record.user):
        raise _not_found(f"user {record.user}")
    values = {**asdict(record), "enabled": int(record.enabled)}
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT OR REPLACE INTO tokens ({names}) VALUES ({marks})", values)  # noqa: S608 - our names


def _present(connection: sqlite3.Connection, table: str, auth_id: str, column: str = "auth_id") -> bool:
    query = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608 - callers give constants
    return connection.execute(query, (auth_id,)).fetchone() is not None


def _refuse_present(connection: sqlite3.Connection, table: str, auth_id: str, column: str = "auth_id") -> None:
    if _present(connection, table, auth_id, column):
        raise ConflictError(f"{auth_id} exists already", hint="choose another name, or remove it first")


def _refuse_full(connection: sqlite3.Connection, table: str, rows_max: int) -> None:
    count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - callers give constants
    if count >= rows_max:
        raise ConflictError(f"there are {count} {table} rows already, no more are kept", hint="remove unused ones")


def _one(cursor: sqlite3.Cursor, what: str) -> None:
    if cursor.rowcount != 1:
        raise _not_found(what)


def _not_found(what: str) -> NotFoundError:
    return NotFoundError(
        f"{what} does not exist", hint="see: ironcore-backup user list, token list, usergroup list, role list, acl list"
    )
