"""Numbered steps: from empty, from any older step, never from a newer or foreign file; every column explained."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from ibs.catalog.migrations import APPLICATION_ID, MIGRATIONS, Migration, migrate, statements
from ibs.errors import ConflictError


@pytest.fixture
def connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def schema(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")]


def test_numbers_have_no_gaps() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_from_empty_and_again(connection: sqlite3.Connection) -> None:
    assert migrate(connection) == len(MIGRATIONS)
    first = schema(connection)
    assert migrate(connection) == 0
    assert schema(connection) == first
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID


def test_an_older_state_is_brought_up_and_keeps_its_rows(connection: sqlite3.Connection) -> None:
    steps = [*MIGRATIONS, Migration(len(MIGRATIONS) + 1, "more", "ALTER TABLE inbox ADD COLUMN seen INTEGER;")]
    migrate(connection)
    connection.execute("INSERT INTO settings VALUES ('a', 'b')")
    assert migrate(connection, steps) == 1
    assert connection.execute("SELECT value FROM settings").fetchone() == ("b",)
    assert "seen" in [row[1] for row in connection.execute("PRAGMA table_info(inbox)")]


def test_what_waits_for_a_target_waits_on(connection: sqlite3.Connection) -> None:
    """When payloads moved to a table of their own."""
    migrate(connection, MIGRATIONS[:8])
    connection.execute(
        """INSERT INTO notification_outbox (target, event, time_ns, state, error, payload)
        VALUES ('chat', '{}', 7, 'waiting', '503', 'old')"""
    )
    migrate(connection, MIGRATIONS[:9])
    assert connection.execute("SELECT target, state, error, message FROM notification_outbox").fetchall() == [
        ("chat", "waiting", "503", 0)
    ]


def test_a_newer_state_is_refused_untouched(connection: sqlite3.Connection) -> None:
    newer = len(MIGRATIONS) + 7
    migrate(connection)
    connection.execute(f"PRAGMA user_version = {newer}")
    before = schema(connection)
    with pytest.raises(ConflictError, match=f"its schema is {newer}, this program knows {len(MIGRATIONS)}"):
        migrate(connection)
    assert schema(connection) == before


def test_a_foreign_database_is_refused_untouched(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE places (url TEXT)")
    with pytest.raises(ConflictError, match="not a state of this program"):
        migrate(connection)
    assert schema(connection) == ["CREATE TABLE places (url TEXT)"]


def test_a_failing_step_leaves_the_old_state(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    steps = [*MIGRATIONS, Migration(len(MIGRATIONS) + 1, "bad", "CREATE TABLE x (a);\nCREATE TABLE x (a);\n")]
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, steps)
    connection.execute("ROLLBACK")
    assert schema(connection) == []
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 0
    connection.close()


def test_every_column_is_explained() -> None:
    for migration in MIGRATIONS:
        for statement in statements(migration.sql):
            if not statement.startswith("CREATE TABLE"):
                continue
            for line in statement.splitlines()[1:-1]:
                if re.match(r"\s+[a-z_]+\s+(TEXT|INTEGER|BLOB|REAL)", line):
                    assert re.search(r"--\s*\S", line), line


def test_statements_are_split_with_their_comments() -> None:
    sql = "CREATE TABLE a (b TEXT); -- c; d\nINSERT INTO a VALUES ('x;y');\n"
    assert list(statements(sql)) == ["CREATE TABLE a (b TEXT); -- c; d", "INSERT INTO a VALUES ('x;y');"]
    with pytest.raises(ValueError, match="inside a statement"):
        list(statements("CREATE TABLE a (b"))
