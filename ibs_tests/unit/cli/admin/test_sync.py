"""`sync pull`: what is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.common import TaskStarted
from ibs.wire.sync import PullStart
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
