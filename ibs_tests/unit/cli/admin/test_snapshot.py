"""`ironcore-backup snapshot list`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.datastore import ArchiveView, SnapshotView
from ibs_tests.support.fakeapi import install, invoke
from ibs_tests.unit.cli.admin.test_recyclebin import ENTRY

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


def test_show_notes_and_protection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/datastores/main/snapshot"] = VIEW
    api.answers["POST", "/datastores/main/snapshot"] = VIEW
    assert "Protected" in invoke(root, "snapshot", "show", "main", VIEW.snapshot).output
    assert "has its notes" in invoke(root, "snapshot", "notes", "main", VIEW.snapshot, "before").output
    assert "is protected" in invoke(root, "snapshot", "protect", "main", VIEW.snapshot).output
    assert "not protected any more" in invoke(root, "snapshot", "unprotect", "main", VIEW.snapshot).output
    assert [(asked[2].notes, asked[2].protected) for asked in api.asked[1:]] == [
        ("before", None),
        (None, True),
        (None, False),
    ]


def test_forget_says_until_when_and_how_to_undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = install(monkeypatch, tmp_path)
    api.answers["POST", "/datastores/main/snapshot/forget"] = ENTRY
    shown = invoke(root, "snapshot", "forget", "main", VIEW.snapshot, "--why", "test").output
    assert f"is in the bin until {ENTRY.due}" in shown
    assert "ironcore-backup bin undo main" in shown
    assert api.asked[0][2].why == "test"
