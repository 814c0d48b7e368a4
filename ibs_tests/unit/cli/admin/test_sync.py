"""`sync pull`: what is sent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ibs.cli.admin import root
from ibs.cli.admin.sync import _policy
from ibs.core import limits
from ibs.errors import UsageError
from ibs.wire.common import TaskStarted
from ibs.wire.sync import PullStart, SyncCreate, SyncJobView, SyncSpec, SyncStatus, SyncUpdate
from ibs_tests.support.fakeapi import install, invoke

UPID = "UPID:node:00000001:00000001:00000001:00000001:sync:x:a@ibs:"


def test_pull(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/pull"] = TaskStarted(upid=UPID)
    words = ("sync", "pull", "--remote", "b", "--source", "far", "--store", "main", "--detach")
    assert UPID in invoke(root, *words).output
    assert api.asked[-1][2] == PullStart(remote="b", source="far")
    invoke(root, *words, "--group", "host/*", "--backup-type", "vm", "--newest", "3", "--max-age", "1d", "--ns", "a/b")
    assert api.asked[-1][2] == PullStart(
        remote="b", source="far", namespace="a/b", groups=["host/*"], types=["vm"], newest=3, max_age_seconds=86400.0
    )
    assert invoke(root, "sync", "pull", "--remote", "b").exit_code == 2


SPEC = SyncSpec(remote="b", source="far", store="main")
VIEW = SyncJobView(name="nightly", spec=SPEC, enabled=True)


def test_jobs_are_made_and_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/sync-jobs"] = api.answers["POST", "/sync-jobs/nightly"] = VIEW
    made = ("sync", "create", "--name", "nightly", "--remote", "b", "--source", "far", "--store", "main")
    assert "b:far" in invoke(root, *made).output
    assert api.asked[-1][2] == SyncCreate(name="nightly", spec=SPEC)
    invoke(root, *made, "--disabled", "--bandwidth", "10MiB/s", "--remove-vanished", "--schedule", "daily")
    assert api.asked[-1][2] == SyncCreate(
        name="nightly",
        spec=msgspec.structs.replace(SPEC, bandwidth=10 << 20, remove_vanished=True, schedule="daily"),
        enabled=False,
    )
    full = msgspec.structs.replace(SPEC, newest=3, groups=["host/a*"], max_age_seconds=60.0, remove_vanished=True)
    api.answers["GET", "/sync-jobs/nightly"] = msgspec.structs.replace(VIEW, spec=full)
    change = ("sync", "update", "--name", "nightly")
    invoke(root, *change, "--schedule", "weekly", "--keep-vanished", "--clear", "newest", "--clear", "max-age")
    assert api.asked[-1][2] == SyncUpdate(spec=msgspec.structs.replace(SPEC, groups=["host/a*"], schedule="weekly"))
    invoke(root, *change, "--disable")
    assert api.asked[-1][2] == SyncUpdate(enabled=False)
    assert "cannot be cleared" in invoke(root, *change, "--clear", "store").output


def test_jobs_are_run_and_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/sync-jobs/nightly/run"] = TaskStarted(upid=UPID)
    api.answers["GET", "/sync-jobs/nightly/status"] = SyncStatus(
        name="nightly", state="running", rate=1 << 20, free_bytes_here=1 << 30, remote_trouble="it sleeps"
    )
    api.answers["GET", "/sync-jobs"] = [VIEW]
    api.answers["DELETE", "/sync-jobs/nightly"] = None
    assert UPID in invoke(root, "sync", "run", "--name", "nightly", "--detach").output
    told = invoke(root, "sync", "status", "--name", "nightly").output
    for words in ("running", "1.0 MiB/s", "1.0 GiB", "unknown: it sleeps"):
        assert words in told
    assert "nightly" in invoke(root, "sync", "list").output
    assert "removed" in invoke(root, "sync", "remove", "--name", "nightly").output


def test_rules_of_what_is_chosen() -> None:
    found = _policy(["weekly=4", "keep-monthly=*", "last=0"])
    assert (found.keep_weekly, found.keep_monthly, found.keep_last) == (4, limits.RETENTION_KEEP_MAX, 0)
    for wrong in (
        "weekly",
        "weekly=",
        "weekly=-1",
        "weekly=many",
        "fortnightly=2",
        "timezone=3",
        "=3",
        "weekly=99999999",
    ):
        with pytest.raises(UsageError):
            _policy([wrong])
