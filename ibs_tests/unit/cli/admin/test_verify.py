"""`ironcore-backup verify …`: start follows the task and ends with its status; status says what was proven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import Damage, DamagedChunk, VerifyOutlook, VerifyReport, VerifyStart
from ibs.wire.system import TaskLogLine, TaskView
from ibs_tests.support.fakeapi import install, invoke

UPID = "UPID:n:1:2:3:4:verify:main:root@ibs:"


def test_start_follows_to_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/verify"] = TaskStarted(upid=UPID)
    last = TaskLogLine(n=0, time="2026-11-22T19:00:00Z", level="error", text="TASK ERROR: CORRUPT chunk ab")
    api.answers["LINES", f"/tasks/{UPID}/log"] = [last]
    api.answers["GET", f"/tasks/{UPID}"] = TaskView(
        upid=UPID, type="verify", id="main", auth_id="root@ibs", state="FAILED", started="2026-11-22T19:00:00Z"
    )
    done = invoke(root, "verify", "start", "main", "--notification-mode", "always")
    assert done.exit_code == 1
    assert "CORRUPT chunk ab" in done.output
    assert api.asked[0][2] == VerifyStart(notification_mode="always", verify_window_days=30)
    detached = invoke(root, "verify", "start", "main", "--detach")
    assert (detached.exit_code, detached.output.strip()) == (0, UPID)


def test_status_tells_the_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    report = VerifyReport(
        snapshot="host/a/2026-11-22T19:00:00Z",
        started="2026-11-22T20:00:00Z",
        duration_seconds=1.0,
        chunks=5,
        bytes=10,
        result="OK",
        proof=["presence", "stored digest"],
    )
    api.answers["GET", "/verify/status"] = [report]
    api.answers["GET", "/verify/outlook"] = []
    assert "presence, stored digest" in invoke(root, "verify", "status").output


OUTLOOK = VerifyOutlook(
    name="main",
    snapshots=3,
    ok=1,
    corrupt=1,
    missing=0,
    stale=1,
    never=0,
    oldest_check="2026-11-22T20:00:00Z",
    bytes=10,
    rate_bytes=5,
    pass_seconds=2,
    window_days=7,
    fits=True,
    text="fits: 10 B take 2 s",
)


def test_status_tells_the_forecast_and_why_something_is_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    stale = VerifyReport(
        snapshot="host/a/2026-11-22T19:00:00Z",
        started="",
        duration_seconds=0,
        chunks=0,
        bytes=0,
        result="STALE",
        proof=[],
        stale="never verified; none is scheduled",
    )
    api.answers["GET", "/verify/status"] = [stale]
    api.answers["GET", "/verify/outlook"] = [OUTLOOK]
    shown = invoke(root, "verify", "status", "--verify-window-days", "7").output
    assert "main: fits: 10 B take 2 s" in shown
    assert "none is scheduled" in shown
    assert json.loads(invoke(root, "verify", "status", "-o", "json").output)[0]["result"] == "STALE"
    assert json.loads(invoke(root, "verify", "status", "--summary", "-o", "json").output)[0]["fits"] is True


def test_options_of_start_reach_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/verify"] = TaskStarted(upid=UPID)
    options = ("--verify-window-days", "0", "--max-concurrent-snapshots", "4", "--io-limit", "50MiB/s")
    assert invoke(root, "verify", "start", "main", *options, "--detach").exit_code == 0
    assert api.asked[0][2] == VerifyStart(verify_window_days=0, max_concurrent_snapshots=4, io_limit=50 << 20)


def test_whom_damage_affects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    chunk = DamagedChunk(chunk="ab" * 32, result="CORRUPT", snapshots=["host/a/x", "host/b/y"])
    api.answers["GET", "/datastores/main/damage"] = Damage(
        name="main", bad_chunks=1, chunks=[chunk], snapshots=["host/a/x", "host/b/y"]
    )
    done = invoke(root, "verify", "affected", "main")
    assert done.exit_code == 4
    assert "snapshot affected: host/b/y" in done.output
    api.answers["GET", "/datastores/main/damage"] = Damage(name="main", bad_chunks=0, chunks=[], snapshots=[])
    assert invoke(root, "verify", "affected", "main", "-o", "json").exit_code == 0
