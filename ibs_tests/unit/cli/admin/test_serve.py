"""`ironcore-backup serve`: options reach the settings; a bad one is told before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ibs import app
from ibs.cli.admin import root
from ibs_tests.support.fakeapi import invoke


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def run(settings: Any) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(app, "run", run)
    done = invoke(root, "serve", "--state-dir", str(tmp_path), "--listen", "127.0.0.1:0")
    assert done.exit_code == 0
    assert (seen[0].state_dir, seen[0].listen_host, seen[0].listen_port) == (tmp_path, "127.0.0.1", 0)


def test_a_bad_address_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(app, "run", lambda _settings: pytest.fail("must not start"))
    done = invoke(root, "serve", "--state-dir", str(tmp_path), "--listen", "nowhere")
    assert done.exit_code == 2
    assert "HOST:PORT" in done.output
