"""`ironcore-backup job …`: options become the job's fields, changes leave the rest alone, a run follows its tasks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ibs.cli.admin import root
from ibs.wire.jobs import CalendarRow, JobCreate, JobSpec, JobStarted, JobUpdate, JobView
from ibs.wire.lifecycle import PolicyBody
from ibs_tests.support.fakeapi import install, invoke

SPEC = JobSpec(store="s1", sources=["etc.tree:/etc"], tags=["web"], schedule="daily", retention=PolicyBody(keep_last=3))
VIEW = JobView(
    name="nightly",
    spec=SPEC,
    enabled=True,
    comes_to=["web01", "web02"],
    next="2026-11-24T00:00:00Z",
    last_states={"web01": "OK", "web02": "FAILED"},
)


def test_options_become_fields(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/jobs"] = VIEW
    options = ["--store", "s1", "--path", "/etc", "--tag", "web", "--schedule", "daily", "--random-delay", "30m"]
    more = ["--window", "22:00-06:00", "--retries", "2", "--keep-last", "3", "--no-catch-up", "--disabled"]
    shown = invoke(root, "job", "create", "nightly", *options, *more)
    assert "web01, web02" in shown.output
    wanted = msgspec.structs.replace(SPEC, random_delay=1800, window=["22:00-06:00"], retries=2, catch_up=False)
    assert api.asked[0][2] == JobCreate(name="nightly", spec=wanted, enabled=False)


def test_changes_leave_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/jobs/nightly"] = VIEW
    api.answers["POST", "/jobs/nightly"] = VIEW
    assert invoke(root, "job", "update", "nightly", "--comment", "x", "--clear", "tags").exit_code == 0
    assert api.asked[-1][2] == JobUpdate(spec=msgspec.structs.replace(SPEC, comment="x", tags=[]))
    assert invoke(root, "job", "update", "nightly", "--clear", "store").exit_code == 2
    assert "is disabled" in invoke(root, "job", "disable", "nightly").output
    assert api.asked[-1][2] == JobUpdate(enabled=False)
    assert "its next run is 2026-11-24T00:00:00Z" in invoke(root, "job", "enable", "nightly").output


def test_list_show_run_calendar_remove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/jobs"] = [VIEW]
    api.answers["GET", "/jobs/nightly"] = VIEW
    api.answers["POST", "/jobs/nightly/run"] = JobStarted(upids=["UPID:1", "UPID:2"])
    row = CalendarRow(time="2026-11-24T00:00:00Z", job="nightly", host="web01", state="planned")
    api.answers["GET", "/calendar"] = [row]
    api.answers["DELETE", "/jobs/nightly"] = None
    assert "1 OK, 1 FAILED" in invoke(root, "job", "list").output
    assert "keep-last 3" in invoke(root, "job", "show", "nightly").output
    assert invoke(root, "job", "run", "nightly", "--detach").output.split() == ["UPID:1", "UPID:2"]
    assert "planned" in invoke(root, "job", "calendar").output
    assert "its snapshots stay" in invoke(root, "job", "remove", "nightly").output
