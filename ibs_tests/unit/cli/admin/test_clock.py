"""`ironcore-backup datastore clock …`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.lifecycle import ClockView
from ibs_tests.support.fakeapi import install, invoke


def test_one_that_stands_still_is_a_warning_until_confirmed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    view = ClockView(store="main", time="2026-11-22T19:00:00Z", wall="2027-01-01T00:00:00Z", frozen="it jumped")
    api.answers["GET", "/datastores/main/clock"] = view
    shown = invoke(root, "datastore", "clock", "show", "main")
    assert (shown.exit_code, "stands still: it jumped" in shown.output) == (4, True)
    confirmed = ClockView(
        store="main", time=view.wall, wall=view.wall, frozen="", confirmed=view.wall, confirmed_by="root@ibs"
    )
    api.answers["POST", "/datastores/main/clock/confirm"] = api.answers["GET", "/datastores/main/clock"] = confirmed
    assert "2027-01-01T00:00:00Z by root@ibs" in invoke(root, "datastore", "clock", "confirm", "main").output
    assert invoke(root, "datastore", "clock", "show", "main").exit_code == 0
