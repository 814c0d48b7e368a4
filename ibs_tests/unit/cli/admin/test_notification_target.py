"""`notification target`: what is sent, and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.notification import TargetSpec, TargetView, TestResult
from ibs_tests.support.fakeapi import install, invoke

ROW = TargetView(name="chat", spec=TargetSpec(kind="webhook", url="https://h/x"), enabled=True, waiting=3)


def test_create_takes_secrets_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/notifications/targets"] = ROW
    (tmp_path / "secret").write_text("hush\n")
    (tmp_path / "headers").write_text("X-Key: v\n")
    done = invoke(
        root,
        *("notification", "target", "create", "webhook", "chat", "--url", "https://h/x"),
        *("--secret-file", str(tmp_path / "secret"), "--header-file", str(tmp_path / "headers")),
    )
    assert done.exit_code == 0
    sent = api.asked[-1][2]
    assert (sent.secrets.secret, sent.secrets.headers) == ("hush", {"X-Key": "v"})
    assert "hush" not in done.output


def test_a_failed_test_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    path = ("POST", "/notifications/targets/chat/test")
    api.answers[path] = TestResult(time="t", ok=False, message="503", history=7)
    assert invoke(root, "notification", "target", "test", "chat").exit_code == 1
    api.answers[path] = TestResult(time="t", ok=True, message="accepted")
    assert "accepted" in invoke(root, "notification", "target", "test", "chat", "--recipient", "a@b.c").output
    assert api.asked[-1][2].recipient == "a@b.c"


def test_enable_says_what_waited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/notifications/targets/chat/enable"] = ROW
    api.answers["GET", "/notifications/targets"] = [ROW]
    assert "3 messages" in invoke(root, "notification", "target", "enable", "chat").output
    assert "not tested" in invoke(root, "notification", "target", "list").output
    assert invoke(root, "notification", "target", "update", "chat").exit_code == 2
