"""`ironcore-backup worker status`: slots, and what each queued task waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.system import TaskView, WorkerView
from ibs_tests.support.fakeapi import install, invoke


def test_slots_and_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    task = TaskView(
        upid="U", type="backup", id="x", auth_id="a@ibs", state="queued", started="t", waits_for="a free worker slot"
    )
    api.answers["GET", "/worker/status"] = WorkerView(slots=4, running=[], queued=[task])
    shown = invoke(root, "worker", "status").output
    assert "0 of 4 slots busy, 1 queued" in shown
    assert "a free worker slot" in shown


def test_slots_are_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/worker/slots"] = WorkerView(slots=8, running=[], queued=[])
    assert "0 of 8 slots busy" in invoke(root, "worker", "set", "--slots", "8").output
    assert api.asked[0][2].slots == 8
    assert invoke(root, "worker", "set", "--slots", "0").exit_code == 2
