"""`ironcore-backup status`: the seven roles in systemd's words; one JSON value for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.system import ServerStatus, ServiceView
from ibs_tests.support.fakeapi import install, invoke


def service(role: str, state: str = "active (running)") -> ServiceView:
    since = "2026-11-22T19:00:00Z"
    return ServiceView(
        unit=f"ironcore-backup-{role}", role=role, state=state, since=since, restarts=0, duty="x", last_error=""
    )


STATUS = ServerStatus(
    product="P",
    version="1",
    node="n",
    pid=7,
    started="2026-11-22T19:00:00Z",
    uptime_seconds=61.0,
    fingerprint="ab:cd",
    listen="127.0.0.1:1",
    services=[service("api"), service("gc", "activating (auto-restart)")],
)


def test_services_table_and_summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/status"] = STATUS
    table = invoke(root, "status", "--services")
    assert table.exit_code == 0
    assert "ironcore-backup-api" in table.output
    assert "activating (auto-restart)" in table.output
    summary = invoke(root, "status").output
    assert "1 of 2 active (running)" in summary
    assert "ironcore-backup-gc" in summary
    assert "ab:cd" in summary


def test_json_is_one_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/status"] = STATUS
    assert json.loads(invoke(root, "status", "--output", "json").output)["pid"] == 7
    assert [row["role"] for row in json.loads(invoke(root, "status", "--services", "-o", "json").output)] == [
        "api",
        "gc",
    ]
