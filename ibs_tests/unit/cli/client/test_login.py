"""`ironcore-backup-client login`: for the repository's server, as the identity it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibs.cli import login as shared
from ibs.cli.client import root
from ibs.client.config import Logins, Server
from ibs.wire.system import WhoAmI
from ibs_tests.support.fakeapi import install, invoke


def test_login_and_logout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    monkeypatch.setattr(shared, "connect", lambda _credentials: api)
    api.answers["GET", "/whoami"] = WhoAmI(auth_id="a@ibs!t")
    done = invoke(root, "login", "--repository", "a@ibs!t@h:1:main", "--output", "json")
    assert (done.exit_code, json.loads(done.output)["auth_id"]) == (0, "a@ibs!t")
    assert "secret" not in done.output
    saved = Logins().get(Server("h", 1))
    assert saved is not None
    assert saved.secret == "secret"
    assert invoke(root, "logout", "--repository", "h:1:main").exit_code == 0
    assert Logins().get(Server("h", 1)) is None


def test_a_secret_that_does_not_hold_is_not_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    monkeypatch.setattr(shared, "connect", lambda _credentials: api)
    assert invoke(root, "login", "--repository", "a@ibs!t@h:1:main").exit_code == 5
    assert Logins().get(Server("h", 1)) is None


def test_without_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    monkeypatch.delenv("IBS_REPOSITORY")
    done = invoke(root, "login")
    assert done.exit_code == 2
    assert "hint: use --repository" in done.output
