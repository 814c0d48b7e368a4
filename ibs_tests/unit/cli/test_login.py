"""`ironcore-backup login`: never trusts a certificate by itself; saves privately; forgets on logout."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli import login as shared
from ibs.cli.admin import root
from ibs.client.config import Logins, Server
from ibs.wire.system import WhoAmI
from ibs_tests.support.fakeapi import install, invoke


def test_with_a_known_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    monkeypatch.setattr(shared, "connect", lambda _credentials: api)
    api.answers["GET", "/whoami"] = WhoAmI(auth_id="a@ibs!t")
    assert invoke(root, "login", "h:1", "--auth-id", "a@ibs!t").exit_code == 0
    saved = Logins().get(Server("h", 1))
    assert saved is not None
    assert (saved.auth_id, saved.secret, saved.fingerprint) == ("a@ibs!t", "secret", "ab:cd")
    assert "logged out" in invoke(root, "logout", "h:1").output
    assert "no login" in invoke(root, "logout", "h:1").output


def test_an_unknown_certificate_is_refused_without_a_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    monkeypatch.delenv("IBS_FINGERPRINT")

    async def offered(_host: str, _port: int) -> str:
        return "12:34"

    monkeypatch.setattr(shared, "offered_fingerprint", offered)
    done = invoke(root, "login", "h:1", "--auth-id", "a@ibs!t")
    assert done.exit_code == 3
    assert "12:34" in done.output
    assert Logins().get(Server("h", 1)) is None
