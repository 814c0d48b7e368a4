"""Notification targets, groups, rules and the outbox. Used by `services`.

An event reaches the inbox and the outbox of each of its targets in one transaction. A row of the outbox is `waiting`
until its target took it (`sent`); rows that are over stay as history, bounded in number.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from ibs.catalog.database import Database
from ibs.catalog.inbox import insert
from ibs.core import limits, limits_notify
from ibs.errors import ConflictError, NotFoundError
from ibs.wire.notification import GroupSpec, RuleSpec, TargetSpec, TestResult

Choose = Callable[[Mapping[str, Any], Sequence[RuleSpec], Sequence[GroupSpec], Sequence[str]], Sequence[str]]
W = TypeVar("W", GroupSpec, RuleSpec)
_TARGET = "name, spec, sealed, enabled, disabled_why, failures, retry_ns, test"
_POST = """o.id, o.target, o.event, o.time_ns, o.state, o.attempts, o.error,
    coalesce(m.payload, ''), coalesce(m.command, ''), coalesce(m.chars, 0)"""
_FROM = "FROM notification_outbox o LEFT JOIN notification_messages m ON m.id = o.message"
_WORDS: Mapping[type, str] = {GroupSpec: "group", RuleSpec: "rule"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRecord:
    """`sealed`: the secrets, encrypted; `retry_ns`: not before; `failures`: in a row."""

    name: str
    spec: TargetSpec
    sealed: bytes
    enabled: bool = True
    disabled_why: str = ""
    failures: int = 0
    retry_ns: int = 0
    test: TestResult | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """One event for one target; `event` as JSON types. `chars`: of the payload before it was cut."""

    id: int
    target: str
    event: Mapping[str, Any]
    time_ns: int
    state: str
    attempts: int
    error: str
    payload: str
    command: str
    chars: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one target: how much, when the oldest happened, whether an error is among it."""

    messages: int = 0
    oldest_ns: int = 0
    urgent: bool = False


