"""`ironcore-backup-client diff`: marks and respects for people, rows for programs, one thing to compare with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ibs.cli.client import diff as module
from ibs.cli.client import root
from ibs.core.tree import Entry, Kind
from ibs.restore.compare import Difference
from ibs_tests.support.fakeapi import install, invoke

FILE = Entry(path=b"x", kind=Kind.FILE, size=7)
FOUND = (
    Difference(b"new [file]", "added", new=FILE),
    Difference(b"old", "removed", old=FILE),
    Difference(b"caf\xe9", "changed", ("content", "mode"), old=FILE, new=FILE),
    Difference(b"", "changed", ("mtime",)),
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The snapshots that were opened; comparing finds the four differences above."""
    api = install(monkeypatch, tmp_path)
    monkeypatch.setattr("ibs.cli.client.connection.connect", lambda _credentials: api)
    names: list[str] = []

    @asynccontextmanager
    async def open_tree(_transport: Any, *, snapshot: str, **_rest: Any) -> AsyncIterator[str]:
        names.append(snapshot)
        yield snapshot

    async def differences(*_sides: Any) -> AsyncIterator[Difference]:
        for found in FOUND:
            yield found

    monkeypatch.setattr(module, "open_tree", open_tree)
    monkeypatch.setattr(module, "diff_snapshots", differences)
    monkeypatch.setattr(module, "diff_folder", differences)
    return names


def test_lines(opened: list[str]) -> None:
    done = invoke(root, "diff", "host/a", "etc.tree", "host/b")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["+ new [file]", "- old", "M caf\\xe9  (content, mode)", "M .  (mtime)"]
    assert opened == ["host/a", "host/b"]


def test_rows(opened: list[str]) -> None:
    rows = json.loads(invoke(root, "diff", "host/a", "etc.tree", "--path", "/etc", "-o", "json").stdout)
    assert [row["change"] for row in rows] == ["added", "removed", "changed", "changed"]
    assert rows[0] | {"size": 7, "kind": "file"} == rows[0]
    assert "path_base64" in rows[2]
    assert opened == ["host/a"]


@pytest.mark.parametrize("arguments", [(), ("host/b", "--path", "/etc")])
def test_exactly_one_other_side(opened: list[str], arguments: tuple[str, ...]) -> None:
    done = invoke(root, "diff", "host/a", "etc.tree", *arguments)
    assert done.exit_code == 2
    assert opened == []
