"""`ironcore-backup notification inbox`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.system import InboxView
from ibs_tests.support.fakeapi import install, invoke


def test_inbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    event = InboxView(id=1, time="2026-11-22T19:00:00Z", severity="error", source="datastore", text="main went offline")
    api.answers["GET", "/notifications/inbox"] = [event]
    assert "main went offline" in invoke(root, "notification", "inbox", "--limit", "5").output
    assert api.asked[0][2] == {"limit": 5}
