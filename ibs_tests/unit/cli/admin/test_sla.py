"""`sla`: what is sent, and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.sla import SlaSet, SlaView
from ibs_tests.support.fakeapi import install, invoke

ROW = SlaView(
    store="main", namespace="", group="host/a", state="late", why="too long ago", rpo_seconds=93600.0, learned=True,
    learned_from=9,
)  # fmt: skip


def test_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/sla"] = [ROW]
    api.answers["POST", "/sla"] = ROW
    api.answers["DELETE", "/sla"] = None
    shown = invoke(root, "sla", "list").output
    assert "too long ago" in shown
    assert "learned from 9" in shown
    assert "host/a in main: late" in invoke(root, "sla", "set", "host/a", "--rpo", "26h", "--min-size", "1KiB").output
    assert api.asked[-1][2] == SlaSet(group="host/a", rpo_seconds=93600.0, min_bytes=1024)
    assert invoke(root, "sla", "pause", "host/a", "--store", "main").exit_code == 0
    assert api.asked[-1][2] == SlaSet(group="host/a", store="main", paused=True)
    assert "what is learned" in invoke(root, "sla", "unset", "host/a").output
    assert invoke(root, "sla", "set", "host/a").exit_code == 2
