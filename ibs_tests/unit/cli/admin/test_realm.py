"""`realm …`: what is sent, and that a password comes from a file, the environment or a prompt only."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.realms import RealmSet, RealmView
from ibs_tests.support.fakeapi import install, invoke

VIEW = RealmView(name="corp", kind="ldap", uri="ldaps://x", template="uid={user},dc=x")


def test_made_changed_and_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/realms"] = api.answers["POST", "/realms/corp"] = VIEW
    api.answers["GET", "/realms/corp"] = api.answers["POST", "/realms/corp/test"] = VIEW
    api.answers["GET", "/realms"] = [VIEW]
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "ca").write_text("PEM")
    made = ("realm", "create", "ldap", "corp", "--uri", "ldaps://x", "--user-dn", "uid={user},dc=x")
    assert "realm corp asks ldaps://x" in invoke(root, *made).output
    assert api.asked[-1][2] == RealmSet(name="corp", uri="ldaps://x", template="uid={user},dc=x")
    files = ("--bind-password-file", str(tmp_path / "password"), "--ca-file", str(tmp_path / "ca"))
    search = ("--base-dn", "dc=x", "--user-attribute", "sAMAccountName", "--filter", "(a=b)", "--bind-dn", "cn=r")
    invoke(root, "realm", "update", "corp", *search, *files)
    wanted = RealmSet(
        name="corp", base="dc=x", attribute="sAMAccountName", filter="(a=b)", bind_dn="cn=r", secret="s3cret", ca="PEM"
    )
    assert api.asked[-1][2] == wanted
    monkeypatch.setenv("IBS_BIND_PASSWORD", "other")
    invoke(root, "realm", "update", "corp")
    assert api.asked[-1][2] == RealmSet(name="corp", secret="other")
    assert "uid={user},dc=x" in invoke(root, "realm", "show", "corp").output
    assert "ldaps://x" in invoke(root, "realm", "list").output
    assert "answers" in invoke(root, "realm", "test", "corp").output


def test_wrong_input_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    assert invoke(root, "realm", "create", "ldap", "corp").exit_code == 2
    assert invoke(root, "realm", "create", "kerberos", "corp").exit_code == 2
    missing = ("--bind-password-file", str(tmp_path / "none"))
    assert invoke(root, "realm", "create", "ldap", "corp", "--uri", "ldaps://x", *missing).exit_code == 2
