from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.cli.admin.audit import moment
from ibs.errors import UsageError
from ibs.wire.audit import AuditCheck, AuditView
from ibs_tests.support.fakeapi import install, invoke

ROW = AuditView(
    n=7, time="2026-01-01T00:00:00Z", auth_id="", peer="::1", action="acl_grant", target="/x", outcome="refused",
    message="no", count=3, hash="ab",
)  # fmt: skip


def test_list_and_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/audit/rows"] = [ROW]
    api.answers["GET", "/audit/rows/7"] = ROW
    said = invoke(root, "audit", "list", "--since", "2026-01-01", "--outcome", "refused").output
    assert "nobody" in said
    assert "x3" in said
    assert api.asked[-1][2] == {"limit": 50, "since": "2026-01-01T00:00:00Z", "outcome": "refused"}
    assert "3 times" in invoke(root, "audit", "show", "7").output


def test_verify_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/audit/check"] = AuditCheck(ok=True, rows=2, files=1, first="f", head="h")
    assert "audit log: OK, 2 rows in 1 files since f" in invoke(root, "audit", "verify").output
    bad = AuditCheck(ok=False, rows=2, files=1, good_until="g", file="a.jsonl", line=3, problem="changed", unproven=4)
    api.answers["GET", "/audit/check"] = bad
    done = invoke(root, "audit", "verify")
    assert done.exit_code == 1
    assert "a.jsonl line 3: changed" in done.output
    assert "not proven: 4" in done.output


def test_times() -> None:
    assert moment("") == ""
    assert moment("2026-01-01T01:00:00+01:00") == "2026-01-01T00:00:00Z"
    assert moment("2h").endswith("Z")
    with pytest.raises(UsageError):
        moment("soon")


def test_an_export_overwrites_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    path = tmp_path / "kept"
    path.write_text("mine")
    assert invoke(root, "audit", "export", "--output", str(path)).exit_code == 1
    assert path.read_text() == "mine"
