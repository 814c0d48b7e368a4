"""`certificate`: what clients pin is shown whole, and a new one comes with a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.access import CertificateReplace, CertificateView
from ibs_tests.support.fakeapi import install, invoke

VIEW = CertificateView(
    fingerprint=":".join(["ab"] * 32),
    expires="2036-01-01T00:00:00Z",
    days_left=9,
    subject="CN=x",
    issuer="CN=x",
    self_signed=True,
    names=["x", "127.0.0.1"],
)


def test_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/certificate"] = VIEW
    api.answers["POST", "/certificate"] = VIEW
    api.answers["POST", "/certificate/renew"] = VIEW
    said = invoke(root, "certificate", "show").output
    assert VIEW.fingerprint in said.replace("\n", "")
    assert "itself" in said
    file = tmp_path / "new.pem"
    file.write_text("content")
    assert "pins the new fingerprint" in invoke(root, "certificate", "replace", str(file)).output
    assert api.asked[-1][2] == CertificateReplace(pem="content")
    assert "pins the new fingerprint" in invoke(root, "certificate", "renew").output
    assert "cannot be read" in invoke(root, "certificate", "replace", str(tmp_path / "none")).output
    file.write_bytes(bytes(70_000))
    assert "too large" in invoke(root, "certificate", "replace", str(file)).output
