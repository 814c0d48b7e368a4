"""`ironcore-backup notification inbox | group | rule | history`: what is asked, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ibs.cli.admin import root
from ibs.wire.notification import GroupSpec, HistoryView, RuleSpec
from ibs.wire.system import InboxView
from ibs_tests.support.fakeapi import install, invoke


def test_inbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    event = InboxView(id=1, time="2026-11-22T19:00:00Z", severity="error", source="datastore", text="main went offline")
    api.answers["GET", "/notifications/inbox"] = [event]
    assert "main went offline" in invoke(root, "notification", "inbox", "--limit", "5").output
    assert api.asked[0][2] == {"limit": 5}
    invoke(root, "notification", "inbox", "--severity", "error", "--source", "datastore")
    assert api.asked[1][2] == {"limit": 50, "severity": "error", "source": "datastore"}


def test_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    group = GroupSpec(name="oncall", targets=["ops", "chat"])
    api.answers["GET", "/notifications/groups"] = []
    assert "no groups" in invoke(root, "notification", "group", "list").output
    api.answers["GET", "/notifications/groups"] = [group]
    assert "ops, chat" in invoke(root, "notification", "group", "list").output
    api.answers["POST", "/notifications/groups"] = group
    done = invoke(root, "notification", "group", "set", "oncall", "--target", "ops", "--target", "chat")
    assert "group oncall is set" in done.output
    assert api.asked[-1][2] == group
    api.answers["DELETE", "/notifications/groups/oncall"] = None
    assert "group oncall is removed" in invoke(root, "notification", "group", "remove", "oncall").output
    assert api.asked[-1][:2] == ("DELETE", "/notifications/groups/oncall")


def test_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/notifications/rules"] = []
    assert "every target" in invoke(root, "notification", "rule", "list").output
    api.answers["POST", "/notifications/rules"] = RuleSpec(name="disks")
    words = ("--source", "datastore", "--source", "verify", "--severity", "error", "--kind", "datastore.*")
    place = (
        "--datastore",
        "main",
        "--ns",
        "prod",
        "--job",
        "nightly",
        "--host",
        "web1",
        "--window",
        "22:00-06:00",
        "--time-zone",
        "Europe/Vienna",
    )
    done = invoke(root, "notification", "rule", "set", "disks", "--target", "ops", "--group", "oncall", *words, *place)
    assert "rule disks is set" in done.output
    rule = api.asked[-1][2]
    assert rule == RuleSpec(
        name="disks",
        sources=["datastore", "verify"],
        severity="error",
        kind="datastore.*",
        datastore="main",
        namespace="prod",
        job="nightly",
        host="web1",
        targets=["ops"],
        groups=["oncall"],
        windows=["22:00-06:00"],
        time_zone="Europe/Vienna",
    )
    api.answers["GET", "/notifications/rules"] = [rule, RuleSpec(name="rest", targets=["chat"])]
    (shown,) = [json.loads(invoke(root, "notification", "rule", "list", "--output", "json").output)]
    assert [one["name"] for one in shown] == ["disks", "rest"]
    table = invoke(root, "notification", "rule", "list").output
    for word in ("22:00-06:00 Europe/Vienna", "group oncall", "always", "nightly", "web1"):
        assert word in table
    api.answers["DELETE", "/notifications/rules/disks"] = None
    assert "rule disks is removed" in invoke(root, "notification", "rule", "remove", "disks").output


def test_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    row = HistoryView(id=7, time="t", target="chat", state="waiting", attempts=2, text="disk", error="answered 503")
    api.answers["GET", "/notifications/history"] = [row]
    assert "answered 503" in invoke(root, "notification", "history", "list", "--target", "chat", "--limit", "9").output
    assert api.asked[-1][2] == {"limit": 9, "target": "chat"}
    invoke(root, "notification", "history", "list", "--state", "waiting")
    assert api.asked[-1][2] == {"limit": 50, "state": "waiting"}
    path = ("GET", "/notifications/history/7")
    api.answers[path] = row
    assert "nothing was sent yet" in invoke(root, "notification", "history", "show", "7").output
    line = """curl -X POST http://h -H "X-Key: $IBS_HEADER_X_KEY" --data-raw '$IBS_OTHER'"""
    api.answers[path] = msgspec.structs.replace(row, payload="$IBS_OTHER", payload_chars=10, command=line)
    shown = invoke(root, "notification", "history", "show", "7").output
    assert line in shown
    assert "set before: IBS_HEADER_X_KEY\n" in shown
    api.answers[path] = msgspec.structs.replace(row, payload="begin", payload_chars=900)
    assert "had 900 characters, of which the first 5" in invoke(root, "notification", "history", "show", "7").output
    assert json.loads(invoke(root, "notification", "history", "show", "7", "-o", "json").output)["payload"] == "begin"
    assert invoke(root, "notification", "history", "show", "0").exit_code == 2
