"""`ironcore-backup login HOST`: a malformed server is refused before anything is asked or saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs_tests.support.fakeapi import install, invoke


def test_a_malformed_server_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    done = invoke(root, "login", "not a host", "--auth-id", "a@ibs!t")
    assert done.exit_code == 2
    assert "write it like backup.example:8007" in done.output
    assert api.asked == []
