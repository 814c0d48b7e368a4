"""`ironcore-backup verify …`: start follows the task and ends with its status; status says what was proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import VerifyReport, VerifyStart
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
    assert api.asked[0][2] == VerifyStart(notification_mode="always")
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
    assert "presence, stored digest" in invoke(root, "verify", "status").output
