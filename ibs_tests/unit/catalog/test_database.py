"""The database on trio: whole transactions, nothing abandoned, no asyncio loop, errors in our words."""

from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
import stat
import threading
from importlib.metadata import version
from pathlib import Path

import aiosqlite
import aiosqlite.core
import pytest
import trio
import trio.testing

from ibs.catalog import database as module
from ibs.catalog.database import Database, TrioConnection, open_database
from ibs.errors import BusyError, FailedError, NoSpace, UnavailableError


def make_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY, value INTEGER) STRICT")


def total(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(sum(value), 0) FROM items").fetchone()[0])


def test_the_pinned_version_has_the_private_names_that_are_replaced() -> None:
    assert version("aiosqlite").startswith("0.22.")
    assert aiosqlite.core._STOP_RUNNING_SENTINEL is not None
    source = inspect.getsource(aiosqlite.core)
    for name in ("_execute", "_connect", "stop"):
        assert "get_event_loop" in inspect.getsource(getattr(aiosqlite.Connection, name))
        assert name in vars(TrioConnection)
        source = source.replace(inspect.getsource(getattr(aiosqlite.Connection, name)), "")
    assert "get_event_loop()" not in source, "another method came to need an asyncio loop"
    thread = inspect.getsource(aiosqlite.core._connection_worker_thread)
    assert "future.get_loop().call_soon_threadsafe(" in thread


async def test_plain_aiosqlite_calls_work_without_an_asyncio_loop(tmp_path: Path) -> None:
    before = threading.active_count()
    connection = await TrioConnection(lambda: sqlite3.connect(tmp_path / "x.db"))
    thread = connection._thread
    await connection.execute("CREATE TABLE t (a INTEGER)")
    await connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    await connection.commit()
    async with connection.execute("SELECT a FROM t ORDER BY a") as cursor:
        assert [row[0] async for row in cursor] == [1, 2]
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await connection.execute("SELECT * FROM missing")
    await connection.close()
    with pytest.raises(ValueError, match=r"closed|no active connection"):
        await connection.execute("SELECT 1")
    thread.join(5)
    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


async def test_a_connection_that_cannot_open_ends_its_thread(tmp_path: Path) -> None:
    waiting = TrioConnection(lambda: sqlite3.connect(tmp_path / "none" / "x.db"))
    with pytest.raises(sqlite3.OperationalError):
        await waiting
    waiting._thread.join(5)
    assert not waiting._thread.is_alive()


@pytest.mark.parametrize("inline", [False, True])
async def test_settings_of_the_file(tmp_path: Path, inline: bool) -> None:
    path = tmp_path / "state.db"
    async with open_database(path, inline=inline) as database:
        await database.write(make_table)

        def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

        expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
        assert await database.write(pragmas) == expected
        assert await database.read(pragmas) == expected
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_an_existing_open_file_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(0o666)
    path.chmod(0o666)
    async with open_database(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("inline", [False, True])
async def test_a_failing_transaction_leaves_nothing(tmp_path: Path, inline: bool) -> None:
    async with open_database(tmp_path / "state.db", inline=inline) as database:
        await database.write(make_table)

        def half(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO items VALUES ('a', 1)")
            raise KeyError("stop here")

        with pytest.raises(KeyError):
            await database.write(half)
        assert await database.read(total) == 0
        await database.write(lambda c: c.execute("INSERT INTO items VALUES ('a', 2)"))
        assert await database.read(total) == 2


async def test_readers_cannot_write(tmp_path: Path) -> None:
    async with open_database(tmp_path / "state.db") as database:
        await database.write(make_table)
        with pytest.raises(FailedError, match="readonly"):
            await database.read(lambda c: c.execute("INSERT INTO items VALUES ('a', 1)"))


async def test_concurrent_writers_lose_no_update(tmp_path: Path) -> None:
    async with open_database(tmp_path / "state.db") as database:
        await database.write(make_table)
        await database.write(lambda c: c.execute("INSERT INTO items VALUES ('a', 0)"))

        def increment(connection: sqlite3.Connection) -> None:
            value = connection.execute("SELECT value FROM items").fetchone()[0]
            connection.execute("UPDATE items SET value = ?", (value + 1,))

        seen = []
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(database.write, increment)
                nursery.start_soon(reading, database, seen)
        assert await database.read(total) == 50
        assert len(seen) == 50


async def reading(database: Database, seen: list[int]) -> None:
    seen.append(await database.read(total))


async def test_two_processes_writing_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with open_database(path) as one, open_database(path) as two:
        await one.write(make_table)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                insert = insert_of(number)
                nursery.start_soon((one if number % 2 else two).write, insert)
        assert await one.read(total) == await two.read(total) == sum(range(20))


def insert_of(number: int):
    return lambda c: c.execute("INSERT INTO items VALUES (?, ?)", (str(number), number)) and None


async def test_a_cancelled_task_waits_for_its_running_transaction(tmp_path: Path) -> None:
    async with open_database(tmp_path / "state.db") as database:
        await database.write(make_table)
        started, go_on = threading.Event(), threading.Event()

        def slow(connection: sqlite3.Connection) -> str:
            started.set()
            assert go_on.wait(10)
            connection.execute("INSERT INTO items VALUES ('a', 1)")
            return "committed"

        results = []

        async def writer(scope: trio.CancelScope) -> None:
            with scope:
                results.append(await database.write(slow))
                await trio.lowlevel.checkpoint()
                results.append("not cancelled")

        scope, waiting = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer, scope)
            await trio.to_thread.run_sync(started.wait)
            nursery.start_soon(writer, waiting)
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel()  # has not started: must never run
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert results == []
            go_on.set()
        assert results == ["committed"]
        assert await database.read(total) == 1
        assert waiting.cancelled_caught


async def test_cancelling_the_owner_closes_the_file(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_database(tmp_path / "state.db") as database:
            await database.write(make_table)
            scope.cancel()
            await trio.sleep_forever()
    assert not (tmp_path / "state.db-wal").exists()
    with pytest.raises(UnavailableError, match="stopping"):
        await database.read(total)


async def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(FailedError, match=r"damaged"):
        async with open_database(path):
            pass


async def test_a_file_held_by_another_program_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.limits, "STATE_BUSY_SECONDS_MAX", 0.01)
    path = tmp_path / "state.db"
    async with open_database(path) as database:
        await database.write(make_table)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError):
            await database.write(make_table)
        assert await database.read(total) == 0
        other.close()
        await database.write(make_table)


async def test_a_full_disk_is_no_space(tmp_path: Path) -> None:
    async with open_database(tmp_path / "state.db") as database:
        await database.write(make_table)
        pages = await database.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())

        def fill(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT INTO items VALUES (?, 1)", [("x" * 2000 + str(n),) for n in range(20)])

        with pytest.raises(NoSpace):
            await database.write(fill)
        assert await database.read(total) == 0


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="cannot open"):
        async with open_database(tmp_path / "no" / "state.db"):
            pass
