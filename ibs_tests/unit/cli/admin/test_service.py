"""`ironcore-backup service …`: a restart is told when it is over, and when it did not help."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ibs.cli.admin import root, service
from ibs.errors import ServerUnreachable
from ibs.wire.system import ServerStatus, ServiceView
from ibs_tests.support.control import sample
from ibs_tests.support.fakeapi import install, invoke


def gc(state: str = "active (running)", restarts: int = 0, error: str = "") -> ServiceView:
    return sample(ServiceView, unit="ironcore-backup-gc", role="gc", state=state, restarts=restarts, last_error=error)


def status(*services: ServiceView) -> ServerStatus:
    return sample(ServerStatus, services=list(services))


def test_a_restart_waits_until_the_role_runs_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "_LOOK_SECONDS", 0)
    api = install(monkeypatch, tmp_path)
    answers: list[Any] = [
        status(gc()),
        ServerUnreachable("the api restarts"),
        status(gc("activating (auto-restart)", 1)),
        status(gc("active (running)", 1)),
    ]
    api.answers["POST", "/services/gc/restart"] = gc()
    api.answers["GET", "/status"] = lambda: answers.pop(0)
    shown = invoke(root, "service", "restart", "ironcore-backup-gc.service")
    assert shown.exit_code == 0
    assert "ironcore-backup-gc was restarted; it is active (running)" in shown.output
    assert answers == []


def test_a_restart_that_does_not_help_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/services/gc/restart"] = gc("failed", 10, "OSError: gone")
    api.answers["GET", "/status"] = status(gc("failed", 11, "OSError: still gone"))
    shown = invoke(root, "service", "restart", "gc")
    assert shown.exit_code == 1
    assert "service gc does not run after its restart: it is failed: OSError: still gone" in shown.output


def test_the_list_is_that_of_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/status"] = status(gc())
    assert invoke(root, "service", "list").output == invoke(root, "status", "--services").output


def test_watching_becomes_the_light_mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, arguments: became.append(arguments))
    monkeypatch.setattr("ibs.cli.mirror.main", lambda _arguments: None)
    invoke(root, "service", "watch", "verifier", "--state-dir", str(tmp_path))
    assert became == [[sys.executable, "-I", "-m", "ibs.cli.mirror", "verifier", str(tmp_path), "text"]]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    invoke(root, "service", "watch", "verifier", "--state-dir", str(tmp_path))
    assert len(became) == 1
    invoke(root, "service", "watch", "verifier", "--state-dir", str(tmp_path), "--output", "json")
    missing = invoke(root, "service", "watch", "verifier", "--state-dir", str(tmp_path / "gone"))
    assert missing.exit_code == 5
    assert "there is no state folder" in missing.output
