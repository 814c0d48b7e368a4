"""`ironcore-backup retention …`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.lifecycle import PolicyBody, RetentionView
from ibs_tests.support.fakeapi import install, invoke

VIEW = RetentionView(
    level="namespace a",
    namespace="a",
    policy=PolicyBody(keep_daily=7),
    text="keep-daily 7 (UTC)",
    more_than_half=True,
    by="root@ibs",
    time="2026-11-22T19:00:00Z",
)


def test_set_show_and_clear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/retention"] = VIEW
    api.answers["GET", "/datastores/main/retention"] = [VIEW]
    api.answers["DELETE", "/datastores/main/retention"] = None
    command = ("retention", "set", "main", "--ns", "a", "--keep-daily", "7", "--timezone", "Europe/Vienna")
    done = invoke(root, *command, "--allow-more-than-half")
    assert "retention for the namespace a: keep-daily 7 (UTC)" in done.output
    sent = api.asked[0][2]
    assert (sent.namespace, sent.more_than_half) == ("a", True)
    assert sent.policy == PolicyBody(keep_daily=7, timezone="Europe/Vienna")
    shown = invoke(root, "retention", "show", "main").output
    assert "keep-daily 7" in shown
    assert "allowed" in shown
    assert "no retention of its own" in invoke(root, "retention", "clear", "main", "--namespace", "a").output
    assert api.asked[-1][2] == {"namespace": "a"}


def test_rules_are_needed_or_everything_is_kept_on_purpose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/retention"] = VIEW
    for wrong in ((), ("--keep-all", "--keep-last", "1"), ("--keep-last", "1", "--timezone", "Mars")):
        assert invoke(root, "retention", "set", "main", *wrong).exit_code == 2
    assert api.asked == []
    assert invoke(root, "retention", "set", "main", "--keep-all").exit_code == 0
    assert api.asked[0][2].policy == PolicyBody()
