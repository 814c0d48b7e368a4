"""`verify|gc|prune schedule`: what is sent, and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.schedule import ScheduleSet, ScheduleView
from ibs_tests.support.fakeapi import install, invoke

ROW = ScheduleView(
    store="main", kind="verify", when="Sun 04:30", next="2026-11-29T04:30:00Z", by="a@ibs", io_limit=1 << 20
)


def test_verify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/schedules"] = ROW
    api.answers["GET", "/schedules/datastores"] = [ROW]
    api.answers["DELETE", "/datastores/main/schedules"] = None
    options = ("--ns", "a", "--io-limit", "1MiB/s", "--max-concurrent-snapshots", "2", "--notification-mode", "always")
    said = invoke(root, "verify", "schedule", "set", "main", "Sun 04:30", *options).output
    assert "verify of main: Sun 04:30, the next 2026-11-29T04:30:00Z" in said
    assert api.asked[-1][2] == ScheduleSet(
        kind="verify",
        when="Sun 04:30",
        namespace="a",
        verify_window_days=30,
        max_concurrent_snapshots=2,
        io_limit=1 << 20,
        notification_mode="always",
    )
    shown = invoke(root, "verify", "schedule", "list").output
    assert "Sun 04:30" in shown
    assert "--io-limit 1.0 MiB/s" in shown
    assert "has no schedule of its own" in invoke(root, "verify", "schedule", "unset", "main", "--ns", "a").output
    assert api.asked[-1][2] == {"kind": "verify", "namespace": "a"}


def test_the_nightly_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    row = ScheduleView(store="main", kind="gc", when="never", default=True)
    api.answers["POST", "/datastores/main/schedules"] = row
    api.answers["GET", "/schedules/datastores"] = [row]
    api.answers["DELETE", "/datastores/main/schedules"] = None
    assert "the next never" in invoke(root, "gc", "schedule", "set", "main", "never", "--io-limit", "1KiB/s").output
    assert api.asked[-1][2] == ScheduleSet(kind="gc", when="never", io_limit=1024)
    assert invoke(root, "prune", "schedule", "set", "main", "daily").exit_code == 0
    assert api.asked[-1][2] == ScheduleSet(kind="prune", when="daily")
    assert "default" in invoke(root, "gc", "schedule", "list", "main").output
    assert "nightly default" in invoke(root, "prune", "schedule", "unset", "main").output
    assert invoke(root, "gc", "schedule", "set", "main", "daily", "--namespace", "a").exit_code == 2
