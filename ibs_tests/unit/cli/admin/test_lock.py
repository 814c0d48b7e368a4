"""`snapshot lock`, `namespace compliance`: times as people write them, and that there is no way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import ComplianceSet, ComplianceView, SnapshotLock
from ibs_tests.support.control import sample
from ibs_tests.support.fakeapi import install, invoke

NAME, UNTIL = "host/a/2026-11-22T19:00:00Z", "2099-01-01T00:00:00Z"


def test_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    view = sample(SnapshotView, snapshot=NAME, locked_until=UNTIL, locked_by="root@ibs")
    api.answers["POST", "/datastores/main/snapshot/lock"] = view
    api.answers["GET", "/datastores/main/snapshot"] = view
    said = invoke(root, "snapshot", "lock", "main", NAME, "--until", UNTIL).output
    assert f"locked until {UNTIL}; nobody can take that back" in said
    assert api.asked[-1][2] == SnapshotLock(snapshot=NAME, until=UNTIL)
    invoke(root, "snapshot", "lock", "main", NAME, "--until", "30d")
    assert api.asked[-1][2].until.endswith("Z")
    assert f"until {UNTIL} by root@ibs" in invoke(root, "snapshot", "show", "main", NAME).output


def test_compliance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    view = ComplianceView(namespace="law", seconds=86400, by="root@ibs", time=UNTIL)
    api.answers["POST", "/datastores/main/compliance"] = view
    api.answers["GET", "/datastores/main/compliance"] = [view]
    said = invoke(root, "namespace", "compliance", "set", "main", "--namespace", "law", "--for", "1d").output
    assert "cannot be undone" in said
    assert api.asked[-1][2] == ComplianceSet(namespace="law", seconds=86400)
    assert "law" in invoke(root, "namespace", "compliance", "list", "main").output
    api.answers["POST", "/datastores/main/compliance"] = ComplianceView(
        namespace="law", seconds=0, earlier_seconds=86400
    )
    assert "stays locked" in invoke(root, "namespace", "compliance", "clear", "main", "--namespace", "law").output
    assert api.asked[-1][2] == ComplianceSet(namespace="law", seconds=0)
