"""`user`, `token`, `acl`: requests as typed, a secret shown once, listings without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.system import AclEntry, IdentityChange, TokenCreate, TokenCreated, TokenView, UserCreate, UserView
from ibs_tests.support.fakeapi import install, invoke


def test_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/access/users"] = UserView(auth_id="a@ibs", enabled=True)
    api.answers["GET", "/access/users"] = [UserView(auth_id="a@ibs", enabled=False)]
    assert "no rights yet" in invoke(root, "user", "create", "a@ibs").output
    assert api.asked[0][2] == UserCreate(auth_id="a@ibs")
    assert "no" in invoke(root, "user", "list").output


def test_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/access/tokens"] = TokenCreated(auth_id="a@ibs!t", secret="hush")
    api.answers["GET", "/access/tokens"] = [TokenView(auth_id="a@ibs!t", enabled=True)]
    api.answers["DELETE", "/access/tokens/a@ibs!t"] = None
    assert "hush" in invoke(root, "token", "create", "a@ibs!t", "--comment", "c").output
    assert api.asked[0][2] == TokenCreate(auth_id="a@ibs!t", comment="c")
    assert "never" in invoke(root, "token", "list").output
    assert "removed" in invoke(root, "token", "remove", "a@ibs!t").output


def test_acl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    entry = AclEntry(path="/", role="Audit", auth_id="a@ibs", propagate=False)
    api.answers["POST", "/access/acl"] = entry
    api.answers["GET", "/access/acl"] = [entry]
    api.answers["DELETE", "/access/acl"] = None
    assert "a@ibs has Audit on /" in invoke(root, "acl", "grant", "/", "Audit", "a@ibs", "--no-propagate").output
    assert api.asked[0][2] == entry
    assert "Audit" in invoke(root, "acl", "list").output
    assert "no longer" in invoke(root, "acl", "revoke", "/", "Audit", "a@ibs").output
    assert api.asked[-1][2] == {"path": "/", "role": "Audit", "auth_id": "a@ibs"}


def test_identities_are_switched_off_and_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/access/users/a@ibs"] = UserView(auth_id="a@ibs", enabled=False)
    api.answers["POST", "/access/tokens/a@ibs!t"] = TokenView(auth_id="a@ibs!t", enabled=True)
    assert "user a@ibs disabled" in invoke(root, "user", "disable", "a@ibs").output
    assert api.asked[-1][2] == IdentityChange(enabled=False)
    assert "token a@ibs!t enabled" in invoke(root, "token", "enable", "a@ibs!t").output
    assert api.asked[-1][2] == IdentityChange(enabled=True)


def test_a_grant_that_may_be_a_mistake_is_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    warning = "datastore x does not exist; there is none"
    api.answers["POST", "/access/acl"] = AclEntry(path="/datastore/x", role="Audit", auth_id="a@ibs", warning=warning)
    assert warning in invoke(root, "acl", "grant", "/datastore/x", "Audit", "a@ibs").output
