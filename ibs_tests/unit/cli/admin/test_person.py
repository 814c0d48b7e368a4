"""`user password`, `user totp`: secrets come from prompt or environment, and are shown once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.access import LoginView, PasswordSet, TotpMade
from ibs_tests.support.fakeapi import install, invoke

VIEW = LoginView(auth_id="a@ibs", password=True, totp=True, recovery_left=9, sessions=1)


def test_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/access/logins/a@ibs/password"] = VIEW
    assert "no password was given" in invoke(root, "user", "password", "a@ibs").output
    monkeypatch.setenv("IBS_NEW_PASSWORD", "four words in a row")
    said = invoke(root, "user", "password", "a@ibs").output
    assert "a@ibs has a password" in said
    assert "four words" not in said
    assert api.asked[-1][2] == PasswordSet(password="four words in a row")


def test_totp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    made = TotpMade(auth_id="a@ibs", secret="ABCD", uri="otpauth://totp/x", recovery=["AAAA-BBBB"])
    api.answers["POST", "/access/logins/a@ibs/totp"] = made
    api.answers["GET", "/access/logins/a@ibs"] = VIEW
    api.answers["DELETE", "/access/logins/a@ibs/totp"] = None
    said = invoke(root, "user", "totp", "enable", "a@ibs").output
    assert all(text in said for text in ("otpauth://totp/x", "ABCD", "AAAA-BBBB"))
    shown = invoke(root, "user", "totp", "show", "a@ibs").output
    assert "9" in shown
    assert "no second factor any more" in invoke(root, "user", "totp", "disable", "a@ibs").output
