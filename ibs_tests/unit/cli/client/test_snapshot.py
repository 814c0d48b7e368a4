"""`ironcore-backup-client snapshot …`: what is asked, what is shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ibs.cli.client import root
from ibs.cli.client import snapshot as module
from ibs.core.tree import Entry, Kind
from ibs.wire.datastore import ArchiveView, SnapshotView
from ibs.wire.session import LogLine
from ibs_tests.support.fakeapi import FakeApi, install, invoke

VIEW = SnapshotView(
    snapshot="host/a/2026-11-22T19:00:00Z",
    namespace="",
    group="host/a",
    time="2026-11-22T19:00:00Z",
    owner="a@ibs!t",
    plain_bytes=3 << 30,
    archives=[
        ArchiveView(
            name="etc.tree", kind="tree", plain_bytes=1 << 20, chunks=5, index_digest="00", key_fingerprint="ab:" * 32
        )
    ],
    verify="CORRUPT",
    signed_by="server",
)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    fake = install(monkeypatch, tmp_path)
    monkeypatch.setattr("ibs.cli.client.connection.connect", lambda _credentials: fake)
    fake.answers["GET", "/datastores/main/snapshots"] = [VIEW]
    fake.answers["GET", "/datastores/main/snapshot"] = VIEW
    return fake


def test_list(api: FakeApi) -> None:
    assert "host/a/2026-11-22T19:00:00Z" in invoke(root, "snapshot", "list", "host/a", "--ns", "x").output
    assert api.asked[0][2] == {"namespace": "x", "group": "host/a"}
    assert json.loads(invoke(root, "snapshot", "list", "-o", "json").output)[0]["group"] == "host/a"
    assert invoke(root, "snapshot", "list", "nonsense").exit_code == 2


def test_show(api: FakeApi) -> None:
    shown = invoke(root, "snapshot", "show", "host/a").output
    for words in ("CORRUPT", "etc.tree", "1.0 MiB in 5 chunks, key ab:ab:ab:ab:ab:ab:ab:ab", "server"):
        assert words in shown
    assert api.asked[0][2] == {"name": "host/a"}


def test_log(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [LogLine(level="warning", text="a [name]: changed")]

    async def read_log(_transport: Any, *, snapshot: str, **_rest: Any) -> list[LogLine]:
        assert snapshot == "host/a"
        return lines

    monkeypatch.setattr(module, "read_log", read_log)
    assert "a [name]: changed" in invoke(root, "snapshot", "log", "host/a").output
    assert json.loads(invoke(root, "snapshot", "log", "host/a", "-o", "json").output)[0]["level"] == "warning"
    lines.clear()
    assert "nothing to say" in invoke(root, "snapshot", "log", "host/a").output


def test_files(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    @asynccontextmanager
    async def open_tree(_transport: Any, *, snapshot: str, archive: str, **_rest: Any) -> AsyncIterator[str]:
        asked.append((snapshot, archive))
        yield "tree"

    async def list_entries(_tree: str, path: bytes, *, recursive: bool) -> AsyncIterator[Entry]:
        asked.append((path, recursive))
        yield Entry(path=b"nginx/[site]", kind=Kind.FILE, size=1 << 20)

    monkeypatch.setattr(module, "open_tree", open_tree)
    monkeypatch.setattr(module, "list_entries", list_entries)
    shown = invoke(root, "snapshot", "files", "host/a", "etc.tree", "/nginx/", "-r")
    assert shown.exit_code == 0, shown.output
    assert "nginx/[site]" in shown.output
    assert asked == [("host/a", "etc.tree"), (b"nginx", True)]
    assert (
        json.loads(invoke(root, "snapshot", "files", "host/a", "etc.tree", "-o", "json").output)[0]["size"] == 1 << 20
    )
