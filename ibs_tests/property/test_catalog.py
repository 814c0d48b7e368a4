"""The catalog against simple models: tasks, identities, transactions that fail, logs cut anywhere."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ibs.catalog.catalog import Catalog, open_catalog
from ibs.catalog.tasks import TaskFilter, TaskRecord
from ibs.engine import tasklog
from ibs.errors import ConflictError, NotFoundError
from ibs.ports.access import AclRecord, TokenRecord, UserRecord

FEW = settings(max_examples=40, deadline=None)
STATES = ("running", "OK", "FAILED")


def in_catalog(test: Callable[[Catalog], Awaitable[None]]) -> None:
    """Run `test` in a fresh catalog, without threads."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_catalog(Path(folder) / "state", inline=True) as catalog:
                await test(catalog)

    trio.run(main)


TASKS = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(STATES), st.sampled_from(("backup", "gc"))), max_size=30)


@FEW
@given(TASKS, st.integers(0, 9), st.sampled_from(((), ("OK",), ("OK", "FAILED"))), st.integers(1, 9))
def test_tasks_are_what_was_saved_last(saves: Any, keep: int, states: tuple[str, ...], limit: int) -> None:
    async def test(catalog: Catalog) -> None:
        model: dict[str, TaskRecord] = {}
        for number, state, kind in saves:
            upid, ended = f"UPID:{number}", None if state == "running" else number
            first = model.get(upid, TaskRecord(upid, kind, "main", "root@ibs", state, started_ns=number))
            model[upid] = replace(first, state=state, ended_ns=ended)
            await catalog.tasks.save([model[upid]])
        newest = sorted(model.values(), key=lambda record: -record.started_ns)
        wanted = [record for record in newest if not states or record.state in states][:limit]
        assert list(await catalog.tasks.list(TaskFilter(states=frozenset(states)), limit=limit)) == wanted
        gone = {record.upid for record in newest[keep:] if record.ended_ns is not None}
        assert set(await catalog.tasks.trim(keep)) == gone
        assert {record.upid for record in await catalog.tasks.list(TaskFilter(), limit=99)} == set(model) - gone

    in_catalog(test)


USERS = ("a@ibs", "b@ibs")
TOKENS = ("a@ibs!x", "a@ibs!y", "b@ibs!x")
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("add_user", "remove_user")), st.sampled_from(USERS)),
        st.tuples(st.sampled_from(("add_token", "remove_token")), st.sampled_from(TOKENS)),
        st.tuples(st.sampled_from(("grant", "revoke")), st.sampled_from(USERS + TOKENS)),
    ),
    max_size=40,
)


class Model:
    """Three sets with the rules of the tables."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.tokens: set[str] = set()
        self.rules: set[str] = set()

    def change(self, what: str, who: str) -> bool:
        """Apply; False when it must be refused."""
        kept = {"user": self.users, "token": self.tokens}.get(what.partition("_")[2], self.rules)
        if what == "grant":
            kept.add(who)
            return True
        adds = what.startswith("add")
        if (who in kept) is adds or (what == "add_token" and who.partition("!")[0] not in self.users):
            return False
        (kept.add if adds else kept.discard)(who)
        if what.startswith("remove"):
            mine = {name for name in self.tokens if name.startswith(f"{who}!")} if what == "remove_user" else set()
            self.tokens -= mine
            self.rules -= mine | {who}
        return True


async def apply(catalog: Catalog, what: str, who: str) -> bool:
    access = catalog.access
    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "add_user": lambda: access.add_user(UserRecord(who, True, "", 0)),
        "remove_user": lambda: access.remove_user(who),
        "add_token": lambda: access.add_token(TokenRecord(who, who.partition("!")[0], bytes(32), True, "", 0)),
        "remove_token": lambda: access.remove_token(who),
        "grant": lambda: access.grant(AclRecord("/", who, "Audit")),
        "revoke": lambda: access.revoke("/", who, "Audit"),
    }
    try:
        await calls[what]()
    except (ConflictError, NotFoundError):
        return False
    return True


@FEW
@given(CHANGES)
def test_identities_follow_the_model(changes: list[tuple[str, str]]) -> None:
    async def test(catalog: Catalog) -> None:
        model = Model()
        for what, who in changes:
            assert await apply(catalog, what, who) is model.change(what, who), (what, who)
            assert {user.auth_id for user in await catalog.access.users()} == model.users
            assert {token.auth_id for token in await catalog.access.tokens()} == model.tokens
            assert {rule.auth_id for rule in await catalog.access.rules()} == model.rules

    in_catalog(test)


INSERT = "INSERT INTO inbox (time_ns, severity, source, kind, text, fields) VALUES (0, '', '', '', '', '{}')"


@FEW
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=15))
def test_a_transaction_counts_whole_or_not_at_all(transactions: list[tuple[int, bool]]) -> None:
    async def test(catalog: Catalog) -> None:
        expected = 0
        for rows, fails in transactions:

            def work(connection: sqlite3.Connection, rows: int = rows, fails: bool = fails) -> None:
                for _ in range(rows):
                    connection.execute(INSERT)
                if fails:
                    raise KeyError

            try:
                await catalog.database.write(work)
                expected += rows
            except KeyError:
                assert fails
            assert len(await catalog.inbox.list()) == expected

    in_catalog(test)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.data())
def test_a_log_cut_anywhere_keeps_its_whole_lines(texts: list[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.log"
        lines = [tasklog.encode_line(number, "t", "info", text) for number, text in enumerate(texts)]
        whole = b"".join(lines)
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        size = path.stat().st_size
        kept = sum(len(b"".join(lines[: n + 1])) <= size for n in range(len(lines)))
        number, offset = tasklog.recover(path)
        assert (number, offset) == (kept, len(b"".join(lines[:kept])))
        tasklog.write_lines(path, offset, [tasklog.encode_line(number, "t", "error", "end")])
        assert [line.text for line in tasklog.read_lines(path, 0, 0)[0]] == [*texts[:kept], "end"]
