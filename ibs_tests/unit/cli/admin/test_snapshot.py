"""`ironcore-backup snapshot list`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.datastore import ArchiveView, SnapshotView
from ibs_tests.support.fakeapi import install, invoke

VIEW = SnapshotView(
    snapshot="host/a/2026-11-22T19:00:00Z",
    namespace="",
    group="host/a",
    time="2026-11-22T19:00:00Z",
    owner="a@ibs!t",
    plain_bytes=3 << 30,
    archives=[ArchiveView(name="etc.tree", kind="tree", plain_bytes=1, chunks=1, index_digest="00")],
    warnings=2,
    signed_by="server",
)


def test_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/datastores/main/snapshots"] = [VIEW]
    shown = invoke(root, "snapshot", "list", "main", "--group", "host/a", "--ns", "x/y").output
    for words in ("host/a/2026-11-22T19:00:00Z", "3.0 GiB", "etc.tree", "never", "a@ibs!t"):
        assert words in shown
    assert api.asked[0][2] == {"namespace": "x/y", "group": "host/a"}