class NotificationTable:
    """*Durability*: a change is kept when its call returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(
        self, inbox_row: tuple[Any, ...], event: Mapping[str, Any], choose: Choose, *, inbox: bool = True
    ) -> Sequence[str]:
        """Put an event into the inbox (unless it is not for there) and the outbox, both or none; whose it is."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            if inbox:
                insert(connection, inbox_row, limits.INBOX_ROWS_MAX)
            query = "SELECT name FROM notification_targets WHERE spec ->> '$.kind' <> 'pushgateway' ORDER BY name"
            names = [str(row[0]) for row in connection.execute(query)]
            if not names:
                return []
            chosen = choose(event, _words(connection, RuleSpec), _words(connection, GroupSpec), names)
            for name in chosen:
                _post(connection, name, event, int(inbox_row[0]), "waiting", "")
                dropped = connection.execute(
                    """UPDATE notification_outbox SET state = 'dropped', error = 'too many waited for the target'
                    WHERE target = ?1 AND state = 'waiting' AND id <= (SELECT id FROM notification_outbox
                        WHERE target = ?1 AND state = 'waiting' ORDER BY id DESC LIMIT 1 OFFSET ?2)""",
                    (name, limits_notify.WAITING_MAX),
                )
                if dropped.rowcount:
                    _prune(connection)
            return chosen

        return await self._database.write(work)

    async def targets(self) -> Sequence[TargetRecord]:
        """All, by name."""

        def work(connection: sqlite3.Connection) -> Sequence[TargetRecord]:
            query = f"SELECT {_TARGET} FROM notification_targets ORDER BY name"  # noqa: S608 - our names
            return [_target(row) for row in connection.execute(query).fetchall()]

        return await self._database.read(work)

    async def target(self, name: str) -> TargetRecord:
        """Raises NotFoundError."""
        for record in await self.targets():
            if record.name == name:
                return record
        raise _unknown("target", name)

    async def add_target(self, record: TargetRecord) -> None:
        """Raises ConflictError when its name is taken or there are too many."""

        def work(connection: sqlite3.Connection) -> None:
            names = {str(row[0]) for row in connection.execute("SELECT name FROM notification_targets")}
            if record.name in names:
                raise ConflictError(f"there is a target {record.name} already", hint="change it with `target update`")
            if len(names) >= limits_notify.TARGETS_MAX:
                raise ConflictError(f"there are {limits_notify.TARGETS_MAX} targets already", hint="remove unused ones")
            connection.execute(
                f"INSERT INTO notification_targets ({_TARGET}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    record.name,
                    msgspec.json.encode(record.spec).decode(),
                    record.sealed,
                    int(record.enabled),
                    record.disabled_why,
                    record.failures,
                    record.retry_ns,
                    msgspec.json.encode(record.test).decode(),
                ),
            )

        await self._database.write(work)

    async def change_target(self, name: str, spec: TargetSpec, sealed: bytes) -> None:
        """New settings and secrets; what waits may be tried at once. Raises NotFoundError."""
        change = "UPDATE notification_targets SET spec = ?, sealed = ?, failures = 0, retry_ns = 0"
        await self._change(name, change, (msgspec.json.encode(spec).decode(), sealed))

    async def steer(self, name: str, *, enabled: bool, why: str = "") -> None:
        """Enable (what waited is due at once) or disable. Raises NotFoundError."""
        change = "UPDATE notification_targets SET enabled = ?, disabled_why = ?, failures = 0, retry_ns = 0"
        await self._change(name, change, (int(enabled), why))

    async def tested(self, name: str, result: TestResult) -> None:
        """Keep how a test went. Raises NotFoundError."""
        change = "UPDATE notification_targets SET test = ?"
        await self._change(name, change, (msgspec.json.encode(result).decode(),))

    async def _change(self, name: str, change: str, values: tuple[Any, ...]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(f"{change} WHERE name = ?", (*values, name)).rowcount == 0:
                raise _unknown("target", name)

        await self._database.write(work)

    async def remove_target(self, name: str) -> None:
        """What waits for it is dropped. Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("DELETE FROM notification_targets WHERE name = ?", (name,)).rowcount == 0:
                raise _unknown("target", name)
            connection.execute("DELETE FROM notification_messages WHERE target = ?", (name,))
            connection.execute(
                """UPDATE notification_outbox SET state = 'dropped', error = 'the target was removed'
                WHERE target = ? AND state = 'waiting'""",
                (name,),
            )

        await self._database.write(work)

    async def waiting(self, target: str) -> int:
        """How many messages a target has still to get."""

        def work(connection: sqlite3.Connection) -> int:
            query = "SELECT count(*) FROM notification_outbox WHERE target = ? AND state = 'waiting'"
            return int(connection.execute(query, (target,)).fetchone()[0])

        return await self._database.read(work)

    async def backlog(self) -> Mapping[str, Backlog]:
        """What waits, by target; those for whom nothing does are left out."""

        def work(connection: sqlite3.Connection) -> Mapping[str, Backlog]:
            query = """SELECT target, count(*), min(time_ns),
                max(json_extract(event, '$.severity') IN ('error', 'critical'))
                FROM notification_outbox WHERE state = 'waiting' GROUP BY target"""
            return {str(row[0]): Backlog(int(row[1]), int(row[2]), bool(row[3])) for row in connection.execute(query)}

        return await self._database.read(work)

    async def due(self, target: str, limit: int = limits_notify.DIGEST_MAX) -> Sequence[Posted]:
        """What waits for a target, oldest first."""

        def work(connection: sqlite3.Connection) -> Sequence[Posted]:
            query = f"SELECT {_POST} {_FROM} WHERE o.target = ? AND o.state = 'waiting' ORDER BY o.id LIMIT ?"
            return [Posted(*_posted(row)) for row in connection.execute(query, (target, limit)).fetchall()]

        return await self._database.read(work)

    async def sent(self, target: str, ids: Sequence[int], payload: str, command: str, error: str = "") -> None:
        """They arrived, but for what `error` tells; the target is well again. Old history gives way."""

        def work(connection: sqlite3.Connection) -> None:
            query = "UPDATE notification_outbox SET state = 'sent', attempts = attempts + 1, error = ? WHERE id = ?"
            connection.executemany(query, [(error, number) for number in ids])
            _describe(connection, target, ids, payload, command)
            connection.execute("UPDATE notification_targets SET failures = 0, retry_ns = 0 WHERE name = ?", (target,))
            _prune(connection)

        await self._database.write(work)

    async def failed(
        self, target: str, ids: Sequence[int], *, error: str, payload: str, command: str, retry_ns: int, disable: bool
    ) -> None:
        """They wait on, until `retry_ns` or, with `disable`, until the target is enabled again."""

        def work(connection: sqlite3.Connection) -> None:
            query = "UPDATE notification_outbox SET attempts = attempts + 1, error = ? WHERE id = ?"
            connection.executemany(query, [(error, number) for number in ids])
            _describe(connection, target, ids, payload, command)
            connection.execute(
                """UPDATE notification_targets SET failures = failures + 1, retry_ns = ?,
                enabled = enabled AND NOT ?, disabled_why = CASE WHEN ? THEN ? ELSE disabled_why END WHERE name = ?""",
                (retry_ns, int(disable), int(disable), error, target),
            )

        await self._database.write(work)

    async def note(self, target: str, event: Mapping[str, Any], time_ns: int, state: str, error: str) -> int:
        """History of what did not wait, such as a test; its id."""
        return await self._database.write(lambda connection: _post(connection, target, event, time_ns, state, error))

    async def describe(self, target: str, number: int, payload: str, command: str) -> None:
        """Add to a row of the history what was sent."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE notification_outbox SET attempts = 1 WHERE id = ?", (number,))
            _describe(connection, target, [number], payload, command)
            _prune(connection)

        await self._database.write(work)

    async def history(
        self, target: str = "", number: int = 0, limit: int = limits.LIST_ROWS_MAX, state: str = ""
    ) -> Sequence[Posted]:
        """Newest first; of one target, or the one with that number, or those in that state."""

        def work(connection: sqlite3.Connection) -> Sequence[Posted]:
            query = f"""SELECT {_POST} {_FROM} WHERE (?1 = '' OR o.target = ?1)
                AND (?2 = 0 OR o.id = ?2) AND (?4 = '' OR o.state = ?4) ORDER BY o.id DESC LIMIT ?3"""
            return [
                Posted(*_posted(row)) for row in connection.execute(query, (target, number, limit, state)).fetchall()
            ]

        return await self._database.read(work)

    async def words(self, kind: type[W]) -> Sequence[W]:
        """All groups or all rules, by name."""
        return await self._database.read(lambda connection: _words(connection, kind))

    async def put_word(self, word: GroupSpec | RuleSpec) -> None:
        """Add it, or replace the one of that name. Raises NotFoundError for a target or group that is not."""

        def work(connection: sqlite3.Connection) -> None:
            known = {str(row[0]) for row in connection.execute("SELECT name FROM notification_targets")}
            for name in word.targets:
                if name not in known:
                    raise _unknown("target", name)
            groups = {group.name for group in _words(connection, GroupSpec)}
            for name in word.groups if isinstance(word, RuleSpec) else ():
                if name not in groups:
                    raise _unknown("group", name)
            count = connection.execute("SELECT count(*) FROM notification_words").fetchone()[0]
            if count >= limits_notify.WORDS_MAX:
                raise ConflictError(f"there are {limits_notify.WORDS_MAX} groups and rules", hint="remove unused ones")
            values = (_WORDS[type(word)], word.name, msgspec.json.encode(word).decode())
            connection.execute("INSERT OR REPLACE INTO notification_words (kind, name, spec) VALUES (?, ?, ?)", values)

        await self._database.write(work)

    async def remove_word(self, kind: type[GroupSpec | RuleSpec], name: str) -> None:
        """Raises NotFoundError."""

        def work(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM notification_words WHERE kind = ? AND name = ?"
            if connection.execute(query, (_WORDS[kind], name)).rowcount == 0:
                raise _unknown(_WORDS[kind], name)

        await self._database.write(work)


def _post(  # noqa: PLR0917 - the row, in its order
    connection: sqlite3.Connection, target: str, event: Mapping[str, Any], time_ns: int, state: str, error: str
) -> int:
    query = "INSERT INTO notification_outbox (target, event, time_ns, state, error) VALUES (?, ?, ?, ?, ?) RETURNING id"
    row = connection.execute(query, (target, json.dumps(dict(event)), time_ns, state, error)).fetchone()
    return int(row[0])


def _prune(connection: sqlite3.Connection) -> None:
    """Old history gives way; what waits stays, however old."""
    connection.execute(
        """DELETE FROM notification_outbox WHERE state <> 'waiting'
        AND id <= (SELECT max(id) FROM notification_outbox) - ?""",
        (limits_notify.HISTORY_ROWS_MAX,),
    )


def _describe(connection: sqlite3.Connection, target: str, ids: Sequence[int], payload: str, command: str) -> None:
    """What was sent for all of `ids` is kept once, in place of what an earlier attempt sent; the oldest give way."""
    marks = ", ".join("?" * len(ids))
    query = f"SELECT DISTINCT message FROM notification_outbox WHERE id IN ({marks}) AND message > 0"  # noqa: S608
    earlier = connection.execute(query, tuple(ids)).fetchall()
    connection.executemany("DELETE FROM notification_messages WHERE id = ?", earlier)
    kept = payload[: limits_notify.PAYLOAD_CHARS_MAX]
    query = "INSERT INTO notification_messages (target, chars, command, payload) VALUES (?, ?, ?, ?)"
    message = connection.execute(query, (target, len(payload), command, kept)).lastrowid
    query = "UPDATE notification_outbox SET message = ? WHERE id = ?"
    connection.executemany(query, [(message, number) for number in ids])
    connection.execute(
        """DELETE FROM notification_messages WHERE target = ?1 AND id <= (SELECT id FROM notification_messages
            WHERE target = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)""",
        (target, limits_notify.MESSAGES_KEPT_MAX),
    )


def _words(connection: sqlite3.Connection, kind: type[W]) -> list[W]:
    query = "SELECT spec FROM notification_words WHERE kind = ? ORDER BY name"
    return [msgspec.json.decode(str(row[0]), type=kind) for row in connection.execute(query, (_WORDS[kind],))]


def _target(row: Sequence[Any]) -> TargetRecord:
    name, spec, sealed, enabled, why, failures, retry_ns, test = row
    return TargetRecord(
        name=str(name),
        spec=msgspec.json.decode(spec, type=TargetSpec),
        sealed=bytes(sealed),
        enabled=bool(enabled),
        disabled_why=str(why),
        failures=int(failures),
        retry_ns=int(retry_ns),
        test=msgspec.json.decode(test, type=TestResult | None),
    )


def _posted(row: Sequence[Any]) -> tuple[Any, ...]:
    number, target, event, *rest = row
    return (number, target, msgspec.json.decode(event), *rest)


def _unknown(kind: str, name: str) -> NotFoundError:
    return NotFoundError(f"no {kind} {name[:64]}", hint=f"see: ironcore-backup notification {kind} list")
